"""Programs at the entry and the exit of a kernel function, by bpf(2): BPF trampolines, "fentry" and "fexit".

bcc attaches such programs by their names, which differ from version to version; this needs only the
instructions.  Structures and commands: <linux/bpf.h>.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from typing import Optional

from probes.bpfcall import bpf

__all__ = ["attach", "load", "problem"]

_PROG_LOAD, _RAW_TRACEPOINT_OPEN = 5, 17
_TYPE_TRACING, _FENTRY, _FEXIT = 26, 24, 25
_LOG_SIZE = 1 << 16


class _Load(ctypes.Structure):
    """union bpf_attr of BPF_PROG_LOAD."""

    _fields_ = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
        ("prog_ifindex", ctypes.c_uint32),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64),
        ("func_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64),
        ("line_info_cnt", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
    ]


class _Open(ctypes.Structure):
    """union bpf_attr of BPF_RAW_TRACEPOINT_OPEN."""

    _fields_ = [("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32)]


def load(name: str, instructions: bytes, function: int, at_exit: bool) -> int:
    """Loads a program for a kernel function, which is given by its id in the kernel's BTF; returns its fd.

    instructions: with the fds of maps in them.  Raises OSError, with the verifier's last line.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"GPL")
    attributes = _Load(
        prog_type=_TYPE_TRACING,
        insn_cnt=len(instructions) // 8,
        insns=ctypes.addressof(code),
        license=ctypes.addressof(license_),
        prog_name=name.encode()[:15],
        expected_attach_type=_FEXIT if at_exit else _FENTRY,
        attach_btf_id=function,
    )
    try:
        return bpf(_PROG_LOAD, attributes)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_SIZE)  # not asked for at once: it takes time
        attributes.log_level, attributes.log_size = 1, _LOG_SIZE
        attributes.log_buf = ctypes.addressof(log)
        try:
            return bpf(_PROG_LOAD, attributes)
        except OSError:
            lines = [line for line in log.value.decode(errors="replace").splitlines() if line]
            said = [line for line in lines if not line.startswith("processed ")][-1:]
            raise OSError(error.errno, f"{os.strerror(error.errno or 0)} {said}") from error


def attach(program: int) -> int:
    """Attaches a loaded program to its function; returns the fd that keeps it so.  Raises OSError."""
    return bpf(_RAW_TRACEPOINT_OPEN, _Open(prog_fd=program))


def problem(places: Mapping[int, int]) -> Optional[str]:
    """Why this kernel does not let programs at all of some functions see their arguments; None: it does.

    places: by id of a function in the kernel's BTF, the offset of a word where its first argument points to.
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
    """A program that reads a word of what the first argument points to."""
    return b"".join(
        (
            _instruction(0x79, 1 << 4 | 2, 0),  # r2 = *(u64 *)(r1 + 0): the first argument
            _instruction(0x79, 2 << 4 | 0, offset),  # r0 = *(u64 *)(r2 + offset)
            _instruction(0xB7, 0, 0),  # r0 = 0
            _instruction(0x95, 0, 0),  # exit
        )
    )


def _instruction(code: int, registers: int, offset: int) -> bytes:
    """registers: the source's number << 4 | the destination's."""
    return struct.pack("=BBhi", code, registers, offset, 0)
