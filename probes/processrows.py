# SPDX-License-Identifier: Apache-2.0
"""The rows of the kernel side's map of processes, and the number of those that the map has evicted.

The map is an LRU hash: when it is full, it evicts the row that was not used for the longest time, and does
not report that.  The kernel side counts the rows that it adds and deletes, so the rest was evicted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Optional

from probes.bpfmap import BpfMap
from probes.records import Counter

__all__ = ["ProcessRows", "Rows"]

_TRIES = 5


class Rows(NamedTuple):
    """The number of rows, and limits for the number of those evicted so far.

    They differ if rows came or went during each reading.  ``at_least`` never decreases.
    """

    entries: int
    at_least: int
    at_most: int


class ProcessRows:
    """Reads the map; what is evicted is counted since it was created."""

    def __init__(self, rows: BpfMap[Any], counter: Callable[[Counter], int]) -> None:
        """counter: returns the current value of a counter of the kernel side."""
        self._rows = rows
        self._counter = counter
        self._evicted = 0

    def get(self, pid: int) -> Optional[Any]:
        """Return the row of a process (records.process_type), or None."""
        return self._rows.get(pid)

    def items(self) -> Iterator[tuple[int, Any]]:
        """Yield pid and row of each process."""
        for key, row in self._rows.items():
            yield int.from_bytes(key, sys.byteorder), row

    def count(self) -> Rows:
        """Count the rows, and those that were evicted."""
        for _ in range(_TRIES):
            added, deleted = self._changes()
            entries = self._rows.count()
            added_since, deleted_since = self._changes()
            self._evicted = max(self._evicted, added - deleted_since - entries)
            at_most = max(self._evicted, added_since - deleted - entries)
            if (added, deleted) == (added_since, deleted_since):
                break
        return Rows(entries, self._evicted, at_most)

    def _changes(self) -> tuple[int, int]:
        return self._counter(Counter.PROCESSES_ADDED), self._counter(Counter.PROCESSES_DELETED)
