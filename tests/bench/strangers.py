"""How many tracing programs the kernel has now, whoever loaded them: what slows everybody down."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

__all__ = ["programs", "settle", "wait_for"]

_BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD = 11, 13, 15
_TRACING_TYPES = (2, 5, 7, 17, 26)
"""kprobe, tracepoint, perf event, raw tracepoint, tracing (enum bpf_prog_type, include/uapi/linux/bpf.h)."""


class _Id(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint32), ("next_id", ctypes.c_uint32), ("open_flags", ctypes.c_uint32)]


class _Info(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_uint32), ("length", ctypes.c_uint32), ("info", ctypes.c_uint64)]


def programs() -> int:
    """Needs root.  Raises OSError."""
    count, attributes = 0, _Id()
    while True:
        try:
            _bpf(_PROG_GET_NEXT_ID, attributes)
        except FileNotFoundError:
            return count
        attributes.id = attributes.next_id
        try:
            fd = _bpf(_PROG_GET_FD_BY_ID, _Id(id=attributes.id))
        except FileNotFoundError:  # gone meanwhile
            continue
        try:
            kind = ctypes.c_uint32()
            _bpf(_OBJ_GET_INFO_BY_FD, _Info(fd, ctypes.sizeof(kind), ctypes.addressof(kind)))
            count += kind.value in _TRACING_TYPES
        finally:
            os.close(fd)


def wait_for(at_most: int, seconds: float) -> bool:
    """False when there still are more after so long."""
    deadline = time.monotonic() + seconds
    while programs() > at_most:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def settle(process: subprocess.Popen[str], before: int, seconds: float) -> bool:
    """Returns when a process traces: more programs than before, and nothing new opened for a second.

    False when it has ended, or does not trace after so long.
    """
    deadline, last, since = time.monotonic() + seconds, (before, 0), time.monotonic()
    while process.poll() is None and time.monotonic() < deadline:
        # Programs are loaded first; then each attachment is one more open file.
        now = programs(), len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        if now != last:
            last, since = now, time.monotonic()
        elif now[0] > before and time.monotonic() - since > 1:
            return True
        time.sleep(0.05)
    return False


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(
        libc.syscall(
            ctypes.c_long(_BPF_SYSCALL),
            command,
            ctypes.byref(attributes),
            ctypes.c_uint(ctypes.sizeof(attributes)),
        )
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
