# SPDX-License-Identifier: Apache-2.0
"""Writes small BTF files (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = ["Builder", "Member"]  # and the kinds

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)

Member = tuple[str, int, int]  # name, type id, offset in bits


class Builder:
    """Writes BTF (Documentation/bpf/btf.rst); each method that adds a type returns its id."""

    def __init__(self, order: str = "=") -> None:
        self._order = order
        self._strings = bytearray(b"\0")
        self._types = bytearray()
        self._next = 1

    def _string(self, text: str) -> int:
        """The offset of a string, which the section has once."""
        entry = b"\0" + text.encode() + b"\0"
        if not text:
            return 0
        if entry not in self._strings:
            self._strings += entry[1:]
        return self._strings.index(entry) + 1

    def add(
        self, kind: int, name: str = "", word: int = 0, tail: bytes = b"", vlen: int = 0, flag: int = 0
    ) -> int:
        """word: size or type."""
        info = flag << 31 | kind << 24 | vlen
        self._types += struct.pack(f"{self._order}III", self._string(name), info, word) + tail
        self._next += 1
        return self._next - 1

    def integer(self) -> int:
        return self.add(INT, "int", 4, struct.pack(f"{self._order}I", 32))

    def structure(
        self, name: str, members: Sequence[Member], kind: int = STRUCT, bitfields: bool = False
    ) -> int:
        tail = b"".join(struct.pack(f"{self._order}III", self._string(n), t, o) for n, t, o in members)
        return self.add(kind, name, 64, tail, len(members), int(bitfields))

    def bytes(self) -> bytes:
        order, types, strings = self._order, bytes(self._types), bytes(self._strings)
        head = struct.pack(f"{order}HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
        return head + types + strings
