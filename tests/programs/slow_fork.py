#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A thread's fork takes long, and another thread starts a program meanwhile. The worker never calls exec.

With --late-pipe, that program's errpipe is created after the kernel has copied the fd table for a child
that calls exec during the stall. This child has no copy. A worker has one.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import threading
import time
from typing import Optional

from _spawns import TRUE, done, fork_and_exec, fork_worker_beside, set_comm, wait_for_exec


class _Fork(threading.Thread):
    """Forks a process that waits, and calls exec if it was given a time."""

    def __init__(self, comm: str, exec_after: Optional[float] = None) -> None:
        super().__init__()
        self.begins, self.returned = threading.Event(), threading.Event()
        self._comm, self._exec_after = comm, exec_after
        self.child = 0

    def run(self) -> None:
        set_comm(self._comm)
        self.begins.set()
        time.sleep(0.01)  # the main thread sleeps: nobody has the interpreter lock in the child
        self.child = ctypes.CDLL(None)._Fork()  # os.fork keeps the interpreter lock, and fork others
        if self.child == 0 and self._exec_after is not None:
            time.sleep(self._exec_after)
            os.execv(TRUE[0], TRUE)
        while self.child == 0:
            signal.pause()
        self.returned.set()

    def begin(self) -> None:
        self.start()
        self.begins.wait()
        time.sleep(0.04)  # the kernel has copied the fd table


def play(comm: str, live: float) -> None:
    beside = _Fork(comm)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    beside.begin()
    start = time.monotonic()
    child = fork_and_exec()
    killer = threading.Thread(target=_kill, args=(beside, live))
    killer.start()
    wait_for_exec(start, read_end, write_end, child, holder=None)
    os.waitpid(child, 0)
    killer.join()


def _kill(fork: _Fork, live: float) -> None:
    fork.returned.wait()
    time.sleep(live)
    os.kill(fork.child, signal.SIGKILL)
    os.waitpid(fork.child, 0)


def play_late_pipe(comm: str, live: float) -> None:
    beside = _Fork(comm, exec_after=live)
    beside.begin()
    start = time.monotonic()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    beside.returned.wait()
    holder = fork_worker_beside(2 * live)
    child = fork_and_exec()
    wait_for_exec(start, read_end, write_end, child, holder=holder)
    for pid in (beside.child, child, holder):
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comm", default="python3", help="of the thread whose fork takes long")
    parser.add_argument("--live", type=float, default=0.3, help="seconds until its child ends or calls exec")
    parser.add_argument("--late-pipe", action="store_true", help="create the pipe during the fork")
    options = parser.parse_args()
    (play_late_pipe if options.late_pipe else play)(options.comm, options.live)
    done()


if __name__ == "__main__":
    main()
