# SPDX-License-Identifier: Apache-2.0
"""Quantiles of any number of durations, in bounded memory."""

from __future__ import annotations

import math
from typing import Optional

__all__ = ["Durations"]

_BITS = 11
"""Durations that have these leading bits in common are counted together: they differ by less than 0.1 %."""


class Durations:
    """Counts durations in nanoseconds.  A quantile is rounded up by less than 0.1 %; the longest is exact."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0
        self._counts: dict[int, int] = {}

    def add(self, ns: int) -> None:
        """Count one duration."""
        shift = max(ns.bit_length() - _BITS, 0)
        upper = (((ns >> shift) + 1) << shift) - 1
        self._counts[upper] = self._counts.get(upper, 0) + 1
        self.count += 1
        self.longest = max(self.longest, ns)

    def quantile(self, fraction: float, missing: int = 0) -> Optional[int]:
        """The nearest rank in nanoseconds; None if it is not known.

        missing: how many durations were lost.  Each may have been long, so that the result is an upper bound.
        """
        rank = math.ceil(fraction * (self.count + missing))
        if not 0 < rank <= self.count:
            return None
        seen = 0
        for upper in sorted(self._counts):
            seen += self._counts[upper]
            if seen >= rank:
                return min(upper, self.longest)
        return None
