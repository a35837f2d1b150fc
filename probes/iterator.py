# SPDX-License-Identifier: Apache-2.0
"""BPF iterators by bpf(2): the kernel calls the program for each object of a kind while an fd is read.

A link holds a loaded iterator; each pass over the objects has an fd of its own.  Since Linux 5.8.
Structures and commands: <linux/bpf.h>, and the kernel's Documentation/bpf/bpf_iterators.rst.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator

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


def run(link: int) -> Generator[bytes, None, None]:
    """Make one pass over all objects; yield what the program wrote, whole records each time.

    A part is empty when the kernel has passed a million objects for which the program wrote nothing.  The
    caller can end the pass early by closing the generator.  Raises OSError.
    """
    fd = bpf(_ITER_CREATE, _Iter(link_fd=link))
    try:
        while True:
            try:
                part = os.read(fd, _CHUNK)  # retried by Python after a signal
            except BlockingIOError:
                yield b""
                continue
            if not part:
                return
            yield part
    finally:
        os.close(fd)
