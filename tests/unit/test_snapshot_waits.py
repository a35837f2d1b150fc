# SPDX-License-Identifier: Apache-2.0
"""agent.snapshot: waits that are not stalls, on trees of files."""

from __future__ import annotations

import collections
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from agent import snapshot
from agent.reports.types import WaitObject
from agent.shape import shape_of, validate
from agent.snapshot import Look, Wait
from tests.unit.test_snapshot import (
    _BOOT,
    _CALLS,
    _EXITING,
    _FORKED,
    _MADE,
    _OWN,
    _PARENT,
    _READ_NUMBER,
    _THREAD,
    _WORKER,
    _Host,
)

_X86_NAMES = {
    "poll": 7,
    "select": 23,
    "epoll_wait": 232,
    "wait4": 61,
    "vfork": 58,
    "execve": 59,
    "futex": 202,
}
_GENERIC_NAMES = {"ppoll": 73, "pselect6": 72, "epoll_pwait": 22, "wait4": 260, "execve": 221, "futex": 98}
_OBJECT = shape_of(WaitObject)
_AT = 0x1000  # an address in the memory of a process


def _number(*names: str) -> int:
    """The number of the first of these calls that this machine has."""
    return next(number for name in names for number, has in _CALLS.items() if has == name)


class _Waiting(_Host):
    """A parent whose thread is blocked in any call."""

    def call(self, number: int, *args: int, pid: int = _PARENT, tid: int = _THREAD) -> None:
        words = " ".join(f"{arg:#x}" for arg in [*args, 0, 0, 0, 0, 0, 0][:6])
        folder = self.root / str(pid) / "task" / str(tid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "syscall").write_text(f"{number} {words} 0x7ffc 0x7f\n")

    def memory(self, block: bytes, pid: int = _PARENT) -> None:
        (self.root / str(pid) / "mem").write_bytes(b"\0" * _AT + block)

    def alone(self) -> None:
        """The parent has one thread."""
        self.process(_PARENT, 1, start=10, threads=1)
        (self.root / str(_PARENT) / "task" / str(_PARENT) / "syscall").unlink()

    def text(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def look(self, pid: int = _PARENT) -> Look:
        look = snapshot.look(pid, str(self.root), _BOOT)
        for wait in look.waits:
            told = wait.to_object()
            assert validate(_OBJECT, told)[1] == []
            json.dumps(told)
            assert snapshot.text(told).startswith("WAIT  ")
        return look

    def wait(self) -> Wait:
        look = self.look()
        assert look.stalls == ()
        [wait] = look.waits
        return wait


@pytest.fixture
def host(tmp_path: Path) -> _Waiting:
    host = _Waiting(tmp_path)
    host.children(_THREAD, _OWN, _WORKER)
    host.children(_PARENT)
    return host


@pytest.mark.parametrize(("name", "number"), _X86_NAMES.items())
def test_numbers_of_x86(name: str, number: int) -> None:
    """<asm/unistd_64.h>"""
    assert snapshot._CALLS["x86_64"][number] == name


@pytest.mark.parametrize(("name", "number"), _GENERIC_NAMES.items())
def test_numbers_of_arm(name: str, number: int) -> None:
    """<asm-generic/unistd.h>"""
    assert snapshot._CALLS["aarch64"][number] == name


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of i386")
def test_a_32_bit_program(host: _Waiting) -> None:
    host.worker(read=None)
    host.read(4, number=3)
    assert host.look().states == {"futex": 1, "close": 1}
    (host.root / str(_PARENT) / "auxv").write_bytes(struct.pack("=II", 32, 0xF7F00000))
    assert host.wait().kind == "output"


# -- own child --


def test_own_child_before_its_exec(host: _Waiting) -> None:
    host.own(flags=_FORKED)
    host.fd(str(_OWN), 4, "02000001")
    host.call(_number("futex"), pid=_OWN, tid=_OWN)
    wait = host.wait()
    assert (wait.kind, wait.pid, wait.tid, wait.child) == ("own_child", _PARENT, _THREAD, _OWN)
    assert [(holder.pid, holder.fds) for holder in wait.holders] == [(_OWN, (4,))]
    assert "lock" in wait.headline
    assert "preexec_fn" in wait.advice
    assert not wait.normal
    assert wait.since == _BOOT + _MADE


def test_own_child_in_a_fork_hook(host: _Waiting) -> None:
    """It has not closed its read end yet."""
    host.own(flags=_FORKED)
    host.fd(str(_OWN), 3, "02000000")
    host.fd(str(_OWN), 4, "02000001")
    assert host.wait().kind == "own_child"


@pytest.mark.parametrize(
    ("state", "wchan", "word"),
    [
        ("T", "do_signal_stop", "kill -CONT"),
        ("T", "get_signal", "kill -CONT"),
        ("t", "ptrace_stop", "tracer"),
        ("S", "do_freezer_trap", "Thaw"),
        ("S", "get_signal", "Thaw"),
    ],
)
def test_own_child_that_was_stopped(host: _Waiting, state: str, wchan: str, word: str) -> None:
    host.own(flags=_FORKED, state=state)
    host.fd(str(_OWN), 4, "02000001")
    host.call(_number("futex"), pid=_OWN, tid=_OWN)
    host.text(f"{_OWN}/wchan", wchan)
    host.text(f"{_OWN}/status", "TracerPid:\t1\n")
    host.text(f"{_OWN}/cgroup", "0::/system.slice/held\n")
    wait = host.wait()
    assert wait.kind == "own_child"
    assert word in wait.advice
    assert any("/system.slice/held" in line for line in wait.evidence) == (word == "Thaw")
    host.read(4096)  # a worker would be at work
    assert host.wait().kind == "own_child"


@pytest.mark.parametrize("state", ["S", "Z"])
def test_a_stopped_child_beside_one_that_has_called_exec(host: _Waiting, state: str) -> None:
    """Either can be the child for which the pipe was created."""
    host.worker(state="T")
    host.own(state=state, start=_MADE + 0.1)
    host.children(_THREAD, _WORKER, _OWN)
    host.call(_number("futex"), pid=_WORKER, tid=_WORKER)
    host.read(4096)
    wait = host.wait()
    assert (wait.kind, wait.child, [each.pid for each in wait.holders]) == ("errpipe", _OWN, [_WORKER])
    host.worker(state="T", start=_MADE + 0.2)
    assert host.wait().kind != "own_child"
    host.own(state=state, start=_MADE - 1)
    assert host.wait().kind == "own_child"


def test_own_child_in_an_exec_from_a_dead_mount(host: _Waiting) -> None:
    host.own(flags=_FORKED, state="D")
    host.fd(str(_OWN), 4, "02000001")
    host.call(_number("execve"), _AT, pid=_OWN, tid=_OWN)
    host.memory(b"/mnt/dead dir/bin/tool\0", _OWN)
    host.text(
        f"{_OWN}/mountinfo",
        "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 0:50 / /mnt/dead\\040dir rw - nfs4 filer:/vol rw\nx\n",
    )
    wait = host.wait()
    assert wait.kind == "own_child"
    assert "/mnt/dead dir/bin/tool on nfs4 (filer:/vol, mounted at /mnt/dead dir)" in wait.headline
    assert "state D" in wait.headline
    assert "mount" in wait.advice


def test_own_child_that_closes_many_fds(host: _Waiting) -> None:
    host.read(1048576)
    host.own(flags=_FORKED, state="R")
    host.fd(str(_OWN), 4, "02000001")
    host.text(f"{_OWN}/task/{_OWN}/syscall", "running\n")
    host.text(f"{_OWN}/limits", "Max open files            1073741816           1073741816           files\n")
    wait = host.wait()
    assert wait.kind == "own_child"
    assert "its limit of open files is 1,073,741,816" in wait.evidence
    assert "it has 1 open fds: 4" in wait.evidence
    assert "ulimit -n" in wait.advice


def test_vfork(host: _Waiting) -> None:
    host.call(_number("vfork", "clone"))
    assert host.look().waits == ()
    host.own(flags=_FORKED)
    host.call(_number("futex"), pid=_OWN, tid=_OWN)
    wait = host.wait()
    assert (wait.kind, wait.child) == ("vfork", _OWN)


@pytest.mark.parametrize(
    ("age", "state", "is_normal"), [(0.9, "D", True), (1.1, "D", False), (0.1, "T", False)]
)
def test_a_young_child_is_normal(
    age: float, state: str, is_normal: bool, host: _Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vfork takes a moment: without advice, unless something keeps the child from running."""
    monkeypatch.setattr(snapshot, "_uptime", lambda: _MADE + age)
    host.call(_number("vfork", "clone"))
    host.own(flags=_FORKED, state=state)
    host.call(_number("execve"), pid=_OWN, tid=_OWN)
    wait = host.wait()
    assert (wait.kind, wait.normal, wait.advice == "") == ("vfork", is_normal, is_normal)
    assert (len(snapshot.text(wait.to_object(), 400).splitlines()) == 1) == is_normal
    host.call(_number("wait4"), _OWN)
    assert host.wait().normal == is_normal


def test_a_young_own_child_is_normal(host: _Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_uptime", lambda: _MADE + 0.5)
    host.own(flags=_FORKED)
    host.fd(str(_OWN), 4, "02000001")
    wait = host.wait()
    assert (wait.kind, wait.child, wait.normal, wait.advice) == ("own_child", _OWN, True, "")


# -- what looks like an errpipe --


@pytest.mark.parametrize("how", ["read", "poll", "select", "epoll"])
def test_a_bystander_with_whatever_read(host: _Waiting, how: str) -> None:
    host.own()
    host.worker()
    if how == "read":
        host.read(4096)
    elif how == "poll":
        host.memory(struct.pack("=ihhihh", 3, 1, 0, -1, 1, 0))
        if "poll" in _CALLS.values():
            host.call(_number("poll"), _AT, 2)
        else:
            host.call(_number("ppoll"), _AT, 2)
    elif how == "select":
        host.memory(struct.pack("=Q", 1 << 3))
        host.call(_number("select", "pselect6"), 4, _AT, 0)
    else:
        host.fd(f"{_PARENT}/task/{_THREAD}", 9, "02000002", "anon_inode:[eventpoll]")
        host.text(
            f"{_PARENT}/task/{_THREAD}/fdinfo/9",
            "pos:\t0\nflags:\t02000002\ntfd:        3 events:       19 data: 3  pos:0 ino:4d sdev:e\n",
        )
        host.call(_number("epoll_wait", "epoll_pwait"), 9, _AT, 8)
    wait = host.wait()
    assert (wait.kind, wait.child) == ("errpipe", _OWN)
    assert [(holder.pid, holder.fds) for holder in wait.holders] == [(_WORKER, (4,))]


def test_an_errpipe_on_fd_0(host: _Waiting) -> None:
    """Of a daemon that has closed its standard streams: a stall as any."""
    host.children(_THREAD, _OWN)
    host.own()
    host.worker()
    host.read(50000, fd=0)
    for folder in (f"{_PARENT}/task/{_THREAD}", str(_PARENT)):
        host.fd(folder, 0, "02000000")
    assert [finding.read_fd for finding in host.take()] == [0]


def test_a_child_that_exited_without_an_exec_is_no_sign_of_a_spawn(host: _Waiting) -> None:
    """Case 34: a readiness pipe of a double fork."""
    host.program("janus")
    host.own(state="Z", flags=_FORKED)
    host.worker(parent=1, read=None)
    host.read(1)
    wait = host.wait()
    assert wait.kind == "output"
    assert wait.child == _OWN
    assert [holder.pid for holder in wait.holders] == [_WORKER]
    assert "worker (pid 150) is meant to answer" in wait.advice


def test_a_holder_that_is_in_an_exec(host: _Waiting) -> None:
    """Case 23: from a dead file system."""
    host.children(_THREAD, _OWN)
    host.own()
    host.worker()
    host.call(_number("execve"), _AT, pid=_WORKER, tid=_WORKER)
    host.memory(b"tool\0", _WORKER)
    (host.root / str(_WORKER) / "cwd").symlink_to("/mnt")
    host.text(
        f"{_WORKER}/mountinfo", "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 0:5 / /mnt rw - nfs s:/v rw\n"
    )
    [stall] = host.look().stalls
    assert [holder.cause for holder in stall.holders] == ["late_exec"]
    assert "holder 150: is in execve of /mnt/tool on nfs (s:/v, mounted at /mnt)" in stall.evidence


# -- data pipes --


def test_an_output_that_a_grandchild_keeps_open(host: _Waiting) -> None:
    host.own(state="Z")
    host.worker(parent=1, flags=0, write="0100001", read=None, fd=1)
    host.read(32768)
    wait = host.wait()
    assert (wait.kind, wait.child, wait.normal) == ("output", _OWN, False)
    assert "worker (pid 150), fd 1 (its standard output)" in wait.headline
    assert "true (pid 200) has exited" in wait.headline
    assert "this is not an errpipe but a data pipe" in wait.evidence
    assert "Redirect" in wait.advice


def test_the_output_of_a_child_that_is_at_work(host: _Waiting) -> None:
    host.worker(flags=0, write="0100001", read=None, fd=1)
    host.read(32768)
    wait = host.wait()
    assert (wait.kind, wait.child, wait.normal, wait.advice) == ("output", _WORKER, True, "")
    assert len(snapshot.text(wait.to_object(), 400).splitlines()) == 1
    host.process(_WORKER, _PARENT, flags=0, state="T", comm=b"worker")
    assert "kill -CONT 150" in host.wait().advice


def test_an_output_that_a_worker_inherited(host: _Waiting) -> None:
    """Was it forked to write to this pipe?  Not where a child that did has exited."""
    host.read(32768)
    host.worker()
    assert host.wait().normal
    host.own(state="Z", start=_MADE - 10)
    wait = host.wait()
    assert (wait.kind, wait.child, wait.normal) == ("output", _OWN, False)
    host.children(_THREAD)
    host.children(_PARENT, _WORKER)
    assert not host.wait().normal


def test_an_output_that_a_sibling_inherited(host: _Waiting) -> None:
    host.worker(flags=0, write="0100001", read=None, fd=7)
    host.read(32768)
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("output", False)
    assert "close-on-exec" in wait.advice


def test_standard_input_that_a_sibling_keeps_open(host: _Waiting) -> None:
    """Case 38, seen from the shell that reads."""
    host.process(90, 1, start=5)
    host.process(_PARENT, 90, start=10, threads=2)
    host.worker(parent=90, flags=0, write="0100001", read=None, fd=5)
    for folder in (f"{_PARENT}/task/{_THREAD}", str(_PARENT)):
        host.fd(folder, 0, "0100000")
    host.read(131072, fd=0)
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("input", False)
    assert [(holder.pid, holder.fds) for holder in wait.holders] == [(_WORKER, (5,))]
    host.worker(parent=90, flags=0, write="0100001", read=None, fd=1)  # a | b
    assert host.wait().normal


def test_input_from_a_parent_that_waits_for_its_child(host: _Waiting) -> None:
    host.alone()
    host.process(90, 1, start=5, comm=b"boss")
    host.process(_PARENT, 90, start=10, threads=1)
    host.fd("90", 8, "02000001")
    host.fd(f"{_PARENT}/task/{_THREAD}", 0, "0100000")
    host.read(131072, fd=0)
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("input", True)
    assert wait.headline.endswith("on its standard input, a pipe.")
    host.call(_number("wait4"), _PARENT, pid=90, tid=90)
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("input", False)
    assert wait.headline.endswith("pipe; that process waits for x (pid 100) to exit: neither can continue.")


def test_a_pipe_that_its_reader_can_write_to(host: _Waiting) -> None:
    host.fd(str(_PARENT), 5, "02000001")
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("self_held", True)  # another thread may
    host.alone()
    host.process(_PARENT, 1, start=10, threads=1)
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("self_held", False)
    assert "fd 5" in wait.headline


def test_a_full_pipe(host: _Waiting) -> None:
    folder = f"{_PARENT}/task/{_THREAD}"
    host.fd(folder, 3, "0100001")
    host.fd(str(_PARENT), 3, "0100001")
    host.worker(flags=0, write="0100000", read=None, fd=0)
    host.call(_number("write"), 3, _AT, 65536)
    wait = host.wait()
    assert (wait.kind, wait.child, wait.normal) == ("input", _WORKER, True)
    host.call(_number("wait4"), _PARENT, pid=_WORKER, tid=_WORKER)
    assert host.wait().normal  # it waits for somebody else's child


def test_a_jobserver(host: _Waiting) -> None:
    host.process(_PARENT, 1, start=10, threads=2, comm=b"make")
    host.worker(parent=1, flags=0, write="0100001", read="0100000")
    host.read(1)
    host.text(f"{_WORKER}/environ", "A=b\0MAKEFLAGS= -j2 --jobserver-auth=3,4 -- PASSWORD=secret\0")
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("jobserver", False)
    assert [holder.pid for holder in wait.holders] == [_WORKER]
    assert "MAKEFLAGS: --jobserver-auth=3,4" in wait.evidence
    assert "secret" not in json.dumps(wait.to_object())
    host.own()
    assert host.wait().normal  # a recipe runs


# -- children --


def test_a_child_that_lives(host: _Waiting) -> None:
    host.own()
    host.call(_number("wait4"), _OWN)
    host.call(_number("wait4"), 0xFFFFFFFF, pid=_OWN, tid=_OWN)
    host.process(_WORKER, _OWN, comm=b"worker")
    host.call(_number("futex"), pid=_WORKER, tid=_WORKER)
    first, second = host.look().waits
    assert (first.kind, first.child, first.normal) == ("child", _OWN, True)
    assert "waits for worker (pid 150), which waits for a lock" in first.headline
    assert (second.pid, second.child) == (_OWN, _WORKER)


def test_a_wait_for_an_exited_child_is_not_reported(host: _Waiting) -> None:
    host.own(state="Z")
    host.call(_number("wait4"), _OWN)
    assert host.look().waits == ()


def test_a_child_by_its_pidfd(host: _Waiting) -> None:
    host.own()
    host.process(_WORKER, _PARENT)
    host.fd(str(_PARENT), 6, "02000002", "anon_inode:[pidfd]")
    host.text(f"{_PARENT}/fdinfo/6", "flags:\t02000002\nPid:\t200\n")
    host.call(_number("waitid"), 3, 6)
    assert host.wait().child == _OWN
    host.call(_number("waitid"), 0, 0)
    assert [holder.pid for holder in host.wait().holders] == [_WORKER, _OWN]


def test_processes_that_wait_for_each_other_in_a_circle(host: _Waiting) -> None:
    """Process numbers that were reused while the processes were read."""
    host.own()
    host.process(_WORKER, _OWN)
    host.call(_number("wait4"), _OWN)
    host.call(_number("wait4"), _WORKER, pid=_OWN, tid=_OWN)
    host.process(_OWN, _WORKER)
    host.call(_number("wait4"), _OWN, pid=_WORKER, tid=_WORKER)
    host.look()


# -- nothing, and what cannot be looked into --


def test_nothing(host: _Waiting) -> None:
    host.call(_number("futex"))
    folder = host.root / str(_PARENT) / "task" / str(_PARENT)
    (folder / "syscall").write_text(
        (host.root / str(_PARENT) / "task" / str(_THREAD) / "syscall").read_text()
    )
    nothing = "no thread of 100 waits for a child or a pipe; they are in: futex (2)"
    assert host.look().nothing == nothing
    host.worker(flags=0, write="0100001", read=None, fd=1)
    host.read(1)
    assert host.look().nothing is None


def test_a_socket_and_its_other_end(host: _Waiting) -> None:
    folder = f"{_PARENT}/task/{_THREAD}"
    host.fd(folder, 3, "02000002", "socket:[500]")
    assert host.look().waits == ()
    host.own()
    assert host.wait().kind == "other"
    host.text(
        f"{_PARENT}/net/unix",
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000: 00000003 00000000 00000000 0001 03 500\n"
        "0000: 00000003 00000000 00000000 0001 03 501\n",
    )
    assert host.wait().kind == "other"
    host.fd(str(_OWN), 1, "02", "socket:[501]")
    wait = host.wait()
    assert (wait.kind, wait.child, wait.normal) == ("output", _OWN, True)
    host.process(_OWN, 1, comm=b"daemon")
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("output", False)
    assert "a socket (fd 3)" in wait.headline


def test_a_terminal(host: _Waiting) -> None:
    folder = f"{_PARENT}/task/{_THREAD}"
    host.fd(folder, 3, "0100002", "/dev/ptmx")
    host.text(f"{folder}/fdinfo/3", "flags:\t0100002\ntty-index:\t7\n")
    host.own()
    host.fd(str(_OWN), 0, "0100002", "/dev/pts/7")
    wait = host.wait()
    assert (wait.kind, wait.normal) == ("other", True)
    assert [(holder.pid, holder.fds) for holder in wait.holders] == [(_OWN, (0,))]


def test_a_pipe_without_a_writer(host: _Waiting) -> None:
    host.read(32768)
    wait = host.wait()
    assert (wait.kind, wait.holders) == ("other", ())


def test_a_pipe_whose_writer_may_be_exiting(host: _Waiting) -> None:
    host.read(32768)
    host.worker(flags=_FORKED | _EXITING, write="02000000", read=None)
    wait = host.wait()
    assert (wait.kind, wait.holders) == ("other", ())
    assert f"worker (pid {_WORKER}) is exiting: its open files cannot be inspected" in wait.evidence


def test_own_child_that_is_exiting(host: _Waiting) -> None:
    """It has closed no file yet, or its files cannot be inspected any more."""
    host.own(flags=_FORKED | _EXITING)
    wait = host.wait()
    assert (wait.kind, wait.child) == ("own_child", _OWN)
    assert "the child is exiting" in wait.headline and "a device does not respond" in wait.advice
    assert [holder.fds for holder in wait.holders] == [()]
    host.fd(str(_OWN), 4, "02000001")
    assert [holder.fds for holder in host.wait().holders] == [(4,)]


def test_own_child_whose_core_is_dumped(host: _Waiting) -> None:
    host.own(flags=_FORKED)
    host.fd(str(_OWN), 4, "02000001")
    host.call(_number("futex"), pid=_OWN, tid=_OWN)
    host.text(f"{_OWN}/status", "Name:\ttrue\nCoreDumping:\t1\nThreads:\t1\n")
    wait = host.wait()
    assert (wait.kind, wait.child) == ("own_child", _OWN)
    assert "the child has crashed, and the kernel writes its core dump" in wait.headline
    assert f"kill -KILL {_OWN}" in wait.advice
    host.text(f"{_OWN}/status", "Name:\ttrue\nCoreDumping:\t0\nThreads:\t1\n")
    assert "core dump" not in host.wait().headline


@pytest.mark.parametrize("changes", [{"flags": _FORKED}, {"flags": _FORKED | _EXITING, "state": "Z"}])
def test_own_child_that_is_not_exiting(changes: dict[str, Any], host: _Waiting) -> None:
    host.own(**changes)
    assert host.wait().kind == "other"


def test_a_wait_that_ends_meanwhile(host: _Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    host.worker(flags=0, write="0100001", read=None, fd=1)
    host.read(32768)
    make = snapshot._wait

    def make_late(*arguments: object) -> object:
        wait = make(*arguments)  # type: ignore[arg-type]
        host.read(32768, fd=9)
        return wait

    monkeypatch.setattr(snapshot, "_wait", make_late)
    assert host.look().waits == ()


def test_the_text_of_a_stall(host: _Waiting) -> None:
    host.children(_THREAD, _OWN)
    host.own()
    host.worker()
    [stall] = host.look().stalls
    text = snapshot.text(stall.to_object())
    assert text.startswith("STALL IN PROGRESS  spawner (pid 100, thread 101)")
    assert "worker (pid 150), fd 4" in text
    assert host.look().waits == ()


# -- the same wait again --


def test_a_wait_has_the_same_id_in_each_look_until_it_ends(host: _Waiting) -> None:
    host.worker(flags=0, write="0100001", read=None, fd=1)
    host.read(32768)
    first = host.wait()
    host.read(100)  # the next read of the same pipe
    host.process(_WORKER, _PARENT, flags=0, state="T", comm=b"worker")
    assert host.wait().id == first.id
    assert snapshot.is_waiting(first, str(host.root))
    host.thread(_PARENT, _THREAD, start=12)  # another thread with the same tid
    host.read(32768)
    assert host.wait().id != first.id
    assert not snapshot.is_waiting(first, str(host.root))


@pytest.mark.parametrize("state", ["", "Z"])
def test_a_wait_for_a_child_ends_with_the_child(host: _Waiting, state: str) -> None:
    host.own()
    host.call(_number("wait4"), 0xFFFFFFFF)
    first = host.wait()
    assert snapshot.is_waiting(first, str(host.root))
    if state:
        host.process(_OWN, _PARENT, state=state)
    else:
        host.process(_OWN, 1)  # another process has the pid
    assert not snapshot.is_waiting(first, str(host.root))
    host.process(_WORKER, _PARENT)
    assert host.wait().id != first.id


def test_a_vfork_ends_with_the_exec_of_the_child(host: _Waiting) -> None:
    host.call(_number("vfork", "clone"))
    host.own(flags=_FORKED)
    wait = host.wait()
    assert snapshot.is_waiting(wait, str(host.root))
    host.own()
    assert not snapshot.is_waiting(wait, str(host.root))


def test_a_stall_ends_when_its_thread_is_elsewhere(host: _Waiting) -> None:
    host.children(_THREAD, _OWN)
    host.own()
    host.worker()
    [stall] = host.look().stalls
    assert snapshot.is_waiting(stall, str(host.root))
    host.call(_number("futex"))
    assert not snapshot.is_waiting(stall, str(host.root))


# -- what a look costs --


@pytest.mark.parametrize(("is_waiting", "stats"), [(True, 2), (False, 1)])
def test_a_look_reads_each_other_process_a_fixed_number_of_times(
    is_waiting: bool, stats: int, host: _Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time grows with the processes and open files of the host, and with nothing else."""
    bystanders = range(1000, 1050)
    for pid in bystanders:
        host.process(pid, 1)
        for fd in range(4):
            host.fd(str(pid), fd, "01", f"pipe:[{pid}{fd}]")
    if not is_waiting:
        host.call(_number("futex"))
    files: collections.Counter[str] = collections.Counter()
    links: collections.Counter[str] = collections.Counter()
    read, follow = snapshot._bytes, os.readlink

    def counted_read(path: str) -> bytes:
        files[path] += 1
        return read(path)

    def counted_link(path: str) -> str:
        links[path] += 1
        return follow(path)

    monkeypatch.setattr(snapshot, "_bytes", counted_read)
    monkeypatch.setattr(os, "readlink", counted_link)
    host.look()
    for pid in bystanders:
        folder = f"{host.root}/{pid}"
        assert {path: number for path, number in files.items() if path.startswith(folder)} == {
            f"{folder}/stat": stats
        }
        expected = {f"{folder}/fd/{fd}": 1 for fd in range(4)} if is_waiting else {}
        assert {path: number for path, number in links.items() if path.startswith(folder)} == expected


def test_a_process_that_holds_many_pipes_is_described_once(
    host: _Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a crowd of workers, each holds the pipes of all that were forked before it."""
    host.call(_number("futex"))
    host.process(_WORKER, 1, comm=b"worker")
    readers = range(1000, 1020)
    for pid in readers:
        host.process(pid, _PARENT, start=20)
        host.thread(pid, pid, start=20)
        host.fd(str(pid), 5, "00", f"pipe:[{pid}]")
        host.fd(f"{pid}/task/{pid}", 5, "00", f"pipe:[{pid}]")
        host.call(_READ_NUMBER, 5, 0x7F00, 4096, pid=pid, tid=pid)
        host.fd(str(_WORKER), pid, "01", f"pipe:[{pid}]")
    host.call(_number("futex"), pid=_WORKER, tid=_WORKER)
    files: collections.Counter[str] = collections.Counter()
    read = snapshot._bytes

    def counted(path: str) -> bytes:
        files[path] += 1
        return read(path)

    monkeypatch.setattr(snapshot, "_bytes", counted)
    look = host.look()
    assert [[holder.pid for holder in wait.holders] for wait in look.waits] == [[_WORKER]] * len(readers)
    for name in ("comm", "wchan", f"task/{_WORKER}/syscall"):
        assert files[f"{host.root}/{_WORKER}/{name}"] <= 1, name
