# SPDX-License-Identifier: Apache-2.0
"""The system call bpf(2); commands and structures: <linux/bpf.h>."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

__all__ = ["BPF_SYSCALL", "ObjectName", "bpf", "object_name"]

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351}
"""Number of the system call by machine: <asm/unistd.h>."""

ObjectName = ctypes.c_uint8 * 16
"""The name of a program or map; not of c_char, which would keep the end of a longer one."""


def object_name(name: str) -> ctypes.Array[ctypes.c_uint8]:
    """Return the beginning of a name, padded with zeros."""
    return ObjectName(*name.encode()[:15])


def bpf(command: int, attributes: ctypes.Structure) -> int:
    """Call bpf(2) with a union bpf_attr; return its result.  Raises OSError."""
    size = ctypes.c_uint(ctypes.sizeof(attributes))
    result = int(_libc().syscall(_number(), command, ctypes.byref(attributes), size))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@functools.lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.lru_cache(maxsize=1)
def _number() -> ctypes.c_long:
    return ctypes.c_long(BPF_SYSCALL[platform.machine()])
