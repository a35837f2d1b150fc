# SPDX-License-Identifier: Apache-2.0
"""probes.bytecode: instructions without file descriptors, written and read."""

from __future__ import annotations

import struct

import pytest

from probes import bytecode
from probes.bytecode import Bytecode, MapLayout

_MAP_IN_R1 = 0x18, 1 << 4 | 1, 0


def _code(*values: int) -> bytes:
    """Loads the addresses of maps (each in two instructions), and a number that looks like an fd."""
    loads = b"".join(
        struct.pack("=BBhi", *_MAP_IN_R1, value) + struct.pack("=BBhi", 0, 0, 0, 0) for value in values
    )
    return loads + struct.pack("=BBhi", 0xB7, 0, 0, 7) + struct.pack("=BBhi", 0x95, 0, 0, 0)


def _layout(name: str, _fd: int) -> MapLayout:
    return MapLayout(name, 2, 4, 8, 1, 0)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Bytecode:
    monkeypatch.setattr(bytecode, "_layout", _layout)
    maps = {"asked": 9, "calls": 7, "unused": 6, "made": 5}
    return bytecode.extract("0.26", {"one": _code(7, 9), "two": _code(9, 5)}, maps)


def test_maps_are_numbered_and_linked_to_others(made: Bytecode) -> None:
    assert [layout.name for layout in made.maps] == ["asked", "calls", "unused", "made"]
    assert made.programs["one"] == _code(1, 0)
    assert made.linked("one", [30, 31, 32, 33]) == _code(31, 30)
    assert made.linked("two", [30, 31, 32, 33]) == _code(30, 33)


def test_it_is_the_same_when_read_back(made: Bytecode) -> None:
    assert Bytecode.decode(made.encode()) == made


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"compiler": 1, "maps": [{}], "programs": {}}', b"\xff"]
)
def test_something_else_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Bytecode.decode(data)
