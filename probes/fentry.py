# SPDX-License-Identifier: Apache-2.0
"""Attach programs to the entry and exit of kernel functions by bpf(2): BPF trampolines, "fentry" and "fexit".

Structures and commands: <linux/bpf.h>.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from typing import Optional

from probes import programs
from probes.bpfcall import bpf

__all__ = ["attach", "load", "problem"]

_RAW_TRACEPOINT_OPEN = 17
_FENTRY, _FEXIT = 24, 25


class _Open(ctypes.Structure):
    """union bpf_attr of BPF_RAW_TRACEPOINT_OPEN."""

    _fields_ = [("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32)]


def load(name: str, instructions: bytes, function: int, at_exit: bool) -> int:
    """Load a program for a kernel function, given by its id in the kernel's BTF; return its fd.

    instructions: with the fds of maps filled in.  Raises OSError with the verifier's last line.
    """
    return programs.load(name, instructions, programs.TRACING, _FEXIT if at_exit else _FENTRY, function)


def attach(program: int) -> int:
    """Attach a loaded program; return the fd that keeps it attached.  Raises OSError."""
    return bpf(_RAW_TRACEPOINT_OPEN, _Open(prog_fd=program))


def problem(places: Mapping[int, int]) -> Optional[str]:
    """Try programs at functions that read their arguments; return why the kernel refuses, or None.

    places: by id of a function in the kernel's BTF, the offset of a word in the structure that its first
    argument points to.
    """
    fds = []
    try:
        for function, offset in places.items():
            fds += [load("probe", _look(offset), function, at_exit) for at_exit in (False, True)]
        fds += [attach(fd) for fd in fds[-2:]]
    except OSError as error:
        return str(error)
    finally:
        for fd in fds:
            os.close(fd)
    return None


def _look(offset: int) -> bytes:
    """A program that reads a word from what the first argument points to."""
    return b"".join(
        (
            _instruction(0x79, 1 << 4 | 2, 0),  # r2 = *(u64 *)(r1 + 0): the first argument
            _instruction(0x79, 2 << 4 | 0, offset),  # r0 = *(u64 *)(r2 + offset)
            _instruction(0xB7, 0, 0),  # r0 = 0
            _instruction(0x95, 0, 0),  # exit
        )
    )


def _instruction(code: int, registers: int, offset: int) -> bytes:
    """registers: number of the source << 4 | number of the destination."""
    return struct.pack("=BBhi", code, registers, offset, 0)
