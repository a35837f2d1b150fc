# SPDX-License-Identifier: Apache-2.0
"""Load programs by bpf(2), without bcc.  Structures and commands: <linux/bpf.h>."""

from __future__ import annotations

import ctypes
import errno
import os

from probes.bpfcall import ObjectName, bpf, object_name

__all__ = ["RAW_TRACEPOINT", "TRACEPOINT", "TRACING", "load"]

TRACEPOINT, RAW_TRACEPOINT, TRACING = 5, 17, 26
"""enum bpf_prog_type."""

_PROG_LOAD = 5
_LOG_SIZE = 1 << 22


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
        ("prog_name", ObjectName),
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


def load(name: str, instructions: bytes, type_: int, attach_type: int = 0, function: int = 0) -> int:
    """Load a program and return its fd.

    instructions: with the fds of maps filled in; type_: of enum bpf_prog_type; attach_type, function: for
    TRACING, of enum bpf_attach_type, and the id of the kernel function in its BTF.  Raises OSError with the
    verifier's last line.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"GPL")
    attributes = _Load(
        prog_type=type_,
        insn_cnt=len(instructions) // 8,
        insns=ctypes.addressof(code),
        license=ctypes.addressof(license_),
        prog_name=object_name(name),
        expected_attach_type=attach_type,
        attach_btf_id=function,
    )
    try:
        return _without_log(attributes)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_SIZE)  # only after a failure, because it takes time
        attributes.log_level, attributes.log_size = 1, _LOG_SIZE
        attributes.log_buf = ctypes.addressof(log)
        try:
            return bpf(_PROG_LOAD, attributes)
        except OSError:
            lines = [line for line in log.value.decode(errors="replace").splitlines() if line]
            last = [line for line in lines if not line.startswith("processed ")][-1:]
            raise OSError(error.errno, f"{name}: {os.strerror(error.errno or 0)} {last}") from error


def _without_log(attributes: _Load) -> int:
    """Load; with a log, the kernel before 6.4 refuses a good program if its log is longer than the buffer."""
    try:
        return bpf(_PROG_LOAD, attributes)
    except OSError as error:
        if error.errno != errno.E2BIG or attributes.prog_type == TRACING:
            raise
    attributes.prog_name = object_name("")  # before 4.15 (commit cb4d2b3f03d8) programs have no names
    return bpf(_PROG_LOAD, attributes)
