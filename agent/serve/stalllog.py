# SPDX-License-Identifier: Apache-2.0
"""Log stalls to standard error, one line each, up to a limit per minute."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping

__all__ = ["StallLog"]

_log = logging.getLogger(__name__)
_WINDOW_SECONDS = 60.0


class StallLog:
    """A rate-limited log; call ``poll`` often, so that it logs once a minute how many lines were left out."""

    def __init__(self, limit: int, on_left_out: Callable[[], None]) -> None:
        """limit: lines a minute; on_left_out: called for each line beyond the limit."""
        self.limit = limit
        self._on_left_out = on_left_out
        self._began = -_WINDOW_SECONDS
        self._written = 0
        self._left_out = 0

    def add(self, report: Callable[[], Mapping[str, object]]) -> None:
        """Write an object as a line of JSON, or leave it out if the limit is reached.

        report: returns the object; called only if it is written, because making one takes time.
        """
        self.poll()
        if self._written < self.limit:
            self._written += 1
            print(json.dumps(report()), file=sys.stderr, flush=True)
        else:
            self._left_out += 1
            self._on_left_out()

    def poll(self) -> None:
        """Start a new minute if the current one is over."""
        if time.monotonic() - self._began >= _WINDOW_SECONDS:
            self.close()
            self._began = time.monotonic()
            self._written = 0

    def close(self) -> None:
        """Log how many lines were left out in the current minute."""
        if self._left_out:
            _log.warning(
                "%d more stalls in the last minute are only in the metrics: log.stalls_per_minute is %d",
                self._left_out,
                self.limit,
            )
            self._left_out = 0
