# SPDX-License-Identifier: Apache-2.0
"""The number of tracing programs in the kernel, which slow down every process."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

from probes.bpfcall import bpf

__all__ = ["programs", "settle", "wait_for"]

_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD = 11, 13, 15
_TRACING_TYPES = (2, 5, 7, 17, 26)
"""kprobe, tracepoint, perf event, raw tracepoint, tracing (enum bpf_prog_type, include/uapi/linux/bpf.h)."""


class _Id(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint32), ("next_id", ctypes.c_uint32), ("open_flags", ctypes.c_uint32)]


class _Info(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_uint32), ("length", ctypes.c_uint32), ("info", ctypes.c_uint64)]


def programs() -> int:
    """Return the number of programs.  Needs root.  Raises OSError."""
    count, attributes = 0, _Id()
    while True:
        try:
            bpf(_PROG_GET_NEXT_ID, attributes)
        except FileNotFoundError:
            return count
        attributes.id = attributes.next_id
        try:
            fd = bpf(_PROG_GET_FD_BY_ID, _Id(id=attributes.id))
        except FileNotFoundError:  # unloaded meanwhile
            continue
        try:
            kind = ctypes.c_uint32()
            bpf(_OBJ_GET_INFO_BY_FD, _Info(fd, ctypes.sizeof(kind), ctypes.addressof(kind)))
            count += kind.value in _TRACING_TYPES
        finally:
            os.close(fd)


def wait_for(at_most: int, seconds: float) -> bool:
    """Wait until there are at most ``at_most`` programs; return False after a timeout."""
    deadline = time.monotonic() + seconds
    while programs() > at_most:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def settle(process: subprocess.Popen[str], before: int, seconds: float) -> bool:
    """Wait until a process traces: more programs than before, and no new fds for a second.

    Return False if it has ended, or does not trace within ``seconds``.
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
