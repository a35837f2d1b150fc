# SPDX-License-Identifier: Apache-2.0
"""What user space knows of a spawn in flight, kept until the spawn is judged."""

from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Optional

from agent.host import pyspy
from agent.host.identity import identify
from agent.model import Holder, Identity, Spawn, Stack, Stall

__all__ = ["Fork", "Known", "KnownSpawns"]

_REMEMBERED_PROCESSES = 1024


@dataclass(frozen=True)
class Fork:
    """The stack of a holder's fork; missing says why it is absent or incomplete."""

    stack: Optional[Stack] = None
    missing: Optional[str] = None


@dataclass
class Known:
    """What is known of one spawn.

    holding: holders that the latest search found; searched: when it began (CLOCK_MONOTONIC ns).
    seen: by pid, when a search last found the process's copy.
    empty_searches: consecutive searches that found no holder.
    checked: when the waiting thread was last looked at in ``/proc``, with these results: polled: whether it
    was ever seen waiting in poll, select or epoll before it read; blocked: whether it was blocked on its
    socket; runs: whether it was not stopped.
    shown: the stall in progress, as made from this spawn and these holders.
    thread: comm of the waiting thread.
    reported: whether the stall was reported while in progress.
    forks: by the holder's pid and the time of its fork.
    python, asked: the request to py-spy, and when it was made.
    """

    holding: tuple[Holder, ...] = ()
    searched: Optional[int] = None
    seen: dict[int, int] = field(default_factory=dict)
    empty_searches: int = 0
    checked: int = 0
    polled: bool = False
    blocked: bool = False
    runs: bool = False
    shown: Optional[tuple[Spawn, tuple[Holder, ...], Stall]] = None
    identities: dict[int, Optional[Identity]] = field(default_factory=dict)
    thread: Optional[bytes] = None
    reported: bool = False
    forks: dict[tuple[int, int], Fork] = field(default_factory=dict)
    python: Optional[Future[pyspy.Taken]] = None
    asked: int = 0


class KnownSpawns:
    """A bounded map of spawn id to Known that drops the entries that were not used for the longest time."""

    def __init__(self, limit: int) -> None:
        """limit: entries; more than spawns can be in flight."""
        self._limit = limit
        self._known: OrderedDict[int, Known] = OrderedDict()
        self._identities = _Identities()

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
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(spawn_id)
        return known

    def who(self, known: Known, pid: int, seen: int) -> Optional[Identity]:
        """The identity of a process seen at that time, remembered or looked up now; None if it is gone.

        known: of the spawn that it is about.
        """
        if known.identities.get(pid) is None:
            known.identities[pid] = self._identities.of(pid, seen)
        return known.identities[pid]


class _Identities:
    """Identities of processes, each looked up once for the many stalls that one process can have."""

    def __init__(self) -> None:
        self._found: OrderedDict[int, tuple[int, int, Optional[Identity]]] = OrderedDict()

    def of(self, pid: int, seen: int) -> Optional[Identity]:
        """As ``identify``: of the process that had the pid at that time."""
        kept = self._found.get(pid)
        if kept is not None:
            since, until, identity = kept
            if since <= seen <= until:
                return identity  # the pid was this process's at both times, and so in between
        now = time.monotonic_ns()
        identity = identify(pid, seen)
        # If the process that had the pid is gone, so are those that had it before.
        self._found[pid] = (0, seen, None) if identity is None else (seen, now, identity)
        self._found.move_to_end(pid)
        while len(self._found) > _REMEMBERED_PROCESSES:
            self._found.popitem(last=False)
        return identity
