"""What the objects of a report come to: each stall once, the summary, and a bound for both.

A run can last for weeks, and a report of it be larger than memory: the longest stalls and spawns are kept,
and what is left out is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Generic, Optional, TypeVar

from agent.reports.types import ReportObject, SpawnObject, StallObject, SummaryObject

__all__ = ["Collection"]

_LIMIT = 10_000
_T = TypeVar("_T")


class Collection:
    """Takes the objects of a report in the order in which they were written.

    A stall that was told while it was going on and again when it had ended is one stall.
    """

    def __init__(self, objects: Iterable[ReportObject] = (), limit: int = _LIMIT) -> None:
        self.summary: Optional[SummaryObject] = None
        self.summaries = 0
        self._stalls = _Longest(_stall_seconds, limit)
        self._spawns = _Longest(_spawn_seconds, limit)
        self._going_on: dict[tuple[Any, ...], int] = {}
        self._number = 0
        for each in objects:
            self.add(each)

    def add(self, told: ReportObject) -> None:
        """A stall, spawn or summary."""
        self._number += 1
        if told["type"] == "summary":
            self.summary = told
            self.summaries += 1
        elif told["type"] == "spawn":
            self._spawns.put(self._number, told)
        else:
            self._add_stall(told)

    @property
    def stalls(self) -> list[StallObject]:
        """In the order in which they were first told."""
        return self._stalls.kept()

    @property
    def spawns(self) -> list[SpawnObject]:
        """Those that were told (``--all``), in that order."""
        return self._spawns.kept()

    @property
    def stalls_left_out(self) -> int:
        """How many shorter ones there were."""
        return self._stalls.left_out

    @property
    def spawns_left_out(self) -> int:
        """How many shorter ones there were."""
        return self._spawns.left_out

    def _add_stall(self, stall: StallObject) -> None:
        parent = stall["parent"]
        # A snapshot's stall has no id: a thread is in one read at a time.
        key = (stall["id"] or stall["errpipe"]["read_fd"], parent["pid"], parent["tid"])
        number = self._going_on.pop(key, self._number)
        if stall["state"] == "ongoing":
            self._going_on[key] = number
        self._stalls.put(number, stall)


def _stall_seconds(stall: StallObject) -> Optional[float]:
    return stall["stall_seconds"]


def _spawn_seconds(spawn: SpawnObject) -> Optional[float]:
    return spawn["spawn_seconds"]


class _Longest(Generic[_T]):
    """The longest objects by number; what has no length yet is longer than all that has."""

    def __init__(self, seconds: Callable[[_T], Optional[float]], limit: int) -> None:
        self.left_out = 0
        self._seconds = seconds
        self._limit = limit
        self._kept: dict[int, _T] = {}
        self._last = 0

    def put(self, number: int, told: _T) -> None:
        """Adds an object; a number that was there before is replaced."""
        if number <= self._last and number not in self._kept:
            self.left_out -= 1  # it was, while it was going on
        self._last = max(self._last, number)
        self._kept[number] = told
        if len(self._kept) >= 2 * self._limit:
            self._cut()

    def kept(self) -> list[_T]:
        """In the order of their numbers."""
        self._cut()
        return [self._kept[number] for number in sorted(self._kept)]

    def _cut(self) -> None:
        longest = sorted(self._kept.items(), key=self._length, reverse=True)
        self.left_out += len(longest[self._limit :])
        self._kept = dict(longest[: self._limit])

    def _length(self, item: tuple[int, _T]) -> float:
        seconds = self._seconds(item[1])
        return math.inf if seconds is None else seconds
