# SPDX-License-Identifier: Apache-2.0
"""Compiled programs and the layouts of their maps, without file descriptors, so that a file can keep them.

Structures and commands: <linux/bpf.h>.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Optional

from probes.bpfcall import bpf

__all__ = ["Bytecode", "MapLayout", "create", "extract"]

_MAP_CREATE, _OBJ_GET_INFO_BY_FD = 0, 15
_INSTRUCTION = struct.Struct("=BBhi")
_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1


@dataclass(frozen=True)
class MapLayout:
    """The arguments of BPF_MAP_CREATE; type: of enum bpf_map_type."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True)
class Bytecode:
    """Programs and maps.

    compiler: version of bcc; programs: instructions by name, with the index of a map in place of its fd.
    """

    compiler: str
    maps: tuple[MapLayout, ...]
    programs: Mapping[str, bytes]

    def linked(self, name: str, fds: Sequence[int]) -> bytes:
        """Return the instructions of a program for maps with these fds, in the order of maps."""
        return _with_maps(self.programs[name], lambda index: fds[index])

    def encode(self) -> bytes:
        """Return the bytes that ``decode`` reads."""
        programs = {name: base64.b64encode(code).decode() for name, code in self.programs.items()}
        maps = [asdict(layout) for layout in self.maps]
        return json.dumps({"compiler": self.compiler, "maps": maps, "programs": programs}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Bytecode:
        """Decode what ``encode`` returned.  Raises ValueError, KeyError or TypeError if it is invalid."""
        found = json.loads(data)
        return cls(
            compiler=found["compiler"],
            maps=tuple(MapLayout(**layout) for layout in found["maps"]),
            programs={name: base64.b64decode(code) for name, code in found["programs"].items()},
        )


class _Create(ctypes.Structure):
    """union bpf_attr of BPF_MAP_CREATE."""

    _fields_ = [
        ("map_type", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("numa_node", ctypes.c_uint32),
        ("map_name", ctypes.c_char * 16),
    ]


class _Info(ctypes.Structure):
    """The beginning of struct bpf_map_info."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    ]


class _GetInfo(ctypes.Structure):
    """union bpf_attr of BPF_OBJ_GET_INFO_BY_FD."""

    _fields_ = [("bpf_fd", ctypes.c_uint32), ("info_len", ctypes.c_uint32), ("info", ctypes.c_uint64)]


def create(layout: MapLayout) -> int:
    """Create a map and return its fd.  Raises OSError."""
    attributes = _Create(
        map_type=layout.type,
        key_size=layout.key_size,
        value_size=layout.value_size,
        max_entries=layout.max_entries,
        map_flags=layout.flags,
        map_name=layout.name.encode()[:15],
    )
    try:
        return bpf(_MAP_CREATE, attributes)
    except OSError as error:
        if error.errno == errno.E2BIG:
            attributes.map_name = b""  # before 4.15 (commit ad5b177bd73f) maps have no names
            return bpf(_MAP_CREATE, attributes)
        raise OSError(error.errno, f"map {layout.name}: {os.strerror(error.errno or 0)}") from error


def extract(compiler: str, programs: Mapping[str, bytes], named: Mapping[str, int]) -> Bytecode:
    """Make bytecode from programs that refer to maps by fd.

    named: fds of the maps whose names matter, by name.  Raises OSError.
    """
    names = {fd: name for name, fd in named.items()}
    order = dict.fromkeys(names)

    def index(fd: int) -> int:
        order.setdefault(fd)
        return list(order).index(fd)

    unlinked = {name: _with_maps(code, index) for name, code in programs.items()}
    return Bytecode(compiler, tuple(_layout(fd, names.get(fd)) for fd in order), unlinked)


def _layout(fd: int, name: Optional[str]) -> MapLayout:
    info = _Info()
    bpf(_OBJ_GET_INFO_BY_FD, _GetInfo(bpf_fd=fd, info_len=ctypes.sizeof(info), info=ctypes.addressof(info)))
    return MapLayout(
        name=name or info.name.decode(),
        type=info.type,
        key_size=info.key_size,
        value_size=info.value_size,
        max_entries=info.max_entries,
        flags=info.map_flags,
    )


def _with_maps(code: bytes, change: Callable[[int], int]) -> bytes:
    """Return the instructions with the number of each map changed."""
    changed = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        opcode, registers, offset, value = _INSTRUCTION.unpack_from(code, at)
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            _INSTRUCTION.pack_into(changed, at, opcode, registers, offset, change(value))
    return bytes(changed)
