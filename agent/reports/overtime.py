# SPDX-License-Identifier: Apache-2.0
"""Counts events over time in a bounded number of equal intervals, however long it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["OverTime", "on_one_axis"]

_MOST = 60
_SHORTEST = -4
"""Intervals have a length of 2 ** n seconds, this one or a longer one, and start at its multiples: so two
short ones make a long one."""


class OverTime:
    """How many events were when; times are in seconds since the epoch."""

    def __init__(self) -> None:
        self.exponent = _SHORTEST
        self.counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count an event."""
        interval = math.floor(seconds / 2**self.exponent)
        self.counts[interval] = self.counts.get(interval, 0) + 1
        self._widen(self.exponent)

    def join(self, other: OverTime) -> None:
        """Count the events of another one too."""
        self._widen(other.exponent)
        for interval, number in other.counts.items():
            place = interval >> (self.exponent - other.exponent)
            self.counts[place] = self.counts.get(place, 0) + number
        self._widen(self.exponent)

    def read(self, first: int, exponent: int) -> list[int]:
        """The counts in intervals of 2 ** exponent seconds, which is not shorter than the own ones.

        first: number of the first interval.  The result ends with the last event.
        """
        shift = exponent - self.exponent
        found = [0] * (max((interval >> shift for interval in self.counts), default=first - 1) - first + 1)
        for interval, number in self.counts.items():
            found[(interval >> shift) - first] += number
        return found

    def _widen(self, least: int) -> None:
        while self.exponent < least or (self.counts and max(self.counts) - min(self.counts) >= _MOST):
            self.exponent += 1
            narrow, self.counts = self.counts, {}
            for interval, number in narrow.items():
                self.counts[interval >> 1] = self.counts.get(interval >> 1, 0) + number


def on_one_axis(several: Sequence[OverTime]) -> tuple[float, float, Iterable[list[int]]]:
    """The start of the first interval and the length of each, in seconds; and the counts of each one."""
    whole = OverTime()
    for each in several:
        whole.join(each)
    first = min(whole.counts, default=0)
    length = 2.0**whole.exponent
    return first * length, length, (each.read(first, whole.exponent) for each in several)
