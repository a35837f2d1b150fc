# SPDX-License-Identifier: Apache-2.0
"""agent.snapshot: every decision, on trees of files and on this very process."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import snapshot
from agent.snapshot import Finding, take

_TICKS = os.sysconf("SC_CLK_TCK")
_CALLS = snapshot._CALLS.get(os.uname().machine, snapshot._CALLS_ELSEWHERE)
_READ_NUMBER = next(number for number, name in _CALLS.items() if name == "read")
_EXITING, _FORKED, _EXECED = 0x4, 0x40, 0
_PIPE = "pipe:[77]"
_PARENT, _THREAD, _OWN, _WORKER, _OTHER = 100, 101, 200, 150, 300
_MADE = 50.0  # the pipe, in seconds since the boot
_BOOT = 1_000_000_000.0


class _Host:
    """A tree of files in the place of /proc: a parent whose thread is blocked in read(3) on a pipe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process(1, 0, start=0)
        self.process(_PARENT, 1, start=10, threads=2)
        self.thread(_PARENT, _PARENT, start=10)
        self.thread(_PARENT, _THREAD, start=11)
        self.read(50000)
        self.fd(f"{_PARENT}/task/{_THREAD}", 3, "02000000")
        self.fd(str(_PARENT), 3, "02000000")
        self.times(_MADE, _MADE)
        self.program("python3.11")

    def process(
        self,
        pid: int,
        parent: int,
        start: float = _MADE,
        flags: int = _EXECED,
        state: str = "S",
        threads: int = 1,
        session: int = 7,
        comm: bytes = b"x",
    ) -> None:
        self._stat(self.root / str(pid), pid, parent, start, flags, state, threads, session, comm)

    def thread(self, pid: int, tid: int, start: float) -> None:
        folder = self.root / str(pid) / "task" / str(tid)
        self._stat(folder, tid, 1, start, 0, "S", 2, 7, b"spawner")
        (folder / "syscall").write_text("202 0x7f 0x80 0x0 0x0 0x0 0x0 0x7ffc 0x7f\n")

    def _stat(
        self,
        folder: Path,
        pid: int,
        parent: int,
        start: float,
        flags: int,
        state: str,
        threads: int,
        session: int,
        comm: bytes,
    ) -> None:
        (folder / "fd").mkdir(parents=True, exist_ok=True)
        (folder / "fdinfo").mkdir(exist_ok=True)
        (folder / "comm").write_bytes(comm + b"\n")
        fields = [state, parent, pid, session, 0, -1, flags, *[0] * 10, threads, 0, int(start * _TICKS), 0, 0]
        rest = " ".join(str(field) for field in fields).encode()
        (folder / "stat").write_bytes(b"%d (%s) %s\n" % (pid, comm, rest))

    def read(self, size: int, fd: int = 3, number: int = _READ_NUMBER) -> None:
        folder = self.root / str(_PARENT) / "task" / str(_THREAD)
        (folder / "syscall").write_text(f"{number} {fd:#x} 0x7f00 {size:#x} 0x0 0x0 0x0 0x7ffc 0x7f\n")

    def fd(self, folder: str, fd: int, flags: str, pipe: str = _PIPE) -> None:
        """flags as in fdinfo."""
        link = self.root / folder / "fd" / str(fd)
        link.unlink(missing_ok=True)
        link.symlink_to(pipe)
        text = f"anon_pipe_readpos:\t0\nflags:\t{flags}\nmnt_id:\t14\n"
        (self.root / folder / "fdinfo" / str(fd)).write_text(text)

    def times(self, modified: float, accessed: float) -> None:
        """The times of the pipe's inode: the link of the blocked thread's fd leads to this file."""
        inode = self.root / str(_PARENT) / "task" / str(_THREAD) / "fd" / _PIPE
        inode.touch()
        os.utime(inode, (_BOOT + accessed, _BOOT + modified))

    def program(self, name: str) -> None:
        exe = self.root / str(_PARENT) / "exe"
        exe.unlink(missing_ok=True)
        exe.symlink_to(f"/usr/bin/{name}")

    def children(self, tid: int, *pids: int) -> None:
        text = "".join(f"{pid} " for pid in pids)
        (self.root / str(_PARENT) / "task" / str(tid) / "children").write_text(text)

    def own(self, start: float = _MADE, **kwargs: Any) -> None:
        """Add an own child that has called exec."""
        self.process(_OWN, _PARENT, start, comm=b"true", **kwargs)

    def worker(
        self,
        start: float = _MADE,
        flags: int = _FORKED,
        write: str = "02000001",
        read: Optional[str] = "02000000",
        fd: int = 4,
        pid: int = _WORKER,
        parent: int = _PARENT,
        **kwargs: Any,
    ) -> None:
        """Add a holder; by default one that was forked beside the own child and has not called exec."""
        self.process(pid, parent, start, flags, comm=b"worker", **kwargs)
        self.fd(str(pid), fd, write)
        if read is not None:
            self.fd(str(pid), 3, read)

    def take(self, pid: int = _PARENT) -> list[Finding]:
        return take(pid, str(self.root), _BOOT)

    def stall(self) -> Finding:
        [finding] = self.take()
        return finding

    def causes(self) -> dict[Optional[int], str]:
        return {holder.pid: holder.cause for holder in self.stall().holders}


