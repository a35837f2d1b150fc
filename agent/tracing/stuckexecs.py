# SPDX-License-Identifier: Apache-2.0
"""Find own children that have not called exec for long.

The kernel side has the candidates at no cost: spawns whose own child has not let go.  A worker that is
forked with a result pipe looks the same there, so ``/proc`` has to confirm that the parent waits for an exec.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional

from agent import snapshot
from agent.model import Spawn, StuckExec

__all__ = ["StuckExecs"]

_KINDS = frozenset({"own_child", "vfork"})
_SEARCH_SHARE = 50
"""Looks take at most this fraction (1/N) of a core."""
_FIRST_NS = 1_000_000_000
_AGAIN_NS = 30_000_000_000
"""When a candidate that was not confirmed is looked at again: its child can get stuck later."""


@dataclass
class _Candidate:
    spawn: Spawn
    next_look: int
    stuck: Optional[StuckExec] = None
    reported: bool = False


@dataclass(frozen=True)
class _Looked:
    """What a look at a process found."""

    pid: int
    waits: Collection[snapshot.Wait]
    took_ns: int


class StuckExecs:
    """Confirms candidates: ``look`` is called repeatedly, and never waits for a look at ``/proc``.

    find(pid) returns the waits of a process's threads.
    """

    def __init__(
        self, find: Callable[[int], Collection[snapshot.Wait]] = lambda pid: snapshot.look(pid).waits
    ) -> None:
        self._find = find
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stuckexecs")
        self._running: Optional[Future[_Looked]] = None
        self._next_look = 0
        self._candidates: dict[int, _Candidate] = {}

    def close(self) -> None:
        """Wait for a look that is running."""
        self._thread.shutdown()

    def look(self, now: int, spawns: Collection[Spawn]) -> tuple[list[StuckExec], list[StuckExec]]:
        """Return those that are confirmed, and those of them that are new.

        spawns: whose own child has not let go, and was forked a second ago or earlier.
        """
        alive = {spawn.id for spawn in spawns}
        self._candidates = {id_: one for id_, one in self._candidates.items() if id_ in alive}
        for spawn in spawns:
            self._candidates.setdefault(spawn.id, _Candidate(spawn, now))
        if self._running is not None and self._running.done():
            looked = self._running.result()
            self._running = None
            self._next_look = now + _SEARCH_SHARE * looked.took_ns
            self._merge(looked, now)
        if self._running is None and now >= self._next_look:
            due = [one for one in self._candidates.values() if now >= one.next_look]
            if due:
                pid = min(due, key=lambda one: one.next_look).spawn.pid
                self._running = self._thread.submit(self._look_at, pid)
        confirmed = [one for one in self._candidates.values() if one.stuck is not None]
        fresh = [one for one in confirmed if not one.reported]
        for one in fresh:
            one.reported = True
        return _stuck(confirmed), _stuck(fresh)

    def _look_at(self, pid: int) -> _Looked:
        began = time.monotonic_ns()
        waits = self._find(pid)
        return _Looked(pid, waits, time.monotonic_ns() - began)

    def _merge(self, looked: _Looked, now: int) -> None:
        by_child = {wait.child: wait for wait in looked.waits if wait.kind in _KINDS}
        for one in self._candidates.values():
            if one.spawn.pid != looked.pid:
                continue
            wait = by_child.get(one.spawn.child)
            one.stuck = None if wait is None else StuckExec(one.spawn, wait.to_object())
            one.next_look = now + (_AGAIN_NS if wait is None else _FIRST_NS)


def _stuck(candidates: Collection[_Candidate]) -> list[StuckExec]:
    return [one.stuck for one in candidates if one.stuck is not None]
