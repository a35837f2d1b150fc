# SPDX-License-Identifier: Apache-2.0
"""probes.openfiles against the kernel: every process with a copy is found, however it received the copy."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes import iterator, loader
from probes.btf import Btf, BtfError
from probes.loader import Options, Probes
from probes.openfiles import Copy, OpenFiles
from tests.live.lab import PYTHON

_SLEEP = "/bin/sleep"
# Creates a pipe on request, and sends both ends over the socket on its standard input.
_MAKER = """
import os, socket
with socket.socket(fileno=0) as other:
    other.recv(1)
    ends = os.pipe()
    socket.send_fds(other, [b"%d" % ends[1]], ends)
    other.recv(1)
"""
# The beginning of a program: its argument is the fd, and say() reports that it is done.
_THREADS = """
import ctypes, os, sys, threading, time
libc, fd, done = ctypes.CDLL(None), int(sys.argv[1]), threading.Event()
def say(text):
    os.write(1, f"{text}\\n".encode())
"""
_OWN_TABLE = f"""{_THREADS}
def thread():
    assert libc.unshare(0x400) == 0  # CLONE_FILES
    done.set()
    time.sleep(60)
made = threading.Thread(target=thread)
made.start()
done.wait()
os.close(fd)
say(made.native_id)
"""
_FIRST_THREAD_ENDS = f"""{_THREADS}
made = [threading.Thread(target=time.sleep, args=[60]) for _ in range(3)]
for each in made:
    each.start()
say(min(each.native_id for each in made))
libc.pthread_exit(None)
"""


@dataclass(frozen=True)
class Pipe:
    """A pipe of another process; this process has both ends, too.  before: who has the write end."""

    address: int
    inode: int
    maker: int
    read: int
    write: int
    before: frozenset[tuple[int, int]]


@pytest.fixture(scope="module")
def probes() -> Iterator[Probes]:
    """Probes that follow every pipe of the host except this process's own."""
    with Probes(Options(threshold_ns=10**12), lambda record: None) as probes:
        probes.start()
        yield probes


@pytest.fixture
def open_files(probes: Probes) -> OpenFiles:
    if probes.open_files is None:
        with contextlib.suppress(BtfError):
            assert Btf().function("bpf_iter_task_file") == 0, probes.why_no_iterator
        pytest.skip(f"no iterator over the open files: {probes.why_no_iterator}")
    return probes.open_files


@contextlib.contextmanager
def _made(probes: Probes) -> Iterator[Pipe]:
    ours, theirs = socket.socketpair()
    with subprocess.Popen([PYTHON, "-c", _MAKER], stdin=theirs.fileno()) as maker, ours:
        theirs.close()
        ours.send(b".")
        number, (read, write), _flags, _address = socket.recv_fds(ours, 16, 2)
        for fd in (read, write):
            os.set_inheritable(fd, False)  # Python's recv_fds ignores MSG_CMSG_CLOEXEC
        inode = os.fstat(write).st_ino
        [address] = [spawn.key for spawn in probes.spawns() if spawn.inode == inode]
        before = frozenset({(maker.pid, int(number)), (os.getpid(), write)})
        try:
            yield Pipe(address, inode, maker.pid, read, write, before)
        finally:
            os.close(read)
            os.close(write)


@pytest.fixture
def pipe(probes: Probes) -> Iterator[Pipe]:
    with _made(probes) as pipe:
        yield pipe


def _more(open_files: OpenFiles, pipe: Pipe) -> set[tuple[int, int]]:
    """Return the holders that did not hold it at the beginning, as pid and fd."""
    copies = open_files.holders({pipe.address: pipe.inode})[pipe.address]
    assert {copy.pipe for copy in copies} == {pipe.address}
    found = [(copy.pid, copy.fd) for copy in copies]
    assert len(found) == len(set(found))
    assert pipe.before <= set(found)
    return set(found) - pipe.before


