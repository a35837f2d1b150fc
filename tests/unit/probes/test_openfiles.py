# SPDX-License-Identifier: Apache-2.0
"""probes.openfiles and probes.iterator: their requests to the kernel, and its answers."""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Any

import pytest

from probes import iterator, openfiles
from probes.openfiles import Copy, OpenFiles

A, B, C = 0xFFFF888100000000, 0xFFFF888100000100, 0xFFFF888100000200

INODE = 1001


def pipes(*addresses: int) -> dict[int, int]:
    """Invented inodes by address."""
    return dict.fromkeys(addresses, INODE)


def records(*copies: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=QIIII", *copy, 0) for copy in copies)


class Kernel:
    """A map, and an iterator that reports the copies of the pipes in the map."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.map: dict[int, int] = {}
        self.most = 0
        self.calls: list[tuple[str, int]] = []
        self.passes = 0
        self.holds: list[tuple[int, int, int, int]] = []
        monkeypatch.setattr(iterator, "run", self.run)

    def run(self, link: int) -> Generator[bytes, None, None]:
        """Two copies in each part."""
        assert link == 7
        self.passes += 1
        asked = [copy for copy in self.holds if copy[0] in self.map]
        for at in range(0, len(asked), 2):
            yield records(*asked[at : at + 2])

    def set(self, key: int, value: int) -> None:
        self.calls.append(("set", key))
        self.map[key] = value
        self.most = max(self.most, len(self.map))

    def delete(self, key: int) -> None:
        self.calls.append(("delete", key))
        del self.map[key]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def files(kernel: Any) -> OpenFiles:
    return OpenFiles(7, kernel)


def test_copies_by_pipe(kernel: Kernel) -> None:
    kernel.holds = [(A, 1, 1, 3), (B, 2, 2, 4), (A, 2, 2, 5), (C, 9, 9, 9)]
    assert files(kernel).holders(pipes(A, B)) == {
        A: [Copy(A, 1, 1, 3), Copy(A, 2, 2, 5)],
        B: [Copy(B, 2, 2, 4)],
    }
    assert kernel.passes == 1


def test_a_pipe_without_holders(kernel: Kernel) -> None:
    assert files(kernel).holders(pipes(A)) == {A: []}


def test_no_pipes_make_no_pass(kernel: Kernel) -> None:
    assert files(kernel).holders(pipes()) == {}
    assert kernel.passes == 0


def test_an_unknown_pipe_is_left_out(kernel: Kernel) -> None:
    """0 is the private data of many files that are not pipes."""
    asked = files(kernel)
    assert asked.holders(pipes(0)) == {}
    assert asked.holders(pipes(0, A)) == {A: []}
    assert kernel.map == pipes(A)


def test_copies_that_are_reported_for_each_thread_count_once(kernel: Kernel) -> None:
    kernel.holds = [(A, 1, 1, 3), (A, 1, 5, 3), (A, 1, 6, 3), (A, 1, 1, 4), (A, 2, 2, 3)]
    assert files(kernel).holders(pipes(A)) == {A: [Copy(A, 1, 1, 3), Copy(A, 1, 1, 4), Copy(A, 2, 2, 3)]}


def test_no_more_copies_of_a_pipe_than_asked_for(kernel: Kernel) -> None:
    kernel.holds = [(A, 1, 1, 3), (A, 2, 2, 3), (A, 2, 9, 3), (B, 1, 1, 4), (A, 3, 3, 3)]
    asked = files(kernel)
    assert asked.holders(pipes(A, B), most=2) == {
        A: [Copy(A, 1, 1, 3), Copy(A, 2, 2, 3)],
        B: [Copy(B, 1, 1, 4)],
    }
    assert asked.left_out
    asked.holders(pipes(A, B), most=3)
    assert not asked.left_out


def test_a_pass_ends_when_its_time_is_over(kernel: Kernel) -> None:
    kernel.holds = [(A, pid, pid, 3) for pid in range(1, 7)]
    asked = files(kernel)
    times = iter((False, True))
    assert [copy.pid for copy in asked.holders(pipes(A), lambda: next(times))[A]] == [1, 2, 3, 4]
    assert asked.left_out


def test_only_the_difference_is_written(kernel: Kernel) -> None:
    asked = files(kernel)
    asked.holders(pipes(A, B))
    kernel.calls.clear()
    asked.holders(pipes(B, A, A))
    assert kernel.calls == []
    asked.holders(pipes(B, C))
    assert kernel.calls == [("delete", A), ("set", C)]
    assert kernel.map == pipes(B, C)


def test_another_pipe_gets_the_address(kernel: Kernel) -> None:
    asked = files(kernel)
    asked.holders({A: 1, B: 1})
    kernel.calls.clear()
    asked.holders({A: 2, B: 1})
    assert kernel.calls == [("set", A)]
    assert kernel.map == {A: 2, B: 1}


def test_a_failed_write_is_repeated_by_the_next_call(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = files(kernel)
    asked.holders(pipes(A))

    def refuse(key: int, value: int) -> None:
        raise OSError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "set", refuse)
        with pytest.raises(OSError, match="no memory"):
            asked.holders(pipes(B))
    assert kernel.map == {}
    kernel.holds = [(B, 1, 1, 3)]
    assert asked.holders(pipes(B)) == {B: [Copy(B, 1, 1, 3)]}


def test_more_pipes_than_the_map_has_room_for(kernel: Kernel) -> None:
    many = range(1, 2 * openfiles._MAX_ASKED + 3)
    assert len(files(kernel).holders(pipes(*many))) == len(many)
    assert kernel.passes == 3
    assert kernel.most == openfiles._MAX_ASKED


def test_the_size_of_the_map_is_the_same_in_c(repo_root: Any) -> None:
    source = (repo_root / "probes" / "openfiles.bpf.c").read_text()
    assert f"#define MAX_ASKED {openfiles._MAX_ASKED} " in source


def test_reading_goes_on_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN means a million files without a copy among them."""
    says: list[Any] = [b"ab", BlockingIOError(), BlockingIOError(), b"c", b""]
    closed: list[int] = []

    def read(fd: int, size: int) -> bytes:
        said = says.pop(0)
        if isinstance(said, Exception):
            raise said
        assert (fd, isinstance(said, bytes)) == (9, True)
        return bytes(said)

    monkeypatch.setattr(iterator, "bpf", lambda command, attributes: 9)
    monkeypatch.setattr("os.read", read)
    monkeypatch.setattr("os.close", closed.append)
    assert list(iterator.run(7)) == [b"ab", b"", b"", b"c"]
    assert closed == [9]


def test_a_pass_that_fails_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    def read(fd: int, size: int) -> bytes:
        raise MemoryError

    monkeypatch.setattr(iterator, "bpf", lambda command, attributes: 9)
    with monkeypatch.context() as patch:
        patch.setattr("os.read", read)
        patch.setattr("os.close", closed.append)
        with pytest.raises(MemoryError):
            list(iterator.run(7))
    assert closed == [9]
