# SPDX-License-Identifier: Apache-2.0
"""Searches beside the polling of records: one at a time, within a time budget and a share of the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Optional, TypeVar

from agent import snapshot

__all__ = ["Background", "Budget"]

_T = TypeVar("_T")
_CLOSE_SECONDS = 1.0


class Budget(snapshot.Effort):
    """The CPU time of a search, which asks often whether it is spent.  A busy host does not shorten it.

    cut: whether the search left anything out, for lack of time or because there is too much of it.
    """

    max_fds = 1 << 16

    def __init__(self, nanoseconds: int) -> None:
        """To be made in the thread of the search."""
        self.cut = False
        self._left = nanoseconds
        self._began = time.thread_time_ns()

    @property
    def used(self) -> int:
        """The CPU time of the search so far (ns)."""
        return time.thread_time_ns() - self._began

    def is_spent(self) -> bool:
        """Whether the time is over; the search then has to end and leave out the rest."""
        if self.used < self._left:
            return False
        self.cut = True
        return True

    def step(self) -> None:
        """Raise TimeoutError if the time is over."""
        if self.is_spent():
            raise TimeoutError

    def leave_out(self) -> None:
        """Note that the search leaves something out."""
        self.cut = True

    def end(self) -> None:
        """Have the search end at its next step."""
        self._left = 0


class _Search(Generic[_T]):
    """A search in its thread; its results can be read when it is done."""

    def __init__(self, search: Callable[[Budget], _T], budget_ns: int) -> None:
        self.done = threading.Event()
        self.value: Optional[_T] = None
        self.error: Optional[Exception] = None
        self.used = 0
        self.cut = True
        self.budget: Optional[Budget] = None
        self._search = search
        self._budget_ns = budget_ns

    def run(self) -> None:
        budget = self.budget = Budget(self._budget_ns)
        try:
            self.value = self._search(budget)
        except TimeoutError:
            budget.cut = True
        except Exception as error:
            self.error = error
        self.used, self.cut = budget.used, budget.cut
        self.done.set()


class Background(Generic[_T]):
    """Runs one search at a time in a thread of its own.

    The thread is a daemon: a search that hangs, as a read of ``/proc`` can beside a dead file system, delays
    neither the polling nor the end of the program.
    used: the CPU time of the last search (ns).  cut: the number of searches that left something out.
    """

    def __init__(self, name: str, budget_ns: int) -> None:
        """name: of the threads; budget_ns: the CPU time of each search."""
        self._name = name
        self._budget_ns = budget_ns
        self._running: Optional[_Search[_T]] = None
        self._began = 0
        self.used = 0
        self.cut = 0

    def is_free(self, now: int, share: int) -> bool:
        """Whether another search may begin, if searches may take 1/share of a core."""
        return self._running is None and now >= self._began + share * self.used

    def begin(self, now: int, search: Callable[[Budget], _T]) -> None:
        """Begin a search; none may be running."""
        assert self._running is None
        running = _Search(search, self._budget_ns)
        try:
            threading.Thread(target=running.run, name=self._name, daemon=True).start()
        except RuntimeError:  # there can be no more threads: as if its time were over at once
            running.done.set()
        self._running, self._began = running, now

    def take(self, patience_ns: int = 0) -> Optional[_T]:
        """Return what a search has found, once; None: nothing, or it has not ended within patience_ns."""
        running = self._running
        if running is None or not running.done.wait(patience_ns / 1e9):
            return None
        self._running, self.used = None, running.used
        if running.error is not None:
            raise running.error
        self.cut += running.cut
        return running.value

    @property
    def is_running(self) -> bool:
        """Whether a search has begun whose result has not been taken."""
        return self._running is not None

    def close(self) -> None:
        """End a search that is running at its next step, and wait a moment for it."""
        running = self._running
        if running is not None:
            if running.budget is not None:
                running.budget.end()
            running.done.wait(_CLOSE_SECONDS)
