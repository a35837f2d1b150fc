"""Medians of interleaved rounds, with their spread; differences and ratios are made within each round."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Figure", "added", "figure", "ratio"]


@dataclass(frozen=True)
class Figure:
    """The median of some rounds, and the quartiles around it (of one round: itself)."""

    median: float
    low: float
    high: float
    rounds: int

    def text(self, digits: int) -> str:
        """As in ``12.3 (11.9 to 13.0)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def figure(values: Sequence[float]) -> Figure:
    """Raises statistics.StatisticsError when there are none."""
    median = statistics.median(values)
    low, high = median, median
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(median, low, high, len(values))


def added(beside: Sequence[float], alone: Sequence[float]) -> Figure:
    """What each round had more than the same round without."""
    return figure([more - less for more, less in zip(beside, alone, strict=True)])


def ratio(beside: Sequence[float], alone: Sequence[float]) -> Figure:
    """What each round had, in units of the same round without."""
    return figure([above / below for above, below in zip(beside, alone, strict=True)])
