# SPDX-License-Identifier: Apache-2.0
"""probes.bpfmap and probes.perfbuffer against the kernel: maps created here, read in every way."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator

import pytest

from probes.bpfcall import BPF_SYSCALL
from probes.bpfmap import BpfMap
from probes.perfbuffer import PerfBuffer
from probes.perfevent import online_cpus

_CREATE = 0
_HASH, _PERF_EVENT_ARRAY, _LRU_HASH = 1, 4, 9


def _create(kind: int, key: int, value: int, entries: int) -> int:
    attributes = (ctypes.c_uint32 * 5)(kind, key, value, entries, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(BPF_SYSCALL[platform.machine()])
    fd = int(libc.syscall(number, _CREATE, attributes, ctypes.c_uint(20)))
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return fd


@pytest.fixture(params=[_HASH, _LRU_HASH])
def made(request: pytest.FixtureRequest) -> Iterator[BpfMap[ctypes.c_uint64]]:
    """An empty map with room for 8,000 entries."""
    fd = _create(request.param, 4, 8, 8000)
    yield BpfMap(fd, ctypes.c_uint32, ctypes.c_uint64)
    os.close(fd)


def _all(made: BpfMap[ctypes.c_uint64]) -> dict[int, int]:
    return {int.from_bytes(key, "little"): value.value for key, value in made.items()}


def test_one_element(made: BpfMap[ctypes.c_uint64]) -> None:
    assert made.get(7) is None
    made.set(7, 1 << 40)
    found = made.get(7)
    assert found is not None
    assert found.value == 1 << 40
    made.delete(7)
    made.delete(7)  # no longer exists
    assert made.get(7) is None


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize("size", [0, 1, 2, 1023, 1024, 1025, 5000])
def test_all_elements(made: BpfMap[ctypes.c_uint64], size: int, batches: bool) -> None:
    made._has_batches = batches
    for key in range(size):
        made.set(key, key * 3)
    assert _all(made) == {key: key * 3 for key in range(size)}
    assert made.count() == size
    assert made._has_batches is batches  # this kernel supports them


def test_rings_of_every_cpu_are_entered() -> None:
    fds = [_create(_PERF_EVENT_ARRAY, 4, 4, 128) for _ in range(2)]
    records, notices = (BpfMap(fd, ctypes.c_int, ctypes.c_int) for fd in fds)
    buffer = PerfBuffer(records, notices, 1, lambda record: None)
    assert len(buffer._rings) == 2 * len(online_cpus())
    assert len(online_cpus()) == os.cpu_count()
    buffer.poll(1)
    buffer.close()
    for fd in fds:
        os.close(fd)
