# SPDX-License-Identifier: Apache-2.0
"""The statistics of each comm of a parent, in the maps of the kernel side."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from probes.bpfmap import BpfMap
from probes.records import CommStats

__all__ = ["PLACES", "STATS", "TAKEN", "CommTable", "comm_type"]

STATS, PLACES, TAKEN = "comm_stats", "comm_places", "comm_taken"
"""Names of the maps; unrolled programs have all three, others only the first."""

comm_type = ctypes.c_char * 16
_OTHER = b"~other"


class CommTable:
    """Reads the statistics.

    They are a hash by comm.  In unrolled programs they are an array, and ``comm_places`` has the index of
    each comm: before Linux 4.18 a program cannot insert values as large as these into a hash.
    """

    def __init__(self, maps: Mapping[str, BpfMap[Any]], max_comms: int) -> None:
        """Make room for ``~other``.  maps: those of the programs; max_comms: as in loader.Options."""
        self._stats: BpfMap[CommStats] = maps[STATS]
        self._places = maps.get(PLACES)
        self._taken = maps.get(TAKEN)
        if _OTHER in self.all():
            return
        if self._places is not None:
            self._places.set(_key(_OTHER), max_comms)
        else:
            self._stats.set(_key(_OTHER), CommStats())

    def all(self) -> dict[bytes, CommStats]:
        """Return the statistics of each comm; ``~other`` has those that found no room."""
        found = {}
        if self._places is None:
            found = dict(self._stats.items())
        else:
            for comm, place in self._places.items():
                stats = self._stats.get(place.value)
                assert stats is not None  # an element of an array
                found[comm] = stats
        return {comm.split(b"\0", 1)[0]: stats for comm, stats in found.items()}

    def forget(self, comm: bytes) -> None:
        """Delete the statistics of a comm."""
        if self._places is None or self._taken is None:
            self._stats.delete(_key(comm))
            return
        place = self._places.get(_key(comm))
        if place is not None:
            self._places.delete(_key(comm))
            self._stats.set(place.value, CommStats())
            self._taken.delete(place.value)  # last: now another comm can take the place

    def count(self) -> int:
        """Return the number of comms."""
        return (self._stats if self._places is None else self._places).count()


def _key(comm: bytes) -> ctypes.Array[ctypes.c_char]:
    return comm_type.from_buffer_copy(comm.ljust(16, b"\0"))
