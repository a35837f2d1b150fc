# SPDX-License-Identifier: Apache-2.0
"""Aggregates stalls by kind: who waited, who held the errpipe, and why."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, Optional

from agent.model import Cause
from agent.reports.overtime import OverTime, on_one_axis
from agent.reports.types import BucketObject, KindObject, KindsObject, StallObject, SummaryObject

__all__ = [
    "Kind",
    "KindName",
    "Kinds",
    "buckets",
    "histogram",
    "kind_name",
    "nearest_rank",
    "stall_key",
    "time_in",
]

_BOUNDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
    *(60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0),
)
"""Of the histogram, in seconds."""

_OTHER = "~other"


class KindName(NamedTuple):
    """comm: of the parent.  holder: comm of the first holder, None: not seen."""

    comm: str
    holder: Optional[str]
    cause: Cause


@dataclass
class Kind:
    """The stalls of one kind.  Durations are in seconds.

    latest, longest: the one that was reported last, and the one that lasted longest when it was reported.
    """

    name: KindName
    latest: Optional[StallObject] = None
    longest: Optional[StallObject] = None
    kept: Optional[int] = None
    """How many of the latest durations are kept for quantiles; None: all."""
    _last: Optional[float] = None
    """Seconds since the epoch."""
    _ended: int = 0
    _ended_total: float = 0.0
    _ended_longest: float = 0.0
    _seconds: array[float] = field(default_factory=lambda: array("d"))
    """In ascending order, because adding one is faster than sorting all."""
    _in_order: deque[float] = field(default_factory=deque)
    """The same in the order in which they were added, unless all are kept."""
    _times: OverTime = field(default_factory=OverTime)
    _ongoing: dict[Any, float] = field(default_factory=dict)
    _reports: dict[Any, StallObject] = field(default_factory=dict)
    """Of the stalls in progress."""

    @property
    def last(self) -> Optional[datetime]:
        """When the latest of them ended or was seen in progress, None: unknown."""
        return None if self._last is None else _time(self._last)

    @property
    def count(self) -> int:
        """Number of stalls, ended or in progress."""
        return self._ended + len(self._ongoing)

    @property
    def ongoing(self) -> int:
        """Number of stalls in progress."""
        return len(self._ongoing)

    @property
    def total(self) -> float:
        """The time of all stalls, those in progress included."""
        return self._ended_total + sum(self._ongoing.values())

    @property
    def longest_seconds(self) -> float:
        """The time of the longest one."""
        return max(self._ended_longest, *self._ongoing.values(), 0.0)

    def quantiles(self, *fractions: float) -> list[float]:
        """The nearest rank for each fraction; 1 is the longest."""
        ordered: Sequence[float] = self._seconds
        if self._ongoing:
            ordered = sorted([*self._seconds, *self._ongoing.values()])
        return [nearest_rank(ordered, fraction) for fraction in fractions]

    def over_time(self) -> OverTime:
        """When the stalls began, as far as that is known."""
        found = OverTime()
        found.join(self._times)
        for stall in self._reports.values():
            began = _began(stall)
            if began is not None:
                found.add(began)
        return found

    def _begin(self, key: Any, stall: StallObject) -> None:
        self._ongoing[key] = _seconds(stall)
        self._reports[key] = stall

    def _end(self, began: Optional[float], seconds: float) -> None:
        insort(self._seconds, seconds)
        if self.kept is not None:
            self._in_order.append(seconds)
            if len(self._in_order) > self.kept:
                del self._seconds[bisect_left(self._seconds, self._in_order.popleft())]
        self._ended += 1
        self._ended_total += seconds
        self._ended_longest = max(self._ended_longest, seconds)
        if began is not None:
            self._times.add(began)

    def _see(self, at: float) -> None:
        self._last = at if self._last is None else max(self._last, at)

    def _show(self, stall: StallObject) -> None:
        self.latest = stall
        if self.longest is None or _seconds(stall) >= _seconds(self.longest):
            self.longest = stall

    def _forget(self, key: Any) -> None:
        """Remove a stall in progress, which has perhaps ended as another kind, and show another one."""
        del self._ongoing[key], self._reports[key]
        if self.latest is not None and stall_key(self.latest) == key:
            self.latest = None
        if self.longest is not None and stall_key(self.longest) == key:
            self.longest = self.latest


class Kinds:
    """Takes the objects of stalls in the order in which they were written.

    A stall that was reported in progress and again when it ended is one stall, of the kind that it has at
    its end.
    There are at most ``limit`` kinds; further stalls count as ``~other``.
    kept: how many of the latest durations of a kind are kept for its quantiles; None: all.
    """

    def __init__(self, limit: int = 1000, kept: Optional[int] = None) -> None:
        self._limit = limit
        self._kept = kept
        self._kinds: dict[KindName, Kind] = {}
        self._ongoing: dict[Any, Kind] = {}
        self._histogram: Counter[int] = Counter()

    def add(self, stall: StallObject) -> bool:
        """Add a stall; return whether it is the first of its kind."""
        key, began = stall_key(stall), _began(stall)
        name = self._bounded(kind_name(stall))
        is_new = name not in self._kinds
        self._forget(key)
        kind = self._kind(name)
        if stall["state"] == "ongoing":
            self._ongoing[key] = kind
            kind._begin(key, stall)
        else:
            self._end(kind, began, _seconds(stall))
        kind._show(stall)
        if began is not None and stall["stall_seconds"] is not None:
            kind._see(began + stall["stall_seconds"])
        return is_new

    def count(self, name: KindName, began: float, seconds: float) -> None:
        """Count an ended stall without its object; began: seconds since the epoch."""
        kind = self._kind(self._bounded(name))
        self._end(kind, began, seconds)
        kind._see(began + seconds)

    def _bounded(self, name: KindName) -> KindName:
        if name in self._kinds or len(self._kinds) < self._limit:
            return name
        return KindName(_OTHER, _OTHER, name.cause)

    def _kind(self, name: KindName) -> Kind:
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = Kind(name, kept=self._kept)
        return kind

    def _end(self, kind: Kind, began: Optional[float], seconds: float) -> None:
        kind._end(began, seconds)
        self._histogram[bisect_left(_BOUNDS, seconds)] += 1

    @property
    def ongoing(self) -> Collection[Any]:
        """The keys (``stall_key``) of the stalls in progress."""
        return self._ongoing.keys()

    def lasts(self, key: Any, seconds: float, now: datetime) -> None:
        """Note how long a stall in progress has lasted by now; ignore one that was not added."""
        kind = self._ongoing.get(key)
        if kind is not None:
            kind._ongoing[key] = seconds
            kind._see(now.timestamp())

    def last_until_end(self, summary: SummaryObject) -> None:
        """Note that the stalls in progress lasted until the run ended, if it ended with as many of them."""
        until = None if "time" not in summary else _parsed(summary["time"])
        if until is None or len(self._ongoing) != summary["ongoing"]:
            return
        for key, kind in self._ongoing.items():
            began = _began(kind._reports[key])
            seconds = 0.0 if began is None else until.timestamp() - began
            if seconds > kind._ongoing[key]:
                self.lasts(key, seconds, until)

    def end(self, key: Any) -> None:
        """Note that a stall in progress is over although its end was not reported."""
        kind = self._ongoing.pop(key)
        self._end(kind, _began(kind._reports.pop(key)), kind._ongoing.pop(key))

    def set_ongoing(self, stalls: Iterable[StallObject]) -> None:
        """Replace the stalls in progress by these."""
        for key in [*self._ongoing]:
            self._forget(key)
        for stall in stalls:
            self.add(stall)

    def object(self) -> KindsObject:
        """The kinds, the costliest first, and the histogram of all stalls."""
        kinds = self.worst_first()
        counts = Counter(self._histogram)
        for kind in kinds:
            counts.update(bisect_left(_BOUNDS, seconds) for seconds in kind._ongoing.values())
        began, interval, over_time = on_one_axis([kind.over_time() for kind in kinds])
        return {
            "began": _rfc3339(_time(began)) if kinds else None,
            "interval_seconds": interval,
            "histogram": buckets(_BOUNDS, counts),
            "kinds": [_object(kind, numbers) for kind, numbers in zip(kinds, over_time)],
        }

    def _forget(self, key: Any) -> None:
        """Remove a stall in progress, and its kind if nothing else is of it."""
        kind = self._ongoing.pop(key, None)
        if kind is not None:
            kind._forget(key)
            if not kind.count:
                del self._kinds[kind.name]

    def worst_first(self) -> Sequence[Kind]:
        """The kinds by the time that they took."""
        return sorted(self._kinds.values(), key=lambda kind: kind.total, reverse=True)


def nearest_rank(ordered: Sequence[float], fraction: float) -> float:
    """The quantile of at least one number; the numbers are in ascending order."""
    return ordered[math.ceil(fraction * len(ordered)) - 1]


def time_in(stall: StallObject, seconds: float) -> Optional[datetime]:
    """The time ``seconds`` after the creation of the errpipe; None if it is out of range."""
    try:
        return _parsed(stall["time"]) + timedelta(seconds=seconds)
    except OverflowError:  # a saved report can contain any time
        return None


def _parsed(time: str) -> datetime:
    return datetime.fromisoformat(time.replace("Z", "+00:00"))


def _began(stall: StallObject) -> Optional[float]:
    began = None if stall["began_seconds"] is None else time_in(stall, stall["began_seconds"])
    return None if began is None else began.timestamp()


def stall_key(stall: StallObject) -> Any:
    """Identify a stall within a report: the same while it is in progress and when it has ended."""
    parent = stall["parent"]
    # A stall from a snapshot can lack an id, but a thread is in one read at a time.
    return (stall["id"] or stall["errpipe"]["read_fd"], parent["pid"], parent["tid"])


def kind_name(stall: StallObject) -> KindName:
    """The kind of a stall, unless there are too many kinds."""
    holder = stall["holders"][0]
    return KindName(stall["parent"]["comm"], holder["comm"], Cause(holder["cause"]))


def buckets(bounds: Sequence[float], counts: Mapping[int, int]) -> list[BucketObject]:
    """A histogram, from the first bucket that is not empty to the last one.

    bounds: the upper bounds of all buckets but the last one.  counts: by the place of the bucket.
    """
    found = [place for place, number in counts.items() if number]
    if not found:
        return []
    lower = [0.0, *bounds]
    upper = [*bounds, None]
    return [
        {"above": lower[place], "le": upper[place], "count": counts.get(place, 0)}
        for place in range(min(found), max(found) + 1)
    ]


def histogram(seconds: Iterable[float]) -> list[BucketObject]:
    """A histogram of durations."""
    return buckets(_BOUNDS, Counter(bisect_left(_BOUNDS, each) for each in seconds))


def _object(kind: Kind, over_time: list[int]) -> KindObject:
    p50, p99 = kind.quantiles(0.5, 0.99)
    return {
        "comm": kind.name.comm,
        "holder": kind.name.holder,
        "cause": kind.name.cause,
        "stalls": kind.count,
        "ongoing": kind.ongoing,
        "seconds": kind.total,
        "p50_seconds": p50,
        "p99_seconds": p99,
        "longest_seconds": kind.longest_seconds,
        "last": _rfc3339(kind.last),
        "over_time": over_time,
    }


def _seconds(stall: StallObject) -> float:
    return stall["stall_seconds"] or 0.0


def _time(seconds: float) -> Optional[datetime]:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError):  # a saved report can contain any time
        return None


def _rfc3339(time: Optional[datetime]) -> Optional[str]:
    return None if time is None else time.isoformat(timespec="microseconds").replace("+00:00", "Z")
