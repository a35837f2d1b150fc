# SPDX-License-Identifier: Apache-2.0
"""agent.host.procfs: on a fake tree of files, and on this process."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.host.procfs import (
    PROC,
    comm_of,
    contents,
    descendants,
    has_exited,
    has_open,
    has_run,
    is_alive,
    is_blocked_on,
    is_exiting,
    is_in_exec,
    is_stopped,
    pids,
    pipe_inode,
    pipe_links,
    still_has,
    thread_has_exited,
    write_ends,
)
from tests.unit.samples import FakeProc

WRITE_ONLY, READ_ONLY, READ_WRITE = "0100001", "0100000", "0100002"
WRITE_ONLY_CLOEXEC = "02000001"
READ_ONLY_CLOEXEC = "02000000"
_MANY = 1000


def holders(inodes: Collection[int], proc: Path = PROC) -> dict[int, dict[int, list[int]]]:
    """What ``write_ends`` returns for all processes: for each inode, fds by pid."""
    found: dict[int, dict[int, list[int]]] = {}
    for pid in pids(proc):
        ends, complete = write_ends(pid, pipe_links(inodes), _MANY, proc)
        assert complete
        for inode, fds in ends.items():
            found.setdefault(inode, {})[pid] = fds
    return found


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def test_contents_are_complete(tmp_path: Path) -> None:
    text = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(text)
    assert contents(str(tmp_path / "file")) == text


def test_contents_are_bounded(tmp_path: Path) -> None:
    """The fdinfo of an epoll with a million files has 80 MB."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 30)
    assert 1 << 20 <= len(contents(str(tmp_path / "file"))) < 1 << 21


# -- is_alive, comm_of --


def test_is_alive(proc: FakeProc) -> None:
    proc.process(20)
    proc.process(21, tgid=20)
    assert is_alive(20, proc.root)
    assert not is_alive(21, proc.root)  # a thread
    assert not is_alive(2, proc.root)
    assert not is_alive(22, proc.root)


def test_a_status_that_is_not_text(proc: FakeProc) -> None:
    proc.process(20)
    (proc.root / "20/status").write_bytes(b"Name:\t\xff\xfe\nTgid:\t20\n")
    assert is_alive(20, proc.root)


def test_a_comm_cannot_fake_a_tgid(proc: FakeProc) -> None:
    """The kernel escapes a newline in Name: as a backslash and an n."""
    proc.process(21, tgid=20)
    (proc.root / "21/status").write_text("Name:\t\\nTgid:\t21\nTgid:\t20\n")
    assert not is_alive(21, proc.root)


@pytest.mark.parametrize(
    "comm", [b"python3", b"", b"a b) S 1 (c", b"\xff\x1b[31m", b" spaces ", b"two\nlines"]
)
def test_comm_of(comm: bytes, proc: FakeProc) -> None:
    proc.process(20, comm=comm)
    assert comm_of(20, proc.root) == comm


def test_comm_of_a_process_that_is_gone(proc: FakeProc) -> None:
    assert comm_of(20, proc.root) == b""


# -- descendants --


def test_descendants(proc: FakeProc) -> None:
    #     1 -> 10 -> 20 -> 30
    #          10 -> 21
    #     1 -> 11 -> 22
    for pid, parent in ((1, 0), (10, 1), (20, 10), (21, 10), (30, 20), (11, 1), (22, 11)):
        proc.process(pid, parent)
    assert sorted(descendants(10, proc.root)) == [20, 21, 30]
    assert sorted(descendants(1, proc.root)) == [10, 11, 20, 21, 22, 30]
    assert descendants(30, proc.root) == []
    assert descendants(99, proc.root) == []


@pytest.mark.parametrize(
    "comm", [b"a b", b")", b"x) S 99 (y", b"(((", b"\xff", b"new\nline", b"", b") 1 1 1"]
)
def test_a_comm_can_contain_anything(comm: bytes, proc: FakeProc) -> None:
    proc.process(20, parent=10, comm=comm)
    assert descendants(10, proc.root) == [20]
    assert descendants(99, proc.root) == []


