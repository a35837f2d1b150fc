#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A thread forks a worker while another one is in pipe2: the pipe exists, the call has not returned.

With --second-pipe, the thread then creates a pipe, and its call returns first.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import threading
import time

from _spawns import done, fork_and_exec, fork_worker, set_comm, wait_for_exec


def _fork_when_open(
    fd: int, live: float, second_pipe: bool, cpus: list[int], ready: threading.Event, workers: list[int]
) -> None:
    os.sched_setaffinity(0, cpus[-1:])
    ready.set()
    while True:
        try:
            os.fstat(fd)
            break
        except OSError:
            pass
    workers.append(fork_worker(live))
    if second_pipe:
        os.pipe2(os.O_CLOEXEC)


def play(live: float, comm: str, second_pipe: bool) -> None:
    read_end, write_end = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]  # the pipe gets the same fds
    for fd in (read_end, write_end):
        os.close(fd)
    cpus = sorted(os.sched_getaffinity(0))
    ready, workers = threading.Event(), list[int]()
    beside = threading.Thread(
        target=_fork_when_open, args=(write_end, live, second_pipe, cpus, ready, workers)
    )
    beside.start()
    ready.wait()
    os.sched_setaffinity(0, cpus[:1])
    set_comm(comm)  # of this thread only
    start = time.monotonic()
    ends = (ctypes.c_int * 2)()
    ctypes.CDLL(None).pipe2(ends, os.O_CLOEXEC)  # os.pipe2 keeps the interpreter lock
    set_comm("python3")
    read_end, write_end = ends
    beside.join()
    child = fork_and_exec()
    wait_for_exec(start, read_end, write_end, child, holder=workers[0])
    for pid in (child, workers[0]):
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comm", default="python3", help="of the thread in pipe2")
    parser.add_argument("--live", type=float, default=0.5, help="seconds that the worker lives")
    parser.add_argument("--second-pipe", action="store_true")
    options = parser.parse_args()
    play(options.live, options.comm, options.second_pipe)
    done()


if __name__ == "__main__":
    main()
