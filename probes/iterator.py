# SPDX-License-Identifier: Apache-2.0
"""BPF iterators by bpf(2): the kernel calls the program for each object of a kind while an fd is read.

A link holds a loaded iterator; each pass over the objects has an fd of its own.  Since Linux 5.8.
Structures and commands: <linux/bpf.h>, and the kernel's Documentation/bpf/bpf_iterators.rst.
"""

from __future__ import annotations

import ctypes
import os

from probes import programs
from probes.bpfcall import bpf

__all__ = ["link", "load", "run"]

_LINK_CREATE, _ITER_CREATE = 28, 33
_TRACE_ITER = 28
_CHUNK = 1 << 16  # twice what the kernel returns for one read


class _Link(ctypes.Structure):
    """union bpf_attr of BPF_LINK_CREATE."""

    _fields_ = [
        ("prog_fd", ctypes.c_uint32),
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class _Iter(ctypes.Structure):
    """union bpf_attr of BPF_ITER_CREATE."""

    _fields_ = [("link_fd", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


def load(name: str, instructions: bytes, function: int) -> int:
    """Load an iterator's program; return its fd.

    function: id of ``bpf_iter_KIND`` in the kernel's BTF.  Raises OSError with the verifier's last line.
    """
    return programs.load(name, instructions, programs.TRACING, _TRACE_ITER, function)


def link(program: int) -> int:
    """Create the link of a loaded program; return its fd, which keeps the program too.  Raises OSError."""
    return bpf(_LINK_CREATE, _Link(prog_fd=program, attach_type=_TRACE_ITER))


def run(link: int) -> bytes:
    """Make one pass over all objects; return everything that the program wrote.  Raises OSError."""
    fd = bpf(_ITER_CREATE, _Iter(link_fd=link))
    try:
        return _read_all(fd)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(fd, _CHUNK)  # retried by Python after a signal
        except BlockingIOError:
            continue  # EAGAIN: a million objects, and the program wrote nothing
        if not part:
            return b"".join(parts)
        parts.append(part)
