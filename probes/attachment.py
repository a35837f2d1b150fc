# SPDX-License-Identifier: Apache-2.0
"""Attach loaded programs to tracepoints, without bcc.  The returned fd keeps the program attached."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from probes import perfevent
from probes.bpfcall import bpf

__all__ = ["to_raw_tracepoint", "to_tracepoint"]

_RAW_TRACEPOINT_OPEN = 17
_TYPE_TRACEPOINT, _SAMPLE_RAW = 2, 1 << 10
_WHY = {
    # Before 4.14 (commit cf5f5cea2706).
    errno.EINVAL: "this kernel runs no programs there; for system calls Linux 4.14 or RHEL 7.6 is needed",
    # Before 4.15 (commit e87c6bc3852b).
    errno.EEXIST: "this kernel runs one program there, and another tracer has attached its own: stop it",
}


class _Open(ctypes.Structure):
    """union bpf_attr of BPF_RAW_TRACEPOINT_OPEN."""

    _fields_ = [("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32)]


def to_tracepoint(program: int, event: str, tracefs: Path) -> int:
    """Attach a program to an event such as ``syscalls:sys_enter_close``.  Raises OSError."""
    number = int((tracefs / "events" / event.replace(":", "/") / "id").read_text())
    attributes = perfevent.Attributes(
        type=_TYPE_TRACEPOINT, config=number, sample_period=1, sample_type=_SAMPLE_RAW, wakeup_events=1
    )
    # The kernel runs the program for the events of all CPUs, whatever the CPU of this one.
    fd = perfevent.open_event(attributes, perfevent.online_cpus()[0])
    try:
        perfevent.attach(fd, program)
        perfevent.enable(fd)
    except OSError as error:
        os.close(fd)
        why = _WHY.get(error.errno or 0)
        if why is None:
            raise
        raise OSError(error.errno, why) from error
    return fd


def to_raw_tracepoint(program: int, name: str) -> int:
    """Attach a program to a raw tracepoint such as ``task_newtask``.  Raises OSError."""
    text = ctypes.create_string_buffer(name.encode())
    return bpf(_RAW_TRACEPOINT_OPEN, _Open(name=ctypes.addressof(text), prog_fd=program))