def test_a_process_that_exits_while_it_is_read(proc: FakeProc) -> None:
    proc.process(20, parent=10)
    (proc.process(21, parent=10) / "stat").unlink()
    assert descendants(10, proc.root) == [20]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_a_malformed_stat(proc: FakeProc, garbage: bytes) -> None:
    if not (proc.root / "20").exists():
        proc.process(20, parent=10)
        proc.process(21, parent=10)
    (proc.root / "21/stat").write_bytes(garbage)
    assert 20 in descendants(10, proc.root)


def test_parents_in_a_circle(proc: FakeProc) -> None:
    """Pids are reused while the tree is read."""
    proc.process(20, parent=21)
    proc.process(21, parent=20)
    assert sorted(descendants(20, proc.root)) == [20, 21]


def test_entries_that_are_not_processes(proc: FakeProc) -> None:
    proc.process(20, parent=10)
    (proc.root / "self").symlink_to("20")
    (proc.root / "sys").mkdir()
    (proc.root / "uptime").write_text("1 1\n")
    assert descendants(10, proc.root) == [20]


# -- pipes --


def test_pipe_inode(proc: FakeProc) -> None:
    proc.process(20)
    proc.fd(20, 3, "pipe:[123]")
    proc.fd(20, 4, "anon_inode:[123]")
    proc.fd(20, 5, "/tmp/pipe:[123]")
    proc.fd(20, 6, "anon_inode:[eventpoll]")
    proc.fd(20, 7, "pipe:[18446744073709551615]")
    assert pipe_inode(20, 3, proc.root) == 123
    assert [pipe_inode(20, fd, proc.root) for fd in (4, 5, 6)] == [None, None, None]
    assert pipe_inode(20, 7, proc.root) == 2**64 - 1
    assert pipe_inode(20, 99, proc.root) is None
    assert pipe_inode(99, 3, proc.root) is None


@pytest.mark.parametrize("flags", [WRITE_ONLY, WRITE_ONLY_CLOEXEC, READ_WRITE])
def test_a_holder(flags: str, proc: FakeProc) -> None:
    proc.process(20)
    proc.fd(20, 0, "/dev/null", READ_ONLY)
    proc.fd(20, 3, "pipe:[123]", flags)
    proc.fd(20, 7, "pipe:[124]")
    assert holders({123}, proc.root) == {123: {20: [3]}}


@pytest.mark.parametrize("flags", [READ_ONLY, READ_ONLY_CLOEXEC])
def test_a_read_only_fd_is_not_a_holder(flags: str, proc: FakeProc) -> None:
    proc.process(20)
    proc.fd(20, 3, "pipe:[123]", flags)
    assert holders({123}, proc.root) == {}


def test_a_read_end_beside_the_write_end(proc: FakeProc) -> None:
    proc.process(20)
    proc.fd(20, 3, "pipe:[123]", READ_ONLY)
    proc.fd(20, 4, "pipe:[123]", WRITE_ONLY)
    assert holders({123}, proc.root) == {123: {20: [4]}}


def test_another_pipe_does_not_match(proc: FakeProc) -> None:
    proc.process(20)
    proc.fd(20, 3, "pipe:[1234]")
    proc.fd(20, 4, "anon_inode:[123]")
    assert holders({123}, proc.root) == {}


@pytest.mark.parametrize("forbidden", ["open", "scandir", "readlink"])
def test_a_process_that_cannot_be_read(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    proc.process(20)
    proc.fd(20, 3, "pipe:[123]")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, forbidden, refuse)
    assert holders({123}, proc.root) == {}


def test_an_fd_that_is_closed_while_it_is_read(proc: FakeProc) -> None:
    proc.process(20)
    proc.fd(20, 3, "pipe:[123]", flags=None)
    assert holders({123}, proc.root) == {}


def test_an_fdinfo_without_flags(proc: FakeProc) -> None:
    proc.process(20)
    proc.fd(20, 3, "pipe:[123]")
    for text in ("", "pos:\t0\n", "\n\n"):
        (proc.root / "20/fdinfo/3").write_text(text)
        assert holders({123}, proc.root) == {}


