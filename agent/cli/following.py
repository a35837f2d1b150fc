# SPDX-License-Identifier: Apache-2.0
"""Follows the waits, and the stalls that no tracer knows, that the first look at ``/proc`` has found."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Optional, Union

from agent import snapshot
from agent.escape import printable
from agent.host import procfs
from agent.model import Stall
from agent.reports.objects import stall_id
from agent.tracing.stuckexecs import what_became_of

__all__ = ["Following", "ending"]

_Found = Union[snapshot.Finding, snapshot.Wait]
_INTERVAL_SECONDS = 1.0
_CHECKS = 200
"""Threads that one check looks at, those that were not looked at for the longest time first."""
_LAST_SECONDS = 0.02
"""Between the two looks at the end of a run."""
_MAX_NAMED = 3


@dataclass
class _Followed:
    """ended: the report of its end, from the check that did not find it; None: the last check found it."""

    found: _Found
    checked: float
    ended: Optional[_Found] = None


class Following:
    """Checks the threads again and again, and reports what has ended, with the same id.

    A thread that reads until the end of a pipe is elsewhere for a moment after each read, so a wait has ended
    only if two checks in a row do not find it.
    """

    def __init__(self, report: Callable[[_Found], None]) -> None:
        self._report = report
        self._followed: list[_Followed] = []
        self._next = 0.0

    def add(self, found: Iterable[_Found]) -> None:
        """Follow what a look has found."""
        now = time.monotonic()
        self._followed += [_Followed(one, now) for one in found]

    def poll(self, traced: Iterable[Stall] = ()) -> None:
        """Check the threads if that is due; traced: the stalls in progress that the tracer follows."""
        now = time.monotonic()
        if self._followed and now >= self._next:
            self._check(now, traced)
            self._next = now + _INTERVAL_SECONDS

    def finish(self, traced: Iterable[Stall] = ()) -> None:
        """Report what has ended since the last check."""
        if self._followed:
            self._check(time.monotonic(), traced, len(self._followed))
            time.sleep(_LAST_SECONDS)
            self._check(time.monotonic(), traced, len(self._followed))

    def _check(self, now: float, traced: Iterable[Stall], most: int = _CHECKS) -> None:
        known = {stall_id(stall) for stall in traced}
        self._followed = [one for one in self._followed if one.found.id not in known]
        for one in sorted(self._followed, key=lambda one: one.checked)[:most]:
            one.checked = now
            if snapshot.is_waiting(one.found):
                one.ended = None
            elif one.ended is None:
                one.ended = _ended(one.found)
            else:
                self._followed.remove(one)
                self._report(one.ended)


def _ended(found: _Found) -> _Found:
    now = time.time()
    if isinstance(found, snapshot.Wait):
        return found._replace(ended=now, ending=ending(found))
    return found._replace(state="ended", seconds=None if found.seconds is None else now - found.time)


def ending(wait: snapshot.Wait) -> str:
    """What has ended a wait, as far as ``/proc`` shows: a clause."""
    if wait.kind in ("own_child", "vfork"):
        what = None if wait.child is None else what_became_of(wait.child, wait.child_comm)
        whats = [] if what is None else [what]
    else:
        let_go = [(holder, _let_go(holder, wait.link)) for holder in wait.holders]
        whats = [f"{_name(holder.comm, holder.pid)} {what}" for holder, what in let_go if what is not None]
        if wait.link and len(whats) < len(wait.holders):
            whats = []  # the end of the pipe did not end it
    if procfs.has_exited(wait.pid):
        whats.append(f"{_name(wait.comm, wait.pid)} has exited")
    elif procfs.thread_has_exited(wait.pid, wait.tid):
        whats.append(f"thread {wait.tid} has exited")
    named = [*dict.fromkeys(whats)]
    more = len(named) - _MAX_NAMED
    if more > 0:
        named[_MAX_NAMED:] = [f"{more:,} more like that"]
    return " and ".join(named) or f"{_name(wait.comm, wait.pid)} no longer waits for it"


def _let_go(holder: snapshot.WaitHolder, link: str) -> Optional[str]:
    """What a process did to let go of its end of a file; None if it did not."""
    if procfs.has_exited(holder.pid):
        return "has exited"
    if not link or link.startswith("socket:"):
        return None  # there is nothing to compare, or both ends have different names
    for fd in holder.fds:
        with contextlib.suppress(OSError):
            if os.readlink(f"{procfs.PROC}/{holder.pid}/fd/{fd}") == link:  # noqa: PTH115
                return None
    return "has closed its copy"


def _name(comm: bytes, pid: int) -> str:
    return f"{printable(comm)} (pid {pid})" if comm else f"pid {pid}"
