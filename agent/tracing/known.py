"""What is learned of a spawn while it is in flight, kept until its end is judged."""

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
    """The stack of a holder's fork, and what is to be said of one that is not as it should be."""

    stack: Optional[Stack] = None
    missing: Optional[str] = None


@dataclass
class Known:
    """What was learned of one spawn before its end was judged.

    polled: its parent was seen to wait in poll, select or epoll before it read.
    holding: what the latest search found; searched: there was one; seen: when a search last found a process's
    copy, by pid; empty_looks: looks in a row that found nobody.
    """

    holding: tuple[Holder, ...] = ()
    searched: bool = False
    seen: dict[int, int] = field(default_factory=dict)
    empty_looks: int = 0
    polled: bool = False
    identities: dict[int, Optional[Identity]] = field(default_factory=dict)
    told: bool = False
    forks: dict[tuple[int, int], Fork] = field(default_factory=dict)
    python: Optional[Future[pyspy.Taken]] = None
    asked: int = 0

    def who(self, pid: int, seen: int) -> Optional[Identity]:
        """The identity of a process that was seen then: remembered, or looked up now."""
        if self.identities.get(pid) is None:
            self.identities[pid] = identify(pid, seen)
        return self.identities[pid]


class KnownSpawns:
    """What is known by spawn id; the oldest are forgotten when there are too many."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Known] = OrderedDict()

    def get(self, spawn_id: int) -> Optional[Known]:
        """What is known of a spawn, None: nothing."""
        return self._known.get(spawn_id)

    def pop(self, spawn_id: int) -> Known:
        """What is known of a spawn, and forgotten here."""
        return self._known.pop(spawn_id, None) or Known()

    def of(self, spawn_id: int) -> Known:
        """What is known of a spawn, to be added to."""
        known = self._known.get(spawn_id)
        if known is None:
            known = self._known[spawn_id] = Known()
            while len(self._known) > REMEMBERED_SPAWNS:
                self._known.popitem(last=False)
        return known