def test_holders_of_several_pipes(proc: FakeProc) -> None:
    for pid in (20, 21, 22, 23):
        proc.process(pid)
    proc.fd(20, 3, "pipe:[123]", READ_ONLY)
    proc.fd(20, 4, "pipe:[123]", WRITE_ONLY)
    proc.fd(20, 5, "pipe:[123]", WRITE_ONLY_CLOEXEC)
    proc.fd(21, 4, "pipe:[123]", READ_WRITE)
    proc.fd(21, 5, "pipe:[124]")
    proc.fd(22, 3, "pipe:[123]", READ_ONLY)
    proc.fd(22, 4, "anon_inode:[123]")
    proc.fd(22, 5, "pipe:[125]", flags=None)  # closed while it is read
    (proc.root / "23/fdinfo").rmdir()
    (proc.root / "23/fd").rmdir()
    (proc.root / "meminfo").touch()
    found = holders({123, 125, 126}, proc.root)
    assert {inode: {pid: sorted(fds) for pid, fds in by.items()} for inode, by in found.items()} == {
        123: {20: [4, 5], 21: [4]}
    }
    assert holders({124}, proc.root) == {124: {21: [5]}}
    assert holders((), proc.root) == {}


def test_a_process_with_more_fds_than_are_read(proc: FakeProc) -> None:
    proc.process(20)
    for fd in range(10):
        proc.fd(20, fd, "pipe:[123]", WRITE_ONLY)
    found, complete = write_ends(20, pipe_links({123}), 4, proc.root)
    assert (len(found[123]), complete) == (4, False)
    found, complete = write_ends(20, pipe_links({123}), 10, proc.root)
    assert (len(found[123]), complete) == (10, True)


# -- the real /proc --


def test_this_process() -> None:
    read_end, write_end = os.pipe()
    try:
        inode = pipe_inode(os.getpid(), read_end)
        assert inode == os.fstat(read_end).st_ino == pipe_inode(os.getpid(), write_end)
        assert inode is not None
        assert holders({inode})[inode] == {os.getpid(): [write_end]}
        os.close(write_end)
        write_end = -1
        assert holders({inode}) == {}
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)


def test_a_child_of_this_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in descendants(os.getpid())
        assert is_alive(child.pid)
        child.communicate(b"\n")
    assert not is_alive(child.pid)
    assert comm_of(child.pid) == b""


def test_a_process_that_exits_has_exited_before_it_is_a_zombie(proc: FakeProc) -> None:
    folder = proc.process(20)
    for threads, exited in (({20: 0x4, 21: 0}, False), ({20: 0x4, 21: 0x4}, True), ({}, True)):
        for tid, flags in threads.items():
            (folder / "task" / str(tid)).mkdir(parents=True, exist_ok=True)
            (folder / f"task/{tid}/stat").write_text(f"{tid} (x) R 1 1 1 0 -1 {flags}\n")
            assert thread_has_exited(20, tid, proc.root) is bool(flags)
        assert (has_exited(20, proc.root), is_exiting(20, proc.root)) == (exited, exited)
    (folder / "status").write_text("Name:\tx\nState:\tZ\nTgid:\t20\nThreads:\t1\n")
    assert (has_exited(20, proc.root), is_exiting(20, proc.root)) == (True, False)
    assert thread_has_exited(20, 22, proc.root)


def test_a_thread_is_not_a_process() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert not is_alive(thread.native_id)
        assert is_alive(os.getpid())
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("syscall", "blocked"),
    [
        ("45 0x7 0x7ffc 0x8 0x0 0x0 0x0 0x7ffc 0x7f12\n", True),
        ("45 0x8 0x7ffc 0x8 0x0 0x0 0x0 0x7ffc 0x7f12\n", False),
        ("running\n", False),
        ("-1 0x7 0x7f12\n", False),
        ("", False),
    ],
)
def test_is_blocked_on(syscall: str, blocked: bool, tmp_path: Path) -> None:
    folder = tmp_path / "5" / "task" / "6"
    folder.mkdir(parents=True)
    assert is_blocked_on(5, 6, 7, tmp_path) is False
    (folder / "syscall").write_text(syscall)
    assert is_blocked_on(5, 6, 7, tmp_path) is blocked


_READ, _EXEC, _EXECAT = "0 0x3 0x0\n", "59 0x55d0 0x0\n", "322 0x3 0x0\n"