@pytest.fixture(params=["thread known", "thread unknown"])
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Host:
    """With and without /proc/PID/task/TID/children.  The look is when the pipe is made."""
    monkeypatch.setattr(snapshot, "_uptime", lambda: _MADE)
    host = _Host(tmp_path)
    if request.param == "thread known":
        host.children(_THREAD, _OWN)
        host.children(_PARENT, _WORKER, _OTHER)
    return host


@pytest.fixture
def known(tmp_path: Path) -> _Host:
    host = _Host(tmp_path)
    host.children(_THREAD, _OWN)
    return host


@pytest.fixture
def unknown(tmp_path: Path) -> _Host:
    return _Host(tmp_path)


# -- what is a stall --


def test_a_worker_that_was_forked_beside(host: _Host) -> None:
    host.own()
    host.worker()
    [holder] = (stall := host.stall()).holders
    assert (holder.pid, holder.comm, holder.fds, holder.cause) == (_WORKER, b"worker", (4,), "forked")
    assert (stall.pid, stall.tid, stall.comm) == (_PARENT, _THREAD, b"spawner")
    assert (stall.child, stall.child_comm) == (_OWN, b"true")
    assert (stall.read_fd, stall.write_fd) == (3, 4)
    assert stall.certain
    assert stall.time == _BOOT + _MADE


def test_a_sibling_that_execed_with_its_copy_and_its_child(host: _Host) -> None:
    host.read(1048576)
    host.own(state="Z")
    host.worker(flags=_EXECED, write="0100001", read="0100000")
    host.worker(flags=_EXECED, write="0100001", read=None, pid=160, parent=_WORKER, start=_MADE + 1)
    assert host.causes() == {_WORKER: "leaked", 160: "leaked"}
    assert host.stall().certain
    assert host.stall().child == _OWN
    assert [holder.pid for holder in host.stall().holders] == [_WORKER, 160]


def test_a_descendant_of_the_target(host: _Host) -> None:
    host.own()
    host.worker()
    host.process(_PARENT, 90, start=10, threads=2)
    host.process(90, 80, start=5)
    host.process(80, 1, start=5)
    assert [finding.pid for finding in host.take(80)] == [_PARENT]
    assert host.take(_OWN) == []
    assert host.take(9999) == []


def test_a_process_that_the_own_child_forked(host: _Host) -> None:
    host.own()
    host.worker(parent=_OWN, read=None, start=_MADE + 1)
    assert host.causes() == {_WORKER: "own_descendant"}


