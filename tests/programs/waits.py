#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that hang, or wait by design, in starting, feeding, reading or reaping a child.

    waits.py NAME     one of the functions below

Before it blocks, each prints one JSON object with what a snapshot must name.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

_SECONDS = 60
_SLEEP = ["/bin/sleep", str(_SECONDS)]
_TRUE = "/bin/true"


def _say(kind: str, holder: Optional[int], normal: bool = False, parent: Optional[int] = None) -> None:
    expected = {"kind": kind, "parent": parent or os.getpid(), "holder": holder, "normal": normal}
    print(json.dumps(expected), flush=True)


def _say_child(kind: str) -> None:
    """Print from another thread: the main thread blocks in starting a child that does not exec."""
    main = os.getpid()

    def watch() -> None:
        while not _children(main):
            pass
        time.sleep(0.3)
        _say(kind, _children(main)[0])

    threading.Thread(target=watch, daemon=True).start()


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _fork_in_a_thread() -> int:
    workers: list[int] = []

    def fork() -> None:
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            time.sleep(_SECONDS)
            os._exit(0)
        workers.append(pid)

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    return workers[0]


# Data pipes


def grandchild_keeps_output() -> None:
    child = subprocess.Popen(["/bin/sh", "-c", f"sleep {_SECONDS} & echo $!"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    holder = int(child.stdout.readline())
    time.sleep(0.2)
    _say("output", holder)
    child.communicate()


def sibling_keeps_output() -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    sibling = subprocess.Popen(_SLEEP, close_fds=False)
    subprocess.run([_TRUE], stdout=write_end)
    os.close(write_end)
    _say("output", sibling.pid)
    os.read(read_end, 4096)


def worker_keeps_output() -> None:
    """The worker was forked by another thread while the pipe was open."""
    read_end, write_end = os.pipe()
    worker = _fork_in_a_thread()
    child = subprocess.Popen(["/bin/echo", "a line"], stdout=write_end)
    os.close(write_end)
    time.sleep(0.2)
    os.read(read_end, 4096)
    _say("output errpipe", worker)  # new kernels do not show which
    os.read(read_end, 4096)
    child.wait()


def fifo_is_kept_open() -> None:
    path = Path(tempfile.mkdtemp(), "fifo")
    os.mkfifo(path)
    holder = subprocess.Popen(["/bin/sh", "-c", 'exec sleep 60 1>"$0"', str(path)])
    with path.open("rb") as file:
        _say("output", holder.pid, normal=True)
        file.read()


def socket_is_kept_open() -> None:
    """As Node reads its children's output."""
    mine, its = socket.socketpair()
    subprocess.run(["/bin/sh", "-c", f"sleep {_SECONDS} & echo $!"], stdout=its.fileno())
    its.close()
    _say("output", int(mine.recv(20)))
    mine.recv(4096)


def output_of_a_child_at_work() -> None:
    child = subprocess.Popen(_SLEEP, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _say("output", child.pid, normal=True)
    child.communicate()


def input_kept_open_by_a_sibling() -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    sibling = subprocess.Popen(_SLEEP, close_fds=False)
    cat = subprocess.Popen(["/bin/cat"], stdin=read_end, stdout=subprocess.DEVNULL)
    os.close(read_end)
    os.close(write_end)
    _say("input", sibling.pid, parent=cat.pid)
    cat.wait()


def input_that_its_waiter_keeps_open() -> None:
    cat = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    _say("input", os.getpid(), parent=cat.pid)
    os.waitpid(cat.pid, 0)


def output_that_its_waiter_does_not_read() -> None:
    child = subprocess.Popen(["/usr/bin/seq", "100000"], stdout=subprocess.PIPE)
    _say("output", os.getpid(), parent=child.pid)
    child.wait()


def input_that_is_not_read() -> None:
    child = subprocess.Popen(_SLEEP, stdin=subprocess.PIPE)
    assert child.stdin is not None
    _say("input", child.pid, normal=True)
    child.stdin.write(b"x" * 1_000_000)


def pipe_that_its_reader_holds() -> None:
    read_end, write_end = os.pipe()
    subprocess.run([_TRUE], stdout=write_end)
    _say("self_held", os.getpid())
    os.read(read_end, 4096)


def jobserver_kept_open() -> None:
    folder = tempfile.mkdtemp()
    recipe = "+@sh -c 'sleep 60 >/dev/null 2>&1 & echo $$! >pid'"
    Path(folder, "Makefile").write_text(f"all: a b\na:\n\t{recipe}\nb:\n\t@true\n")
    make = subprocess.Popen(["make", "-j2", "-C", folder], stdout=subprocess.DEVNULL)
    time.sleep(1)
    _say("jobserver", int(Path(folder, "pid").read_text()), parent=make.pid)
    make.wait()


# Children that have not called exec


def own_child_waits_for_a_lock() -> None:
    lock = threading.Lock()
    threading.Thread(target=lock.acquire, daemon=True).start()
    time.sleep(0.1)
    _say_child("own_child")
    subprocess.Popen([_TRUE], preexec_fn=lock.acquire)


def own_child_is_in_a_fork_hook() -> None:
    """In a fork hook it has not closed its read end yet."""
    _say_child("own_child")
    os.register_at_fork(after_in_child=lambda: time.sleep(_SECONDS))
    subprocess.Popen([_TRUE], preexec_fn=lambda: None)


def own_child_behind_a_socket_is_stopped() -> None:
    """As Rust starts a program with pre_exec."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _say_child("own_child")
    if os.fork() == 0:
        mine.close()
        time.sleep(_SECONDS)
    its.close()
    mine.recv(8)


def own_child_is_stopped() -> None:
    _say_child("own_child")
    subprocess.Popen([_TRUE], preexec_fn=lambda: os.kill(os.getpid(), signal.SIGSTOP))


def own_child_is_busy() -> None:
    def close_many() -> None:
        while True:
            os.closerange(1000, 200_000)

    _say_child("own_child")
    subprocess.Popen([_TRUE], preexec_fn=close_many)


def _exec_leased(kind: str, preexec: Optional[Callable[[], None]]) -> None:
    """Start a program whose exec waits 45 s until a lease is broken.

    Another process has the lease and prints what must be found: all threads of this one may be blocked.
    """
    main = os.getpid()
    path = Path(tempfile.mkdtemp(), "leased")
    shutil.copy(_TRUE, path)
    reader, writer = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            fcntl.fcntl(os.open(path, os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
            os.close(writer)
            while not _children(main):
                time.sleep(0.01)
            time.sleep(0.3)
            _say(kind, _children(main)[0], parent=main)
            time.sleep(_SECONDS)
        os._exit(0)
    os.wait()
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    subprocess.Popen([path], preexec_fn=preexec)


def own_child_is_in_exec() -> None:
    _exec_leased("own_child", lambda: None)


def vfork_child_is_in_exec() -> None:
    _exec_leased("vfork", None)


# A foreign holder of what looks like an errpipe


def _bystander() -> tuple[int, int]:
    """Return a pipe's read end, and the worker, forked by another thread, that holds the write end."""
    read_end, write_end = os.pipe()
    worker = _fork_in_a_thread()
    os.posix_spawn(_TRUE, [_TRUE], {})
    os.close(write_end)
    time.sleep(0.1)
    _say("errpipe", worker)
    return read_end, worker


def errpipe_in_read() -> None:
    os.read(_bystander()[0], 4096)


def errpipe_in_poll() -> None:
    poll = select.poll()
    poll.register(_bystander()[0], select.POLLIN)
    poll.poll()


def errpipe_in_select() -> None:
    select.select([_bystander()[0]], [], [])


def errpipe_in_epoll() -> None:
    poll = select.epoll()
    poll.register(_bystander()[0], select.EPOLLIN)
    poll.poll()


# Children


def child_that_lives() -> None:
    child = subprocess.Popen(["/bin/sh", "-c", "sleep 60; true"])
    time.sleep(0.2)
    _say("child", child.pid, normal=True)
    child.wait()


def child_that_is_stopped() -> None:
    child = subprocess.Popen(_SLEEP)
    child.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    _say("child", child.pid)
    child.wait()


def terminal() -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(_SLEEP[0], _SLEEP)
    time.sleep(0.2)
    _say("other", pid, normal=True)
    os.read(fd, 100)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
