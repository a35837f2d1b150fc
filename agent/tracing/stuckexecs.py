# SPDX-License-Identifier: Apache-2.0
"""Find own children that have not called exec for long.

The kernel side has the candidates at no cost: spawns whose own child has not let go.  A worker that is
forked with a result pipe looks the same there, so ``/proc`` has to confirm that the parent waits for an exec.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Optional

from agent import snapshot
from agent.model import Spawn, StuckExec
from agent.tracing.background import Background, Budget

__all__ = ["KINDS", "LATE_NS", "StuckExecs"]

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
    spawn: Spawn
    next_look: int
    stuck: Optional[StuckExec] = None
    reported: bool = False


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

    def look(self, now: int, spawns: Collection[Spawn]) -> tuple[list[StuckExec], list[StuckExec]]:
        """Return those that are confirmed, and those of them that are new.

        spawns: whose own child has not let go, and was forked a second ago or earlier.
        """
        alive = {spawn.id for spawn in spawns}
        self._candidates = {id_: one for id_, one in self._candidates.items() if id_ in alive}
        for spawn in spawns:
            self._candidates.setdefault(spawn.id, _Candidate(spawn, now))
        looked = self._background.take()
        if looked is not None:
            self._merge(looked, now)
        if self._background.is_free(now, _SEARCH_SHARE):
            due = sorted(
                (one for one in self._candidates.values() if now >= one.next_look),
                key=lambda one: one.next_look,
            )
            pids = frozenset([*dict.fromkeys(one.spawn.pid for one in due)][:_PROCESSES])
            if pids:
                self._background.begin(now, lambda budget: self._look_at(pids, budget))
        confirmed = [one for one in self._candidates.values() if one.stuck is not None]
        fresh = [one for one in confirmed if not one.reported]
        for one in fresh:
            one.reported = True
        return _stuck(confirmed), _stuck(fresh)

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
                one.stuck = None if wait is None else StuckExec(one.spawn, wait.to_object())
            one.next_look = now + (_AGAIN_NS if wait is None else _FIRST_NS)


def _stuck(candidates: Collection[_Candidate]) -> list[StuckExec]:
    return [one.stuck for one in candidates if one.stuck is not None]
