# SPDX-License-Identifier: Apache-2.0
"""Aggregates the objects of a report: each stall once, the longest ones, the summary.

A run can last for weeks and its report exceed the memory, so only the longest stalls and spawns are kept; the
others are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Generic, Optional, TypeVar

from agent.reports.kinds import Kinds, stall_key
from agent.reports.types import ReportObject, RunObject, SpawnObject, StallObject, SummaryObject, WaitObject

__all__ = ["Collection"]

_LIMIT = 10_000
_T = TypeVar("_T")


class Collection:
    """Takes the objects of a report in the order in which they were written.

    A stall or wait that was reported in progress and again when it ended is one.
    """

    def __init__(self, objects: Iterable[ReportObject] = (), limit: int = _LIMIT) -> None:
        self.run: Optional[RunObject] = None
        self.summary: Optional[SummaryObject] = None
        self.summaries = 0
        self.kinds = Kinds()
        """Of all stalls, also of those that are not kept."""
        self._stalls = _Longest(_stall_seconds, limit)
        self._spawns = _Longest(_spawn_seconds, limit)
        self._waits: dict[str, WaitObject] = {}
        self.waits_left_out = 0
        self._limit = limit
        self._ongoing: dict[tuple[Any, ...], int] = {}
        self._number = 0
        for each in objects:
            self.add(each)

    def add(self, report: ReportObject) -> None:
        """Add one object; a file can contain several runs, and the last one has no summary yet."""
        self._number += 1
        if report["type"] == "run":
            self.run, self.summary = report, None
        elif report["type"] == "summary":
            self.summary = report
            self.summaries += 1
            self.kinds.last_until_end(report)
        elif report["type"] == "spawn":
            self._spawns.put(self._number, report)
        elif report["type"] == "exposure":
            pass  # the summary has their numbers
        elif report["type"] == "wait":
            id_ = report.get("id") or f"number {self._number}"
            if id_ in self._waits or len(self._waits) < self._limit:
                self._waits[id_] = report
            elif report.get("state") != "ended":
                self.waits_left_out += 1
        else:
            self._add_stall(report)

    @property
    def stalls(self) -> list[StallObject]:
        """The stalls kept, in the order in which they were first reported."""
        return self._stalls.kept()

    @property
    def spawns(self) -> list[SpawnObject]:
        """The spawns kept (``--all``), in the order in which they were reported."""
        return self._spawns.kept()

    @property
    def waits(self) -> list[WaitObject]:
        """The waits that are not stalls, in the order in which they were first reported."""
        return list(self._waits.values())

    @property
    def stalls_left_out(self) -> int:
        """Number of shorter stalls that were not kept."""
        return self._stalls.left_out

    @property
    def spawns_left_out(self) -> int:
        """Number of shorter spawns that were not kept."""
        return self._spawns.left_out

    def _add_stall(self, stall: StallObject) -> None:
        key = stall_key(stall)
        number = self._ongoing.pop(key, self._number)
        if stall["state"] == "ongoing":
            self._ongoing[key] = number
        self._stalls.put(number, stall)
        self.kinds.add(stall)


def _stall_seconds(stall: StallObject) -> Optional[float]:
    return stall["stall_seconds"]


def _spawn_seconds(spawn: SpawnObject) -> Optional[float]:
    return spawn["spawn_seconds"]


class _Longest(Generic[_T]):
    """The longest objects, by number; an object without a length counts as the longest."""

    def __init__(self, seconds: Callable[[_T], Optional[float]], limit: int) -> None:
        self.left_out = 0
        self._seconds = seconds
        self._limit = limit
        self._kept: dict[int, _T] = {}
        self._last = 0

    def put(self, number: int, item: _T) -> None:
        """Add an object, or replace the one with this number."""
        if number <= self._last and number not in self._kept:
            self.left_out -= 1  # it was left out while in progress
        self._last = max(self._last, number)
        self._kept[number] = item
        if len(self._kept) >= 2 * self._limit:
            self._cut()

    def kept(self) -> list[_T]:
        """Return the objects in the order of their numbers."""
        self._cut()
        return [self._kept[number] for number in sorted(self._kept)]

    def _cut(self) -> None:
        longest = sorted(self._kept.items(), key=self._length, reverse=True)
        self.left_out += len(longest[self._limit :])
        self._kept = dict(longest[: self._limit])

    def _length(self, item: tuple[int, _T]) -> float:
        seconds = self._seconds(item[1])
        return math.inf if seconds is None else seconds
