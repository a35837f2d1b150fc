# SPDX-License-Identifier: Apache-2.0
"""probes.stacks: which stacks are still valid, and the symbols of their addresses."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Optional

import pytest

from probes.bpfmap import BpfMap
from probes.records import Stack
from probes.stacks import ForkStacks, NameOf, Symbol, symbolise

PID = 41

MAPS = """\
55d000000000-55d000001000 r--p 00000000 08:01 11   /usr/bin/program
55d000001000-55d000003000 r-xp 00001000 08:01 11   /usr/bin/program
7f0000000000-7f0000026000 r--p 00000000 08:01 12   /usr/lib/libc.so.6
7f0000026000-7f0000100000 r-xp 00026000 08:01 12   /usr/lib/libc.so.6
7f0000200000-7f0000201000 r-xp 00000000 00:00 0
7f0000300000-7f0000301000 r-xp 00002000 08:01 13   /tmp/odd  name\x1b[31m (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]
"""


class FakeMap(BpfMap[Stack]):
    """The map ``stacks``, a dictionary."""

    def __init__(self, stacks: dict[int, Stack]) -> None:
        self.stacks = stacks

    def get(self, key: object) -> Optional[Stack]:
        assert isinstance(key, int)
        return self.stacks.get(key)

    def delete(self, key: object) -> None:
        assert isinstance(key, int)
        del self.stacks[key]

    def keys(self) -> Iterator[bytes]:
        return (key.to_bytes(4, sys.byteorder) for key in list(self.stacks))


def stack(*addresses: int) -> Stack:
    kept = Stack()
    for number, address in enumerate(addresses):
        kept.ip[number] = address
    return kept


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / str(PID)).mkdir()
    (tmp_path / str(PID) / "maps").write_text(MAPS)
    return tmp_path


def naming(names: dict[int, str]) -> contextlib.AbstractContextManager[NameOf]:
    return contextlib.nullcontext(names.get)


@pytest.fixture
def bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name, which ForkStacks imports ahead of need."""
    monkeypatch.setitem(sys.modules, "bcc", ModuleType("bcc"))


@pytest.mark.usefixtures("bcc")
def test_addresses() -> None:
    stacks = ForkStacks(FakeMap({6: stack(10, 20)}))
    assert stacks.addresses(7, born=5) == (
        10,
        20,
    )  # in structures 0 means none, so an id is one more than its key
    assert stacks.addresses(0, born=5) == ()
    assert stacks.addresses(8, born=5) == ()


@pytest.mark.usefixtures("bcc")
def test_a_deleted_stack_is_not_mistaken_for_the_one_that_has_its_id_now() -> None:
    fake = FakeMap({6: stack(10), 7: stack(20)})
    stacks = ForkStacks(fake)
    before = time.monotonic_ns()
    stacks.make_room(used={8})
    assert list(fake.stacks) == [7]
    fake.stacks[6] = stack(30)  # of another fork
    assert stacks.addresses(7, born=before) == ()
    assert stacks.addresses(7, born=time.monotonic_ns() + 1) == (30,)
    assert stacks.addresses(8, born=before) == (20,)


def test_names_and_files(proc: Path) -> None:
    asked: list[int] = []

    @contextlib.contextmanager
    def names(pid: int) -> Iterator[NameOf]:
        asked.append(pid)
        yield {0x7F0000030010: "_Fork", 0x55D00000200F: "main"}.get

    found = symbolise(PID, [0x7F0000030010, 0x7F0000040000, 0x55D000002010], names, proc)
    assert found == [
        Symbol("_Fork", "/usr/lib/libc.so.6"),
        Symbol("0x3ffff", "/usr/lib/libc.so.6"),  # a return address: the call is before it
        Symbol("main", "/usr/bin/program"),
    ]
    assert asked == [PID]


def test_code_without_a_file(proc: Path) -> None:
    assert symbolise(PID, [0x7F0000200010], lambda _pid: naming({}), proc) == [Symbol("0x7f0000200010", None)]


@pytest.mark.parametrize("stray", [0x1, 0x7FFC00000010, 0x55D000000010, 0xFFFFFFFFFFFFFFFF])
def test_the_stack_ends_where_there_is_no_code(stray: int, proc: Path) -> None:
    addresses = [0x7F0000030010, stray, 0x55D000002010]
    assert len(symbolise(PID, addresses, lambda _pid: naming({}), proc)) == 1


def test_a_process_that_is_gone_leaves_the_addresses(proc: Path) -> None:
    found = symbolise(PID + 1, [0x10, 0x20], lambda _pid: naming({0x10: "never asked"}), proc)
    assert found == [Symbol("0x10", None), Symbol("0x20", None)]


def test_names_are_bounded(proc: Path) -> None:
    maps = f"10000-20000 r-xp 00000000 08:01 11   /{'x' * 5000}\n"
    (proc / str(PID) / "maps").write_text(maps)
    [symbol] = symbolise(PID, [0x10010], lambda _pid: naming({0x10010: "f" * 5000}), proc)
    assert len(symbol.name) <= 200
    assert symbol.file is not None
    assert len(symbol.file) <= 256


def test_odd_file_names(proc: Path) -> None:
    [symbol] = symbolise(PID, [0x7F0000300010], lambda _pid: naming({}), proc)
    assert symbol == Symbol("0x2010", "/tmp/odd  name\x1b[31m (deleted)")


def test_real_names() -> None:
    """A libc function in this process, by bcc."""
    pytest.importorskip("bcc")
    address = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert address is not None
    [symbol] = symbolise(os.getpid(), [address + 1])
    assert "getpid" in symbol.name
    assert symbol.file is not None
    assert "libc" in symbol.file