def test_a_copy_that_was_passed_to_an_older_process(host: _Host) -> None:
    host.own()
    host.worker(start=_MADE - 20, read=None)
    assert host.causes() == {_WORKER: "passed"}
    assert host.stall().write_fd is None


def test_a_copy_that_was_passed_to_an_unrelated_process(host: _Host) -> None:
    host.own()
    host.worker(parent=1, read=None, flags=_EXECED, session=8)
    assert host.causes() == {_WORKER: "passed"}


def test_what_is_not_known_is_not_guessed(host: _Host) -> None:
    host.own()
    host.worker(parent=1, read=None, session=8)  # forked by whom?
    assert host.causes() == {_WORKER: "unknown"}
    host.worker(parent=1, read=None, session=8, flags=_EXECED, write="0100001")
    assert host.causes() == {_WORKER: "unknown"}


def test_a_close_on_exec_copy_after_an_exec(host: _Host) -> None:
    host.own()
    host.worker(read=None, flags=_EXECED)
    assert host.causes() == {_WORKER: "unknown"}


def test_holders_by_age(host: _Host) -> None:
    host.own()
    host.worker(start=_MADE + 0.02, pid=150)
    host.worker(start=_MADE, pid=160)
    assert [holder.pid for holder in host.stall().holders] == [160, 150]


def test_several_children_may_be_the_own_one(unknown: _Host) -> None:
    unknown.own()
    unknown.worker()
    unknown.process(201, _PARENT)
    assert unknown.stall().child is None
    assert unknown.stall().certain


def test_an_older_child_is_not_the_own_one(host: _Host) -> None:
    host.own(start=_MADE - 10)
    host.worker()
    assert host.stall().child is None
    assert not host.stall().certain


def test_a_forked_child_without_a_copy_is_not_the_own_one(known: _Host) -> None:
    known.own(flags=_FORKED)
    known.worker()
    assert known.stall().child is None
    assert not known.stall().certain


def test_no_visible_holder(host: _Host) -> None:
    assert host.take() == []
    host.own()
    stall = host.stall()
    assert [(holder.pid, holder.cause) for holder in stall.holders] == [(None, "unknown")]
    assert not stall.certain
    assert stall.to_object()["holders"][0]["comm"] is None
    host.read(4)
    host.program("node")
    assert host.take()[0].certain is False


def test_a_holder_whose_files_cannot_be_inspected_as_it_exits(host: _Host) -> None:
    host.own()
    host.process(_WORKER, _PARENT, flags=_FORKED | _EXITING)
    host.process(_OTHER, 1, flags=_FORKED | _EXITING)
    stall = host.stall()
    assert [holder.pid for holder in stall.holders] == [None]
    assert [line for line in stall.evidence if "is exiting" in line] == [
        f"pid {_WORKER} is exiting: its open files cannot be inspected"
    ]


@pytest.mark.parametrize("flags", [_FORKED, _FORKED | _EXITING])
def test_a_holder_that_exits_and_has_not_closed_its_files(flags: int, host: _Host) -> None:
    host.own()
    host.worker(flags=flags)
    assert host.causes() == {_WORKER: "forked"}
    assert any(line.endswith(", is exiting") for line in host.stall().evidence) is bool(flags & _EXITING)


def test_a_leader_that_exits_before_its_threads(host: _Host) -> None:
    host.own()
    host.process(_WORKER, _PARENT, _MADE, _FORKED, state="Z", threads=2)
    (host.root / str(_WORKER) / "task" / str(_WORKER) / "fd").mkdir(parents=True)
    (host.root / str(_WORKER) / "task" / "151" / "fd").mkdir(parents=True)
    (host.root / str(_WORKER) / "task" / "151" / "fdinfo").mkdir()
    host.fd(f"{_WORKER}/task/151", 4, "02000001")
    host.fd(f"{_WORKER}/task/151", 3, "02000000")
    assert host.causes() == {_WORKER: "forked"}


