# SPDX-License-Identifier: Apache-2.0
"""The kinds of stalls since the agent has started, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from agent.clock import Clock
from agent.model import Stall
from agent.reports.kinds import Kinds
from agent.reports.objects import kind_of
from agent.reports.types import KindsObject, StallObject

__all__ = ["StallKinds"]

_LIMIT = 200
_KEPT = 1000  # durations of a kind, so at most 1.6 MB for all


class StallKinds:
    """Thread-safe: the tracer adds stalls, and responses read them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds = Kinds(_LIMIT, _KEPT)
        self._lock = threading.Lock()

    def add(self, stall: Stall) -> None:
        """Add an ended stall; ignore one in progress, which is read anew each time."""
        if stall.ended is not None:
            began = self._clock.timestamp(stall.began)
            with self._lock:
                self._kinds.count(kind_of(stall), began, (stall.ended - stall.began) / 1e9)

    def read(self, ongoing: Iterable[StallObject]) -> KindsObject:
        """The kinds of all ended stalls, and of these in progress."""
        with self._lock:
            self._kinds.set_ongoing(ongoing)
            return self._kinds.object()
