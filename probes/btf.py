# SPDX-License-Identifier: Apache-2.0
"""Byte offsets of kernel structure members, and ids of functions, read from the running kernel's BTF.

The kernel describes its own types in ``/sys/kernel/btf/vmlinux`` (since 5.4, CONFIG_DEBUG_INFO_BTF; also
RHEL 8.3 and later).  The format is documented in the kernel's Documentation/bpf/btf.rst.  Only what the
probes need is decoded: the offset of a member in its structure, and the type id of a function.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Optional

__all__ = ["VMLINUX_BTF", "Btf", "BtfError"]

VMLINUX_BTF = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_MAX_DEPTH = 64  # of nested structures, and of typedefs of typedefs; C code has far fewer
_KIND_STRUCT, _KIND_UNION, _KIND_FUNCTION = 4, 5, 12
_KIND_ALIASES = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag
# Bytes after the 12-byte common part, by kind: a fixed number, and a number for each of vlen elements.
_TAIL = {
    0: (0, 0),  # void
    1: (4, 0),  # int
    2: (0, 0),  # pointer
    3: (12, 0),  # array
    4: (0, 12),  # struct
    5: (0, 12),  # union
    6: (0, 8),  # enum
    7: (0, 0),  # forward
    8: (0, 0),  # typedef
    9: (0, 0),  # volatile
    10: (0, 0),  # const
    11: (0, 0),  # restrict
    12: (0, 0),  # function
    13: (0, 8),  # function prototype
    14: (4, 0),  # variable
    15: (0, 12),  # data section
    16: (0, 0),  # float
    17: (4, 0),  # declaration tag
    18: (0, 0),  # type tag
    19: (0, 12),  # enum64
}


class BtfError(Exception):
    """The BTF is absent or damaged, or lacks the requested structure, member or function."""


class Btf:
    """The types of one BTF file.

    Raises BtfError when the file cannot be read or is not BTF in this machine's byte order.
    """

    def __init__(self, path: Path = VMLINUX_BTF) -> None:
        try:
            data = path.read_bytes()
            magic, _version, _flags, header = struct.unpack_from("=HBBI", data)
            types_at, types_length, strings_at, strings_length = struct.unpack_from("=IIII", data, 8)
            if magic != _MAGIC:
                raise BtfError(f"{path}: not BTF in this machine's byte order")
            self._strings = data[header + strings_at :][:strings_length]
            self._types = data[header + types_at :][:types_length]
            self._positions: list[int] = [0]  # of each type id in the section; id 0 is void
            self._structures: dict[int, list[int]] = {}  # positions by offset of the name
            self._functions: dict[int, int] = {}  # type id, likewise
            self._index()
        except OSError as error:
            raise BtfError(f"{path}: {error.strerror}") from error
        except struct.error as error:
            raise BtfError(f"{path}: damaged BTF ({error})") from error

    def _index(self) -> None:
        unpack = struct.Struct("=II").unpack_from
        types, end, position = self._types, len(self._types), 0
        append = self._positions.append
        tails = [_TAIL.get(kind) for kind in range(32)]
        while position < end:
            append(position)
            name, info = unpack(types, position)
            kind = (info >> 24) & 0x1F
            tail = tails[kind]
            if tail is None:
                raise BtfError(f"BTF kind {kind} is newer than this program")
            if kind == _KIND_STRUCT:
                self._structures.setdefault(name, []).append(position)
            elif kind == _KIND_FUNCTION:
                self._functions.setdefault(name, len(self._positions) - 1)
            position += 12 + tail[0] + tail[1] * (info & 0xFFFF)

    def offset(self, structure: str, member: str) -> int:
        """Offset of a member in bytes from the start of its structure.

        Members of anonymous structures and unions inside count as the structure's own, as in C.  If several
        structures have the name, the first one with the member counts (structures inside functions can have
        the same name).  Raises BtfError when there is no such structure or member.
        """
        try:
            positions = self._structures.get(self._name(structure), [])
            if not positions:
                raise BtfError(f"no struct {structure}")
            for position in positions:
                offset = self._member(position, member)
                if offset is not None:
                    return offset
        except (struct.error, IndexError, ValueError) as error:
            raise BtfError(f"struct {structure}: damaged BTF ({error})") from error
        raise BtfError(f"struct {structure} has no member {member}")

    def function(self, name: str) -> int:
        """The type id of a kernel function, which attaching a program takes.  Raises BtfError."""
        found = self._functions.get(self._name(name))
        if found is None:
            raise BtfError(f"no function {name}")
        return found

    def _name(self, text: str) -> int:
        """Offset of a whole name among the strings; 0 if there is none."""
        return self._strings.find(b"\0" + text.encode() + b"\0") + 1

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _member(self, position: int, member: str, depth: int = 0) -> Optional[int]:
        """Offset of a member of the structure or union at a position, or None."""
        if depth > _MAX_DEPTH:
            raise BtfError("damaged BTF (structures nested without end)")
        info = struct.unpack_from("=I", self._types, position + 4)[0]
        bitfields = info >> 31
        for index in range(info & 0xFFFF):
            name, type_id, bits = struct.unpack_from("=III", self._types, position + 12 + 12 * index)
            offset = int(bits & 0xFFFFFF if bitfields else bits) // 8
            if name:
                if self._string(name) == member:
                    return offset
                continue
            inner = self._structure(type_id)
            nested = None if inner is None else self._member(inner, member, depth + 1)
            if nested is not None:
                return offset + nested
        return None

    def _structure(self, type_id: int) -> Optional[int]:
        """Position of the structure or union behind a type id, through typedefs and qualifiers; or None."""
        for _ in range(_MAX_DEPTH):
            position = self._positions[type_id]
            info, target = struct.unpack_from("=II", self._types, position + 4)
            kind = (info >> 24) & 0x1F
            if kind in (_KIND_STRUCT, _KIND_UNION):
                return position
            if kind not in _KIND_ALIASES:
                return None
            type_id = target
        raise BtfError("damaged BTF (a type without end)")