# -- what is none --


def test_the_own_child_before_its_exec(host: _Host) -> None:
    host.own(flags=_FORKED)
    host.fd(str(_OWN), 4, "02000001")
    assert host.take() == []
    host.worker()  # and a foreign one: the own child has not let go yet
    assert host.take() == []


def test_the_own_child_before_its_exec_beside_other_children(unknown: _Host) -> None:
    unknown.worker(read=None)
    unknown.own()  # of another thread
    assert unknown.take() == []


def test_a_result_pipe_of_a_worker(known: _Host) -> None:
    """The worker was forked by the reading thread, and has both ends."""
    known.children(_THREAD, _WORKER)
    known.worker()
    assert known.take() == []
    known.children(_THREAD, _WORKER, _OWN)
    known.own()
    assert not known.stall().certain
    known.read(4)
    known.program("ruby")
    assert known.take() == []


def test_a_process_with_one_thread(unknown: _Host) -> None:
    unknown.process(_PARENT, 1, start=10, threads=1)
    unknown.worker(start=_MADE + 1)
    assert unknown.take() == []
    unknown.own(start=_MADE + 2)
    assert not unknown.stall().certain
    unknown.worker(start=_MADE + 3, read=None, pid=170)
    assert unknown.take() == []  # the youngest child, and it has a copy


def test_the_process_has_a_write_end_itself(host: _Host) -> None:
    host.own()
    host.worker()
    host.fd(str(_PARENT), 5, "02000001")
    assert host.take() == []


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_standard_output(host: _Host, fd: int) -> None:
    host.own()
    host.worker(fd=fd, write="0100001", flags=_EXECED)
    assert host.take() == []


def test_a_read_of_standard_input(host: _Host) -> None:
    host.own()
    host.worker()
    host.fd(f"{_PARENT}/task/{_THREAD}", 0, "0100000")
    host.read(50000, fd=0)
    assert host.take() == []


def test_a_pipe_from_the_parent_of_the_reader(host: _Host) -> None:
    host.own()
    host.worker()
    host.fd("1", 4, "02000001")
    assert host.take() == []


def test_an_own_child_that_was_given_a_pipe(known: _Host) -> None:
    """As gpg --status-fd."""
    known.own()
    known.fd(str(_OWN), 5, "0100001")
    assert known.take() == []


@pytest.mark.parametrize("size", [0, 1, 9, 128, 4096, 8192, 65536, 131072, 50001])
def test_reads_of_other_sizes(host: _Host, size: int) -> None:
    host.own()
    host.worker()
    host.read(size)
    assert host.take() == []
    host.program("node")
    assert size == 1 or host.take() == []


@pytest.mark.parametrize("size", [4, 8])
def test_small_reads_are_never_certain(host: _Host, size: int) -> None:
    host.own()
    host.worker(flags=_EXECED, write="0100001")
    host.read(size)
    assert host.take() == []  # Python reads no errpipe so
    host.program("node")
    assert not host.stall().certain
    host.thread(_PARENT, _THREAD, start=_MADE + 5)
    host.read(size)
    assert host.take() == []  # the thread is younger than the pipe


def test_small_reads_where_the_worker_may_be_the_own_child(unknown: _Host) -> None:
    unknown.own()
    unknown.worker()
    unknown.read(4)
    unknown.program("node")
    assert unknown.take() == []


def test_a_read_end_that_survives_an_exec(host: _Host) -> None:
    host.own()
    host.worker()
    host.fd(f"{_PARENT}/task/{_THREAD}", 3, "0100000")
    assert host.take() == []


def test_data_has_come_through_the_pipe(host: _Host) -> None:
    host.own()
    host.worker()
    host.times(_MADE + 1, _MADE + 2)
    assert host.take() == []