@pytest.mark.parametrize(
    ("threads", "in_exec"),
    [
        ((_EXEC,), True),
        ((_EXECAT,), True),
        ((_READ, _EXEC), True),
        (("running\n", _EXEC), True),
        (("", _EXEC), True),
        ((None, _EXEC), True),  # has exited in the meantime
        ((_READ,), False),
        (("running\n",), False),
        (("-1 0x7 0x7f12\n",), False),
        (("",), False),
        ((None,), False),
        ((), False),
    ],
)
def test_is_in_exec(
    threads: tuple[Optional[str], ...], in_exec: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert is_in_exec(5, tmp_path) is False  # no such process
    # The order of threads does not matter.
    for pid, order in ((5, threads), (6, threads[::-1])):
        (tmp_path / str(pid) / "task").mkdir(parents=True)
        for tid, syscall in enumerate(order, pid):
            folder = tmp_path / str(pid) / "task" / str(tid)
            folder.mkdir()
            if syscall is not None:
                (folder / "syscall").write_text(syscall)
        assert is_in_exec(pid, tmp_path) is in_exec


def test_is_in_exec_on_an_unknown_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    (tmp_path / "5/task/5").mkdir(parents=True)
    (tmp_path / "5/task/5/syscall").write_text(_EXEC)
    assert is_in_exec(5, tmp_path) is False


def test_is_stopped() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        try:
            assert not is_stopped(process.pid, process.pid)
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            assert is_stopped(process.pid, process.pid)
        finally:
            process.kill()
    assert not is_stopped(process.pid, process.pid)


@pytest.mark.parametrize(
    ("wchan", "expected"),
    [
        (b"do_freezer_trap", True),
        (b"get_signal", True),
        (b"__refrigerator", True),
        (b"anon_pipe_read", False),
        (b"0", False),
    ],
)
def test_a_frozen_thread_is_stopped(wchan: bytes, expected: bool, proc: FakeProc) -> None:
    task = proc.process(20) / "task" / "21"
    task.mkdir(parents=True)
    (task / "status").write_text("Name:\tx\nState:\tS (sleeping)\n")
    assert not is_stopped(20, 21, proc.root)
    (task / "wchan").write_bytes(wchan)
    assert is_stopped(20, 21, proc.root) == expected


def test_still_has() -> None:
    read_end, write_end = os.pipe()
    inode = os.fstat(write_end).st_ino
    own = os.getpid()
    try:
        assert still_has(own, [write_end + 1000, write_end], inode)
        assert still_has(own, [], 0)
        assert not still_has(own, [write_end], inode + 1)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert not still_has(own, [write_end], inode)
    assert not still_has(1 << 22, [write_end], inode)


def test_this_process_has_run() -> None:
    assert has_run(os.getpid())


@pytest.mark.parametrize(
    ("counts", "own", "expected"),
    [("0 52 0", "9 9 9", False), ("17 0 1", "9 9 9", True), ("0 0 0", "0 0 0", True), (None, "9 9 9", True)],
)
def test_a_process_that_has_not_run_yet(
    counts: Optional[str], own: str, expected: bool, proc: FakeProc
) -> None:
    """If this process has not run either, the kernel does not count."""
    for name, text in (("20", counts), ("self", own)):
        (proc.root / name).mkdir()
        if text is not None:
            (proc.root / name / "schedstat").write_text(f"{text}\n")
    assert has_run(20, proc.root) == expected


def test_has_open_finds_a_moved_fd() -> None:
    read_end, write_end = os.pipe()
    inode = os.fstat(write_end).st_ino
    try:
        assert has_open(os.getpid(), write_end, inode)
        assert has_open(os.getpid(), write_end + 1000, inode)
        assert has_open(os.getpid(), write_end, 0)
    finally:
        os.close(read_end)
        os.close(write_end)
    assert not has_open(os.getpid(), write_end, inode)
    assert not has_open(1 << 22, write_end, inode)


@pytest.mark.parametrize(
    ("flags", "threads", "expected"), [(0, 1, True), (0x40444, 1, False), (0x404, 2, True)]
)
def test_an_exiting_process_has_nothing(flags: int, threads: int, expected: bool, proc: FakeProc) -> None:
    """Its files are closed a moment later; a main thread can exit alone."""
    proc.process(20)
    proc.fd(20, 3, "pipe:[123]")
    fields = [str(number) for number in range(3, 53)]
    fields[0], fields[9 - 3], fields[20 - 3] = "S", str(flags), str(threads)
    (proc.root / "20" / "stat").write_text(f"20 (a b) {' '.join(fields)}\n")
    assert still_has(20, [3], 123, proc.root) == expected
