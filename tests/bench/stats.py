# SPDX-License-Identifier: Apache-2.0
"""Medians of interleaved rounds, with their spread; differences and ratios are computed within a round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Figure", "added", "figure", "ratio"]


@dataclass(frozen=True)
class Figure:
    """The median and the quartiles of some rounds (of one round: its value)."""

    median: float
    low: float
    high: float
    rounds: int

    def text(self, digits: int) -> str:
        """Format as in ``12.3 (11.9 to 13.0)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def figure(values: Sequence[float]) -> Figure:
    """Compute the figure; raises statistics.StatisticsError without values."""
    median = statistics.median(values)
    low, high = median, median
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(median, low, high, len(values))


def added(beside: Sequence[float], alone: Sequence[float]) -> Figure:
    """Return the difference to the untraced value within each round."""
    return figure([more - less for more, less in zip(beside, alone, strict=True)])


def ratio(beside: Sequence[float], alone: Sequence[float]) -> Figure:
    """Return the ratio to the untraced value within each round."""
    return figure([above / below for above, below in zip(beside, alone, strict=True)])