def test_a_pipe_that_looks_older_than_its_reader(host: _Host) -> None:
    """Clocks may have been set: not dropped, but not certain."""
    host.own()
    host.worker()
    host.process(_PARENT, 1, start=_MADE + 1, threads=2)
    assert not host.stall().certain


def test_other_calls_and_other_files(host: _Host) -> None:
    host.own()
    host.worker()
    assert host.take() != []
    host.read(50000, number=_READ_NUMBER + 1000)
    assert host.take() == []
    host.read(50000, fd=9)
    assert host.take() == []
    host.read(50000)
    for target in ("socket:[77]", "/tmp/fifo", "anon_inode:[eventpoll]"):
        host.fd(f"{_PARENT}/task/{_THREAD}", 3, "02000000", target)
        assert host.take() == []


# -- things that vanish, and garbage --


@pytest.mark.parametrize("file", ["stat", "fdinfo/4", "fd/4"])
def test_a_holder_that_vanishes(host: _Host, file: str) -> None:
    host.own()
    host.worker()
    (host.root / str(_WORKER) / file).unlink()
    [stall] = host.take()
    assert [holder.pid for holder in stall.holders] == [None]


def test_a_read_that_ends_meanwhile(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.own()
    host.worker()
    judge = snapshot._judge

    def judge_late(facts: Any) -> Any:
        host.read(8192)
        return judge(facts)

    monkeypatch.setattr(snapshot, "_judge", judge_late)
    assert host.take() == []


def test_a_holder_whose_fd_is_another_pipe_meanwhile(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.own()
    host.worker()
    scan = snapshot._scan

    def scan_early(*arguments: Any) -> Any:
        found = scan(*arguments)
        host.fd(str(_WORKER), 4, "02000001", "pipe:[78]")
        return found

    monkeypatch.setattr(snapshot, "_scan", scan_early)
    assert host.causes() == {None: "unknown"}


def test_a_holder_that_is_forked_meanwhile(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.own()
    scan = snapshot._scan

    def scan_late(*arguments: Any) -> Any:
        found = scan(*arguments)
        host.worker()
        return found

    monkeypatch.setattr(snapshot, "_scan", scan_late)
    assert host.causes() == {_WORKER: "forked"}


@pytest.mark.parametrize("text", ["running\n", "", "-1 0x7ffc 0x7f\n", "0\n", "x y z w\n", "0 0x3 zz zz\n"])
def test_a_syscall_file_that_tells_nothing(host: _Host, text: str) -> None:
    host.own()
    host.worker()
    (host.root / str(_PARENT) / "task" / str(_THREAD) / "syscall").write_text(text)
    assert host.take() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(
        ["stat", "syscall", "children", "comm", f"../../../{_OWN}/stat", f"../../../{_WORKER}/fdinfo/4"]
    ),
    st.binary(max_size=80),
)
def test_garbage(known: _Host, file: str, garbage: bytes) -> None:
    known.own()
    known.worker()
    known.children(_THREAD, _OWN)
    known.thread(_PARENT, _THREAD, start=11)
    known.read(50000)
    (known.root / str(_PARENT) / "task" / str(_THREAD) / file).write_bytes(garbage)
    for finding in known.take():
        json.dumps(finding.to_object())
        assert {holder.pid for holder in finding.holders} <= {_WORKER, None}


def test_parents_in_a_circle(host: _Host) -> None:
    host.own()
    host.worker()
    host.process(_PARENT, 90, start=10, threads=2)
    host.process(90, _PARENT, start=10)
    assert len(host.take()) == 1


def test_comms_are_found_behind_parentheses(host: _Host) -> None:
    host.own()
    host.worker()
    stat = host.root / str(_WORKER) / "stat"
    stat.write_bytes(stat.read_bytes().replace(b"worker", b"a) S 1 1 ("))
    assert host.causes() == {_WORKER: "forked"}


# -- objects --


def test_a_hang_lasts_since_its_pipe_was_created(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.own()
    host.worker()
    monkeypatch.setattr(snapshot, "_uptime", lambda: _MADE + 8040)
    found = host.stall().to_object()
    assert (found["began_seconds"], found["stall_seconds"]) == (0.0, 8040)
    assert "blocked for 2 h 14 min" in " ".join(snapshot.text(found).split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (119.9, "119.9 s"),
        (120, "2 min 0 s"),
        (7199, "119 min 59 s"),
        (7200, "2 h 0 min"),
        (8040, "2 h 14 min"),
        (172800, "2 d 0 h"),
        (900000, "10 d 10 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert snapshot.duration(seconds) == text


def test_a_holder_whose_core_is_dumped(host: _Host) -> None:
    host.own()
    host.worker()
    assert not host.stall().holders[0].dumping
    (host.root / str(_WORKER) / "status").write_text("Name:\tworker\nCoreDumping:\t1\nThreads:\t1\n")
    found = host.stall()
    assert found.holders[0].dumping
    assert "it has crashed, and the kernel writes its core dump" in snapshot.text(found.to_object(), 200)


def test_the_object_has_the_keys_of_a_live_stall(host: _Host) -> None:
    host.own()
    host.worker()
    found = host.stall().to_object()
    assert found == {
        "type": "stall",
        "id": "800000000000004d",
        "time": "2001-09-09T01:47:30.000000Z",
        "state": "ongoing",
        "parent": {
            "pid": _PARENT,
            "tid": _THREAD,
            "comm": "spawner",
            "exe": None,
            "uid": None,
            "container": None,
        },
        "child": {"pid": _OWN, "comm": "true"},
        "errpipe": {"read_fd": 3, "write_fd": 4},
        "spawn_seconds": None,
        "exec_seconds": None,
        "began_seconds": 0.0,
        "stall_seconds": 0.0,
        "late_wakeup_seconds": 0.0,
        "holders": [
            {
                "pid": _WORKER,
                "comm": "worker",
                "exe": None,
                "uid": None,
                "container": None,
                "fds": [4],
                "cause": "forked",
                "acquired_seconds": None,
                "forked_by": None,
                "released_seconds": None,
                "released_by": None,
                "confirmed": True,
                "confirmation": "confirmed",
                "last_seen_seconds": None,
                "exiting_seconds": None,
                "dumping_core": False,
            }
        ],
        "steps": [],
        "source": "snapshot",
        "certainty": "certain",
        "evidence": found["evidence"],
    }
    assert any("read size 50000" in line for line in found["evidence"])
    assert any("close-on-exec" in line for line in found["evidence"])


@pytest.mark.skipif(sys.version_info < (3, 10), reason="no sys.stdlib_module_names")
def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse(Path(snapshot.__file__).read_text(), feature_version=(3, 6))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module in {"datetime", "typing"}  # not __future__: annotations are of 3.7
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= sys.stdlib_module_names


# -- sampling --


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots of the made-up host know when it was booted."""
    take = snapshot.take
    monkeypatch.setattr(snapshot, "take", lambda pid, proc: take(pid, proc, _BOOT))


@pytest.mark.usefixtures("booted")
def test_a_stall_is_reported_once_in_progress_and_once_at_its_end(host: _Host) -> None:
    sampler = snapshot.Sampler(_PARENT, 0.01, 1.0, str(host.root))
    host.own()
    host.worker()
    samples = [sampler.sample(now) for now in (10.0, 10.5, 11.5, 12.0)]
    assert [[(one.state, one.seconds) for one in news] for news in samples] == [
        [],
        [],
        [("ongoing", 1.5)],
        [],
    ]
    (host.root / str(_WORKER) / "stat").rename(host.root / "kept")
    (host.root / str(_OWN) / "stat").unlink()
    assert sampler.sample(12.5) == []  # not seen for once, but the thread is blocked as before
    host.read(8192, fd=9)
    [ended] = sampler.sample(13.0)
    assert (ended.state, ended.seconds) == ("ended", 3.0)
    assert [holder.pid for holder in ended.holders] == [_WORKER]
    assert sampler.sample(14.0) == []


@pytest.mark.usefixtures("booted")
def test_a_short_stall_is_not_reported(host: _Host) -> None:
    sampler = snapshot.Sampler(_PARENT, 0.3, 1.0, str(host.root))
    host.own()
    host.worker()
    assert sampler.sample(10.0) == []
    host.read(8192, fd=9)
    assert sampler.sample(10.2) == []


# -- the real /proc --


@pytest.fixture
def blocked() -> Iterator[tuple[int, int]]:
    """A thread of this process in read on a data pipe that another process holds: its tid and a write end."""
    read_end, write_end = os.pipe()
    with subprocess.Popen(["sleep", "60"], pass_fds=[write_end]) as holder:
        tid: list[int] = []

        def read() -> None:
            tid.append(threading.get_native_id())
            os.read(read_end, 4)

        thread = threading.Thread(target=read)
        thread.start()
        deadline = time.monotonic() + 10
        while not tid or not snapshot._readers(os.getpid(), tid[0], "/proc"):
            assert time.monotonic() < deadline
        yield tid[0], write_end
        holder.kill()
        holder.wait()
        os.close(write_end)
        thread.join()
        os.close(read_end)


@pytest.mark.skipif(not Path("/proc/self/syscall").exists(), reason="the kernel has no /proc/PID/syscall")
def test_this_process(blocked: tuple[int, int]) -> None:
    [reader] = snapshot._readers(os.getpid(), blocked[0], "/proc")
    assert reader.size == 4
    assert reader.cloexec
    assert reader.pipe == os.readlink(f"/proc/self/fd/{blocked[1]}")  # noqa: PTH115
    assert take(os.getpid()) == []


def test_why_not(tmp_path: Path) -> None:
    assert snapshot.why_not(os.getpid()) is None
    assert "no process" in str(snapshot.why_not(4_999_999))
    (tmp_path / "5").mkdir()
    assert "no /proc/PID/syscall" in str(snapshot.why_not(5, str(tmp_path)))


def test_a_kernel_thread_starts_no_programs(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    stat = "7 (a) b) S 2 0 0 0 -1 {} " + "0 " * 40
    (tmp_path / "7" / "stat").write_text(stat.format(0x208040))
    for why in (snapshot.why_not, snapshot.kernel_thread):
        line = str(why(7, str(tmp_path)))
        assert "7" in line and "thread of the kernel" in line
    (tmp_path / "7" / "stat").write_text(stat.format(0x8040))
    assert snapshot.kernel_thread(7, str(tmp_path)) is None


@pytest.mark.parametrize(
    ("capabilities", "user", "reason"),
    [
        ("0000000000000000", 1000, "run this as root"),
        ("0000000000000000", 0, "root has no CAP_SYS_PTRACE"),
        ("0000000000080000", 0, "security module"),
        ("0000000000080000", 1000, "security module"),
        (None, 1000, "run this as root"),
    ],
)
def test_why_a_process_cannot_be_inspected(
    capabilities: Optional[str], user: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pid 1 here, which a sandbox protects even from root."""

    def refuse(*_arguments: Any) -> None:
        raise PermissionError

    for name in ("1", "self"):
        (tmp_path / name).mkdir()
    (tmp_path / "1" / "syscall").touch()
    if capabilities is not None:
        status = f"Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t{capabilities}\nCapBnd:\tffffffffffffffff\n"
        (tmp_path / "self" / "status").write_text(status)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "listdir", refuse)
    line = str(snapshot.why_not(1, str(tmp_path)))
    assert "pid 1" in line and reason in line
