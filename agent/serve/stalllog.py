"""The log of stalls: a line each on standard error, so many a minute at most, and how many were left out."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

__all__ = ["StallLog"]

_log = logging.getLogger(__name__)
_WINDOW_SECONDS = 60.0


class StallLog:
    """``poll`` is to be called again and again: it says once a minute what was left out."""

    def __init__(self, most: int, on_left_out: Callable[[], None]) -> None:
        """most: lines a minute; on_left_out: is called for each line that was one too many."""
        self.most = most
        self._on_left_out = on_left_out
        self._began = -_WINDOW_SECONDS
        self._written = 0
        self._left_out = 0

    def add(self, line: str) -> None:
        """Writes a line, or leaves it out."""
        self.poll()
        if self._written < self.most:
            self._written += 1
            print(line, file=sys.stderr, flush=True)
        else:
            self._left_out += 1
            self._on_left_out()

    def poll(self) -> None:
        """Begins another minute when it is time."""
        if time.monotonic() - self._began >= _WINDOW_SECONDS:
            self.close()
            self._began = time.monotonic()
            self._written = 0

    def close(self) -> None:
        """Says how many lines were left out since that was said."""
        if self._left_out:
            _log.warning(
                "%d more stalls of the last minute are only in the metrics: log.stalls_per_minute is %d",
                self._left_out,
                self.most,
            )
            self._left_out = 0
