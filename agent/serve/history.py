"""The last stalls that have ended."""

from __future__ import annotations

import threading
from collections import deque

from agent.model import Stall

__all__ = ["History"]


class History:
    """A ring of at most ``limit`` ended stalls; threads may add and read at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._stalls: deque[Stall] = deque(maxlen=limit)
        self._total = 0
        self._lock = threading.Lock()

    def add(self, stall: Stall) -> None:
        """Keeps a stall that has ended, and drops the oldest when there is no room."""
        if stall.ended is None:
            return
        with self._lock:
            self._stalls.append(stall)
            self._total += 1

    def read(self) -> tuple[list[Stall], int]:
        """The stalls that are kept, newest first, and how many have ever been added."""
        with self._lock:
            return list(reversed(self._stalls)), self._total