@contextlib.contextmanager
def _sleepers(files: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Start a process for each pair: it has our fd (first) at a number (second)."""
    pids: list[int] = []
    try:
        for ours, number in files:
            action = (os.POSIX_SPAWN_DUP2, ours, number)
            pids.append(os.posix_spawn(_SLEEP, [_SLEEP, "60"], {}, file_actions=[action]))
        for (ours, _number), pid in zip(files, pids):
            # posix_spawn returns shortly before the kernel closes the close-on-exec fds.
            while Path(f"/proc/{pid}/fd/{ours}").exists():
                time.sleep(0.001)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_new_pipe(open_files: OpenFiles, pipe: Pipe) -> None:
    """The write ends of its maker and of the receiver over a socket, and no read end."""
    assert _more(open_files, pipe) == set()


def test_another_pipe_at_the_address(open_files: OpenFiles, pipe: Pipe) -> None:
    """The pipe that is asked about has gone, and the kernel has used its memory again."""
    assert open_files.holders({pipe.address: pipe.inode - 1}) == {pipe.address: []}
    assert _more(open_files, pipe) == set()


def test_children_at_different_fds(open_files: OpenFiles, pipe: Pipe) -> None:
    numbers = [0, 3, 63, 64, 255, 1025, 10_000]
    with _sleepers([(pipe.write, number) for number in numbers]) as pids:
        assert _more(open_files, pipe) == set(zip(pids, numbers))
    assert _more(open_files, pipe) == set()


def test_several_copies_of_one_process(open_files: OpenFiles, pipe: Pipe) -> None:
    copies = [os.dup(pipe.write) for _ in range(3)]
    try:
        assert _more(open_files, pipe) == {(os.getpid(), fd) for fd in copies}
    finally:
        for fd in copies:
            os.close(fd)


def test_read_ends_are_not_reported(open_files: OpenFiles, pipe: Pipe) -> None:
    with _sleepers([(pipe.read, 5), (pipe.read, 6)]):
        assert _more(open_files, pipe) == set()


@pytest.mark.parametrize(
    ("flags", "reported"), [(os.O_WRONLY, True), (os.O_RDWR, True), (os.O_RDONLY, False)]
)
def test_reopened(open_files: OpenFiles, pipe: Pipe, flags: int, reported: bool) -> None:
    """Opened through /proc: another struct file of the same pipe."""
    fd = os.open(f"/proc/{pipe.maker}/fd/{max(fd for pid, fd in pipe.before if pid == pipe.maker)}", flags)
    try:
        assert _more(open_files, pipe) == ({(os.getpid(), fd)} if reported else set())
    finally:
        os.close(fd)


def test_in_the_queue_of_a_socket(open_files: OpenFiles, pipe: Pipe) -> None:
    """No process holds that copy until it is received."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [b"."], [pipe.write])
        assert _more(open_files, pipe) == set()
        _data, [fd], _flags, _address = socket.recv_fds(theirs, 1, 1)
        assert _more(open_files, pipe) == {(os.getpid(), fd)}
        os.close(fd)


def test_namespaces(open_files: OpenFiles, pipe: Pipe) -> None:
    """The pid is the host's; in its namespace the process has pid 1."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", _SLEEP, "60"]
    with subprocess.Popen(command, pass_fds=[pipe.write]) as unshare:
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        try:
            _until(lambda: children.read_text() != "")
            child = int(children.read_text())
            status = Path(f"/proc/{child}/status").read_text()
            assert f"NSpid:\t{child}\t1\n" in status
            assert _more(open_files, pipe) == {(unshare.pid, pipe.write), (child, pipe.write)}
        finally:
            unshare.kill()


@pytest.mark.parametrize("program", [_OWN_TABLE, _FIRST_THREAD_ENDS])
def test_threads(open_files: OpenFiles, pipe: Pipe, program: str) -> None:
    """A thread has its own table, or the first has exited: reported once, for the first that has it."""
    command = [PYTHON, "-c", program, str(pipe.write)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[pipe.write]) as process:
        try:
            assert process.stdout is not None
            thread = int(process.stdout.readline())
            first = Path(f"/proc/{process.pid}/task/{process.pid}/fd")
            _until(lambda: not (first / str(pipe.write)).exists())
            copies = open_files.holders({pipe.address: pipe.inode})[pipe.address]
            others = [copy for copy in copies if (copy.pid, copy.fd) not in pipe.before]
            assert others == [Copy(pipe.address, process.pid, thread, pipe.write)]
        finally:
            process.kill()


def test_many_processes(open_files: OpenFiles, pipe: Pipe) -> None:
    with _sleepers([(pipe.write, 7)] * 500) as pids:
        assert _more(open_files, pipe) == {(pid, 7) for pid in pids}


def test_more_copies_than_the_kernel_gathers_for_one_read(open_files: OpenFiles, pipe: Pipe) -> None:
    copies = [os.dup(pipe.write) for _ in range(4000)]
    try:
        assert _more(open_files, pipe) == {(os.getpid(), fd) for fd in copies}
    finally:
        for fd in copies:
            os.close(fd)


def test_several_pipes_at_once_and_one_after_the_other(
    probes: Probes, open_files: OpenFiles, pipe: Pipe
) -> None:
    with _made(probes) as other, _sleepers([(pipe.write, 7), (other.write, 8)]) as (first, second):
        for asked in ([pipe, other], [other], [pipe], [pipe, other]):
            found = open_files.holders({each.address: each.inode for each in asked})
            assert set(found) == {each.address for each in asked}
            for each, more in ((pipe, (first, 7)), (other, (second, 8))):
                if each in asked:
                    copies = {(copy.pid, copy.fd) for copy in found[each.address]}
                    assert copies == {*each.before, more}


def test_more_pipes_than_the_map_takes(open_files: OpenFiles, pipe: Pipe) -> None:
    """And then as many others, so that the whole map is replaced."""
    for invented in (range(1, 10_000), range(10_000, 20_000)):
        found = open_files.holders({**dict.fromkeys(invented, 1), pipe.address: pipe.inode})
        assert len(found) == len(invented) + 1
        assert {(copy.pid, copy.fd) for copy in found.pop(pipe.address)} == pipe.before
        assert set(map(tuple, found.values())) == {()}


def test_while_processes_come_and_go(open_files: OpenFiles, pipe: Pipe) -> None:
    with _sleepers([(pipe.write, 7)] * 50) as pids:
        storm = "while :; do for i in 1 2 3 4 5; do /bin/true & done; wait; done"
        with subprocess.Popen(["/bin/sh", "-c", storm]) as shell:
            try:
                for _ in range(200):
                    assert _more(open_files, pipe) == {(pid, 7) for pid in pids}
                    time.sleep(0.001)
            finally:
                shell.kill()


@pytest.mark.tracepoints
def test_no_iterator_without_kernel_types() -> None:
    with Probes(Options(threshold_ns=1, use_btf=False), lambda record: None) as probes:
        assert probes.open_files is None
        assert "types" in (probes.why_no_iterator or "")


def test_a_kernel_without_such_iterators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_OPEN_FILES_KIND", "bpf_iter_no_such_thing")
    with Probes(Options(threshold_ns=1), lambda record: None) as probes:
        assert probes.open_files is None
        assert probes.why_no_iterator == "no function bpf_iter_no_such_thing"
        assert "asked" not in probes._compiled.maps


def test_a_kernel_that_refuses_the_iterator(monkeypatch: pytest.MonkeyPatch, open_files: OpenFiles) -> None:
    """An iterator over tasks has no fourth word; the rest works nevertheless."""
    monkeypatch.setattr(loader, "_OPEN_FILES_KIND", "bpf_iter_task")
    with Probes(Options(threshold_ns=1), lambda record: None) as probes:
        assert probes.open_files is None
        assert probes.why_no_iterator is not None
        assert "Permission denied" in probes.why_no_iterator
        assert all(status.attached for status in probes.probes().values())


def test_everything_is_closed(open_files: OpenFiles) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with Probes(Options(threshold_ns=1), lambda record: None) as probes:
        assert probes.open_files is not None
        link = probes._compiled.iterators["open_files"]
        assert "link_type:\titer" in Path(f"/proc/self/fdinfo/{link}").read_text()
    assert set(Path("/proc/self/fd").iterdir()) == before
    with pytest.raises(OSError):
        list(iterator.run(link))


def test_without_capabilities(probes: Probes, open_files: OpenFiles, pipe: Pipe) -> None:
    """Where maps can be read without capabilities, the agent drops them all; passes work without them too."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            assert ctypes.CDLL(None).capset(header, none) == 0
            try:
                probes.spawns()
            except PermissionError:
                os._exit(2)
            found = open_files.holders({pipe.address: pipe.inode})[pipe.address]
            expected = {*pipe.before, (os.getpid(), pipe.write)}
            status = 0 if {(copy.pid, copy.fd) for copy in found} == expected else 1
        os._exit(status)
    _pid, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 2:
        pytest.skip("maps take a capability here")
    assert os.waitstatus_to_exitcode(status) == 0
