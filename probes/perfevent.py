# SPDX-License-Identifier: Apache-2.0
"""perf_event_open(2), and the ioctls of its file descriptors."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

__all__ = ["Attributes", "attach", "enable", "online_cpus", "open_event"]

_SYSCALL = {"x86_64": 298, "aarch64": 241, "ppc64le": 319, "s390x": 331}  # <asm/unistd.h>
_FLAG_CLOEXEC = 8
# PERF_EVENT_IOC_ENABLE and _SET_BPF; POWER encodes the direction of an ioctl differently.
_ENABLE, _SET_BPF = (0x20002400, 0x80042408) if platform.machine() == "ppc64le" else (0x2400, 0x40042408)


class Attributes(ctypes.Structure):
    """The beginning of struct perf_event_attr (PERF_ATTR_SIZE_VER0)."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("bp_addr", ctypes.c_uint64),
    ]


def open_event(attributes: Attributes, cpu: int) -> int:
    """Open an event of all processes on one CPU, and return its fd.  Raises OSError."""
    attributes.size = ctypes.sizeof(attributes)
    number = ctypes.c_long(_SYSCALL[platform.machine()])
    fd = int(_libc().syscall(number, ctypes.byref(attributes), -1, cpu, -1, ctypes.c_ulong(_FLAG_CLOEXEC)))
    if fd < 0:
        raise _error("perf_event_open")
    return fd


def enable(fd: int) -> None:
    """Start an event.  Raises OSError."""
    if _libc().ioctl(fd, ctypes.c_ulong(_ENABLE), 0) < 0:
        raise _error("PERF_EVENT_IOC_ENABLE")


def attach(fd: int, program: int) -> None:
    """Make the kernel run a program at each event, on every CPU.  Raises OSError."""
    if _libc().ioctl(fd, ctypes.c_ulong(_SET_BPF), program) < 0:
        raise _error("PERF_EVENT_IOC_SET_BPF")


def online_cpus(path: Path = Path("/sys/devices/system/cpu/online")) -> list[int]:
    """Return the online CPUs, from a list such as ``0-3,8``."""
    cpus: list[int] = []
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
