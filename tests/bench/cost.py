# SPDX-License-Identifier: Apache-2.0
"""The current cost of a process: CPU time, memory, and its maps in the kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tests.live import bpfids

__all__ = ["Memory", "cpu_seconds", "memory"]


_CPUCLOCK_SCHED = 2  # with the pid, a process's clock: clock_getcpuclockid(3)


@dataclass(frozen=True)
class Memory:
    """Memory in MiB; maps: what the kernel charges for the eBPF maps of its programs."""

    rss: float
    private: float
    maps: float


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its ended threads included.  Raises OSError."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def memory(pid: int) -> Memory:
    """Needs root."""
    rollup = _fields(Path(f"/proc/{pid}/smaps_rollup").read_text())
    maps = bpfids.map_bytes(bpfids.ids_of(pid))
    return Memory(_kib(rollup["Rss"]) / 1024, _kib(rollup["Private_Dirty"]) / 1024, maps / 2**20)


def _fields(text: str) -> dict[str, str]:
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines()) if value
    }


def _kib(value: str) -> int:
    return int(value.removesuffix("kB"))
