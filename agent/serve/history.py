# SPDX-License-Identifier: Apache-2.0
"""Keep the most recent ended stalls."""

from __future__ import annotations

import threading
from collections import deque

from agent.model import Stall

__all__ = ["History"]


class History:
    """A thread-safe ring of at most ``limit`` ended stalls."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._stalls: deque[Stall] = deque(maxlen=limit)
        self._total = 0
        self._lock = threading.Lock()

    def add(self, stall: Stall) -> None:
        """Add an ended stall and drop the oldest one if the ring is full; ignore a stall in progress."""
        if stall.ended is None:
            return
        with self._lock:
            self._stalls.append(stall)
            self._total += 1

    def read(self) -> tuple[list[Stall], int]:
        """The stalls in the ring, newest first, and how many were ever added."""
        with self._lock:
            return list(reversed(self._stalls)), self._total
