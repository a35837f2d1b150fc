# SPDX-License-Identifier: Apache-2.0
"""Find own children that have not called exec for long.

The kernel side has the candidates at no cost: spawns whose own child has not let go.  A worker that is
forked with a result pipe looks the same there, so ``/proc`` has to confirm that the parent waits for an exec.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Optional

from agent import snapshot
from agent.host import procfs
from agent.model import Spawn, StuckExec
from agent.tracing.background import Background, Budget

__all__ = ["KINDS", "LATE_NS", "StuckExecs", "end_of", "what_became_of"]

KINDS = frozenset({"own_child", "vfork"})
"""The waits for an exec."""
LATE_NS = 1_000_000_000
"""The age of an own child from which its exec is late."""
_SEARCH_SHARE = 50
"""Looks take at most this fraction (1/N) of a core."""
_BUDGET_NS = 5_000_000_000
_PROCESSES = 64
"""Parents that one look serves."""
_FIRST_NS = 1_000_000_000
_AGAIN_NS = 30_000_000_000
"""When a candidate that was not confirmed is looked at again: its child can get stuck later."""


@dataclass
class _Candidate:
    """wait: of the last look, None: not confirmed.  reported: the first that was confirmed.

    ended: its end, as ``/proc`` shows it; None: it is still in flight.
    """

    spawn: Spawn
    next_look: int
    wait: Optional[snapshot.Wait] = None
    reported: Optional[snapshot.Wait] = None
    ended: Optional[StuckExec] = None


@dataclass(frozen=True)
class _Looked:
    """What a look at these processes found; None: it ran out of time."""

    pids: frozenset[int]
    waits: Optional[Collection[snapshot.Wait]]


class StuckExecs:
    """Confirms candidates: ``look`` is called repeatedly, and never waits for a look at ``/proc``.

    find(pids, budget) returns the waits of the processes' threads.
    """

    def __init__(
        self,
        find: Callable[[Collection[int], Budget], Collection[snapshot.Wait]] = (
            lambda pids, budget: snapshot.survey(pids, budget)[1]
        ),
    ) -> None:
        self._find = find
        self._background: Background[_Looked] = Background("stuckexecs", _BUDGET_NS)
        self._candidates: dict[int, _Candidate] = {}

    @property
    def cut(self) -> int:
        """The number of looks that left something out."""
        return self._background.cut

    def close(self) -> None:
        """End a look that is running."""
        self._background.close()

    def end(self, spawn: Spawn, now: int) -> Optional[StuckExec]:
        """Return the end of one that was reported, from the record of the spawn; None for any other spawn."""
        one = self._candidates.pop(spawn.id, None)
        if one is None or one.reported is None:
            return None
        how = {
            "exec": "has called exec",
            "exit": "was killed before its exec" if spawn.child_killed else "has exited before its exec",
        }.get(spawn.own_released_by or "", "has closed its copy")
        name = _name(one.reported.child_comm, spawn.child)
        released = spawn.own_released or now
        if spawn.own_released_by == "exit" and (spawn.read_ended or 0) - released > LATE_NS:
            how += ", and has closed its files"
            released = spawn.read_ended or now
        return _ended(one.reported, spawn, f"its child {name} {how}", now - released)

    def look(
        self, now: int, spawns: Collection[Spawn]
    ) -> tuple[list[StuckExec], list[StuckExec], list[StuckExec]]:
        """Return those that are confirmed, those of them that are new, and those that have ended.

        A record of its end may still come (``end``), so an end that only ``/proc`` shows is returned by the
        next look.
        spawns: whose own child has not let go, and was forked a second ago or earlier.
        """
        alive = {spawn.id for spawn in spawns}
        gone = [one for id_, one in self._candidates.items() if id_ not in alive and one.reported is not None]
        ended = [one.ended for one in gone if one.ended is not None]
        leaving = {one.spawn.id: one for one in gone if one.ended is None}
        for one in leaving.values():
            one.wait, one.ended = None, _seen_ended(one)
        self._candidates = {
            **{id_: one for id_, one in self._candidates.items() if id_ in alive},
            **leaving,
        }
        for spawn in spawns:
            self._candidates.setdefault(spawn.id, _Candidate(spawn, now))
        looked = self._background.take()
        if looked is not None:
            self._merge(looked, now)
        if self._background.is_free(now, _SEARCH_SHARE):
            due = sorted(
                (one for one in self._candidates.values() if now >= one.next_look and one.ended is None),
                key=lambda one: one.next_look,
            )
            pids = frozenset([*dict.fromkeys(one.spawn.pid for one in due)][:_PROCESSES])
            if pids:
                self._background.begin(now, lambda budget: self._look_at(pids, budget))
        confirmed = [one for one in self._candidates.values() if one.wait is not None]
        fresh = [one for one in confirmed if one.reported is None]
        for one in fresh:
            one.reported = one.wait
        return _stuck(confirmed), _stuck(fresh), ended

    def _look_at(self, pids: frozenset[int], budget: Budget) -> _Looked:
        try:
            return _Looked(pids, self._find(pids, budget))
        except TimeoutError:
            return _Looked(pids, None)

    def _merge(self, looked: _Looked, now: int) -> None:
        waits = {(wait.pid, wait.child): wait for wait in looked.waits or () if wait.kind in KINDS}
        for one in self._candidates.values():
            if one.spawn.pid not in looked.pids:
                continue
            wait = waits.get((one.spawn.pid, one.spawn.child))
            if looked.waits is not None:
                one.wait = wait
            one.next_look = now + (_AGAIN_NS if wait is None else _FIRST_NS)


def _stuck(candidates: Collection[_Candidate]) -> list[StuckExec]:
    return [StuckExec(one.spawn, one.wait.to_object()) for one in candidates if one.wait is not None]


def _seen_ended(one: _Candidate) -> Optional[StuckExec]:
    return None if one.reported is None else end_of(one.reported, one.spawn)


def end_of(wait: snapshot.Wait, spawn: Spawn) -> StuckExec:
    """The end, now, of a wait for an exec, as ``/proc`` shows it."""
    how = what_became_of(spawn.child, wait.child_comm)
    return _ended(wait, spawn, how or "the thread no longer waits for its child", 0)


def _ended(wait: snapshot.Wait, spawn: Spawn, how: str, ago: int) -> StuckExec:
    return StuckExec(spawn, wait._replace(ended=time.time() - ago / 1e9, ending=how).to_object())


def what_became_of(child: int, comm: bytes) -> Optional[str]:
    """What a child did that had not called exec: a clause; None: it still has not.

    A zombie still shows whether it did.
    """
    is_before, name = procfs.has_not_execed(child), f"its child {_name(comm, child)}"
    if procfs.has_exited(child):
        return f"{name} has exited without calling exec" if is_before else f"{name} has exited"
    return None if is_before else f"{name} has called exec"


def _name(comm: bytes, pid: int) -> str:
    return f"{snapshot.printable(comm)} (pid {pid})" if comm else f"pid {pid}"
