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
from pathlib import Path

from probes.bpfcall import ObjectName, bpf, object_name

__all__ = ["Bytecode", "MapLayout", "create", "extract"]

_MAP_CREATE = 0
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
        ("map_name", ObjectName),
    ]


def create(layout: MapLayout) -> int:
    """Create a map and return its fd.  Raises OSError."""
    attributes = _Create(
        map_type=layout.type,
        key_size=layout.key_size,
        value_size=layout.value_size,
        max_entries=layout.max_entries,
        map_flags=layout.flags,
        map_name=object_name(layout.name),
    )
    try:
        try:
            return bpf(_MAP_CREATE, attributes)
        except OSError as error:
            if error.errno not in (errno.E2BIG, errno.EINVAL):
                raise
        attributes.map_name = object_name("")  # before 4.15 (commit ad5b177bd73f) maps have no names
        return bpf(_MAP_CREATE, attributes)
    except OSError as error:
        raise OSError(error.errno, f"map {layout.name}: {os.strerror(error.errno or 0)}") from error


def extract(compiler: str, programs: Mapping[str, bytes], maps: Mapping[str, int]) -> Bytecode:
    """Make bytecode from programs that refer to maps by fd.

    maps: fds of all maps by name.  Raises OSError.
    """
    order = {fd: index for index, fd in enumerate(maps.values())}
    unlinked = {name: _with_maps(code, order.__getitem__) for name, code in programs.items()}
    return Bytecode(compiler, tuple(_layout(name, fd) for name, fd in maps.items()), unlinked)


def _layout(name: str, fd: int) -> MapLayout:
    """From fdinfo, because BPF_OBJ_GET_INFO_BY_FD is as late as 4.13 (commit 1e2709769086)."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    fields = {field: value for field, _, value in (line.partition(":") for line in lines)}
    return MapLayout(
        name=name,
        type=int(fields["map_type"]),
        key_size=int(fields["key_size"]),
        value_size=int(fields["value_size"]),
        max_entries=int(fields["max_entries"]),
        flags=int(fields["map_flags"], 16),
    )


def _with_maps(code: bytes, change: Callable[[int], int]) -> bytes:
    """Return the instructions with the number of each map changed."""
    changed = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        opcode, registers, offset, value = _INSTRUCTION.unpack_from(code, at)
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            _INSTRUCTION.pack_into(changed, at, opcode, registers, offset, change(value))
    return bytes(changed)
