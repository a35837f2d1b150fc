# SPDX-License-Identifier: Apache-2.0
"""Aggregates stalls by kind: who waited, who held the errpipe, and why."""

from __future__ import annotations

import math
from array import array
from bisect import insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Optional

from agent.model import Cause
from agent.reports.types import StallObject

__all__ = ["Kind", "KindName", "Kinds", "nearest_rank", "stall_key", "time_in"]

_MAX_KINDS = 1000
_OTHER = "~other"


class KindName(NamedTuple):
    """comm: of the parent.  holder: comm of the first holder, None: not seen."""

    comm: str
    holder: Optional[str]
    cause: Cause


@dataclass
class Kind:
    """The stalls of one kind.  Durations are in seconds.

    last: when the latest of them ended or was seen in progress, None: unknown.
    latest, longest: the one that was reported last, and the one that lasted longest when it was reported.
    """

    name: KindName
    last: Optional[datetime] = None
    latest: Optional[StallObject] = None
    longest: Optional[StallObject] = None
    _seconds: array[float] = field(default_factory=lambda: array("d"))
    """In ascending order, because adding one is faster than sorting all."""
    _ended_total: float = 0.0
    _ongoing: dict[Any, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of stalls, ended or in progress."""
        return len(self._seconds) + len(self._ongoing)

    @property
    def ongoing(self) -> int:
        """Number of stalls in progress."""
        return len(self._ongoing)

    @property
    def total(self) -> float:
        """The time of all stalls, those in progress included."""
        return self._ended_total + sum(self._ongoing.values())

    def quantiles(self, *fractions: float) -> list[float]:
        """The nearest rank for each fraction; 1 is the longest."""
        ordered: Sequence[float] = self._seconds
        if self._ongoing:
            ordered = sorted([*self._seconds, *self._ongoing.values()])
        return [nearest_rank(ordered, fraction) for fraction in fractions]

    def _end(self, seconds: float) -> None:
        insort(self._seconds, seconds)
        self._ended_total += seconds

    def _show(self, stall: StallObject) -> None:
        self.latest = stall
        if self.longest is None or _seconds(stall) >= _seconds(self.longest):
            self.longest = stall

    def _forget(self, key: Any) -> None:
        """Show another stall in place of one that has ended, perhaps as another kind."""
        if self.latest is not None and stall_key(self.latest) == key:
            self.latest = None
        if self.longest is not None and stall_key(self.longest) == key:
            self.longest = self.latest


class Kinds:
    """Takes the objects of stalls in the order in which they were written.

    A stall that was reported in progress and again when it ended is one stall, of the kind that it has at
    its end.
    There are at most 1,000 kinds; further stalls count as ``~other``.
    """

    def __init__(self) -> None:
        self._kinds: dict[KindName, Kind] = {}
        self._ongoing: dict[Any, Kind] = {}

    def add(self, stall: StallObject) -> bool:
        """Add a stall; return whether it is the first of its kind."""
        key = stall_key(stall)
        name = _name(stall)
        is_new = name not in self._kinds
        if is_new and len(self._kinds) >= _MAX_KINDS:
            name = KindName(_OTHER, _OTHER, stall["holders"][0]["cause"])
            is_new = name not in self._kinds
        before = self._ongoing.pop(key, None)
        if before is not None:
            del before._ongoing[key]
            before._forget(key)
            if not before.count:
                del self._kinds[before.name]
        kind = self._kinds.setdefault(name, Kind(name))
        if stall["state"] == "ongoing":
            self._ongoing[key] = kind
            kind._ongoing[key] = _seconds(stall)
        else:
            kind._end(_seconds(stall))
        kind._show(stall)
        last = _last(stall)
        if last is not None:
            kind.last = last if kind.last is None else max(kind.last, last)
        return is_new

    @property
    def ongoing(self) -> Collection[Any]:
        """The keys (``stall_key``) of the stalls in progress."""
        return self._ongoing.keys()

    def lasts(self, key: Any, seconds: float, now: datetime) -> None:
        """Note how long a stall in progress has lasted by now; ignore one that was not added."""
        kind = self._ongoing.get(key)
        if kind is not None:
            kind._ongoing[key] = seconds
            kind.last = now if kind.last is None else max(kind.last, now)

    def end(self, key: Any) -> None:
        """Note that a stall in progress is over although its end was not reported."""
        kind = self._ongoing.pop(key)
        kind._end(kind._ongoing.pop(key))

    def worst_first(self) -> Sequence[Kind]:
        """The kinds by the time that they took."""
        return sorted(self._kinds.values(), key=lambda kind: kind.total, reverse=True)


def nearest_rank(ordered: Sequence[float], fraction: float) -> float:
    """The quantile of numbers in ascending order, of which there is at least one."""
    return ordered[math.ceil(fraction * len(ordered)) - 1]


def time_in(stall: StallObject, seconds: float) -> Optional[datetime]:
    """The time ``seconds`` after the creation of the errpipe; None if it is out of range."""
    try:
        return datetime.fromisoformat(stall["time"].replace("Z", "+00:00")) + timedelta(seconds=seconds)
    except OverflowError:  # a saved report can contain any time
        return None


def stall_key(stall: StallObject) -> Any:
    """Identify a stall within a report: the same while it is in progress and when it has ended."""
    parent = stall["parent"]
    # A stall from a snapshot can lack an id, but a thread is in one read at a time.
    return (stall["id"] or stall["errpipe"]["read_fd"], parent["pid"], parent["tid"])


def _seconds(stall: StallObject) -> float:
    return stall["stall_seconds"] or 0.0


def _name(stall: StallObject) -> KindName:
    holder = stall["holders"][0]
    return KindName(stall["parent"]["comm"], holder["comm"], Cause(holder["cause"]))


def _last(stall: StallObject) -> Optional[datetime]:
    if stall["began_seconds"] is None or stall["stall_seconds"] is None:
        return None
    return time_in(stall, stall["began_seconds"] + stall["stall_seconds"])
