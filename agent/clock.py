# SPDX-License-Identifier: Apache-2.0
"""Translates the kernel's monotonic clock to wall-clock times."""

from __future__ import annotations

import time
from datetime import datetime, timezone

__all__ = ["Clock"]

_STEP_NS = 1_000_000_000  # two readings of clocks are never that far apart, not on a busy machine either


class Clock:
    """Translates CLOCK_MONOTONIC nanoseconds to wall-clock times, by the wall clock as it is set now.

    A moment keeps its time, to the microsecond, until the wall clock is stepped.
    """

    def __init__(self) -> None:
        self._offset = self._measured()

    def timestamp(self, monotonic_ns: int) -> float:
        """Seconds since the epoch."""
        now = self._measured()
        if abs(now - self._offset) > _STEP_NS:
            self._offset = now
        return (monotonic_ns + self._offset) / 1e9

    def _measured(self) -> int:
        return time.time_ns() - time.monotonic_ns()

    def rfc3339(self, monotonic_ns: int) -> str:
        """UTC with microseconds, as in 2026-11-24T09:00:00.000000Z."""
        when = datetime.fromtimestamp(self.timestamp(monotonic_ns), timezone.utc)
        return when.isoformat(timespec="microseconds").replace("+00:00", "Z")
