# SPDX-License-Identifier: Apache-2.0
"""What user space knows of a spawn in flight, kept until the spawn is judged."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Optional

from agent.host import pyspy
from agent.host.identity import identify
from agent.model import Holder, Identity, Stack

__all__ = ["REMEMBERED_SPAWNS", "Fork", "Known", "KnownSpawns"]

REMEMBERED_SPAWNS = 4096


@dataclass(frozen=True)
class Fork:
    """The stack of a holder's fork; missing says why it is absent or incomplete."""

    stack: Optional[Stack] = None
    missing: Optional[str] = None


@dataclass
class Known:
    """What is known of one spawn.

    holding: holders that the latest search found; searched: whether there was a search.
    seen: by pid, when a search last found the process's copy (CLOCK_MONOTONIC ns).
    empty_looks: consecutive looks that found no holder.
    polled: whether its parent was seen waiting in poll, select or epoll before it read.
    reported: whether the stall was reported while in progress.
    forks: by the holder's pid and the time of its fork.
    python, asked: the request to py-spy, and when it was made.
    """

    holding: tuple[Holder, ...] = ()
    searched: bool = False
    seen: dict[int, int] = field(default_factory=dict)
    empty_looks: int = 0
    polled: bool = False
    identities: dict[int, Optional[Identity]] = field(default_factory=dict)
    reported: bool = False
    forks: dict[tuple[int, int], Fork] = field(default_factory=dict)
    python: Optional[Future[pyspy.Taken]] = None
    asked: int = 0

    def who(self, pid: int, seen: int) -> Optional[Identity]:
        """The identity of a process seen at that time, remembered or looked up now; None if it is gone."""
        if self.identities.get(pid) is None:
            self.identities[pid] = identify(pid, seen)
        return self.identities[pid]


class KnownSpawns:
    """A bounded map of spawn id to Known that drops the oldest entries."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Known] = OrderedDict()

    def get(self, spawn_id: int) -> Optional[Known]:
        """The entry of a spawn, or None."""
        return self._known.get(spawn_id)

    def pop(self, spawn_id: int) -> Known:
        """Remove and return the entry of a spawn; an empty one if there is none."""
        return self._known.pop(spawn_id, None) or Known()

    def of(self, spawn_id: int) -> Known:
        """The entry of a spawn, which is created if there is none."""
        known = self._known.get(spawn_id)
        if known is None:
            known = self._known[spawn_id] = Known()
            while len(self._known) > REMEMBERED_SPAWNS:
                self._known.popitem(last=False)
        return known
