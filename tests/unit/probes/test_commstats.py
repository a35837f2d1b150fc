# SPDX-License-Identifier: Apache-2.0
"""probes.commstats: the same statistics from a hash and from an array."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from probes.commstats import PLACES, STATS, TAKEN, CommTable, comm_type
from probes.records import CommStats


class _Map:
    """A map in memory, with the methods of BpfMap."""

    def __init__(self, key: Any, value: Any) -> None:
        self._key, self._value = key, value
        self.values: dict[bytes, Any] = {}

    def _bytes(self, key: object) -> bytes:
        return bytes(memoryview(key if isinstance(key, self._key) else self._key(key)).cast("B"))

    def get(self, key: object) -> Any:
        return self.values.get(self._bytes(key))

    def set(self, key: object, value: object) -> None:
        self.values[self._bytes(key)] = value if isinstance(value, self._value) else self._value(value)

    def delete(self, key: object) -> None:
        self.values.pop(self._bytes(key), None)

    def items(self) -> Any:
        return list(self.values.items())

    def count(self) -> int:
        return len(self.values)


class _Kernel:
    """Adds comms as the programs do."""

    def __init__(self, unrolled: bool, comms: int = 3) -> None:
        self.unrolled = unrolled
        self.maps: dict[str, Any] = {STATS: _Map(ctypes.c_int if unrolled else comm_type, CommStats)}
        if unrolled:
            self.maps[PLACES] = _Map(comm_type, ctypes.c_uint32)
            self.maps[TAKEN] = _Map(ctypes.c_uint32, ctypes.c_uint8)
            for place in range(comms + 1):
                self.maps[STATS].set(place, CommStats())

    def count_ok(self, comm: bytes) -> None:
        key: Any = comm_type.from_buffer_copy(comm.ljust(16, b"\0"))
        if self.unrolled:
            if self.maps[PLACES].get(key) is None:
                place = next(n for n in range(3) if self.maps[TAKEN].get(n) is None)
                self.maps[TAKEN].set(place, 1)
                self.maps[PLACES].set(key, place)
            key = self.maps[PLACES].get(key).value
        elif self.maps[STATS].get(key) is None:
            self.maps[STATS].set(key, CommStats())
        self.maps[STATS].get(key).outcomes[0] += 1


@pytest.fixture(params=[False, True], ids=["hash", "array"])
def kernel(request: pytest.FixtureRequest) -> _Kernel:
    return _Kernel(request.param)


def _ok(table: CommTable) -> dict[bytes, int]:
    return {comm: stats.outcomes[0] for comm, stats in table.all().items()}


def test_there_is_room_for_the_rest(kernel: _Kernel) -> None:
    assert _ok(CommTable(kernel.maps, 3)) == {b"~other": 0}


@pytest.mark.parametrize("comm", [b"", b"sh", b"fifteen letters", b"\xff\x1b"])
def test_comms_have_their_own_numbers(comm: bytes, kernel: _Kernel) -> None:
    table = CommTable(kernel.maps, 3)
    kernel.count_ok(comm)
    kernel.count_ok(b"python3")
    kernel.count_ok(comm)
    assert _ok(table) == {b"~other": 0, comm: 2, b"python3": 1}
    assert table.count() == 3


def test_a_forgotten_comm_begins_at_zero_and_its_place_is_free(kernel: _Kernel) -> None:
    table = CommTable(kernel.maps, 3)
    for comm in (b"one", b"two", b"three", b"one"):
        kernel.count_ok(comm)
    table.forget(b"one")
    table.forget(b"never seen")
    assert _ok(table) == {b"~other": 0, b"two": 1, b"three": 1}
    kernel.count_ok(b"four")
    assert _ok(table) == {b"~other": 0, b"two": 1, b"three": 1, b"four": 1}
