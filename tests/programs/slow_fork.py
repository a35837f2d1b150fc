#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A thread's fork takes long, and another thread starts a program meanwhile. The worker never calls exec."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import threading
import time

from _spawns import done, fork_and_exec, set_comm, wait_for_exec


def _fork_worker(comm: str, live: float, began: threading.Event) -> None:
    set_comm(comm)
    began.set()
    worker = ctypes.CDLL(None)._Fork()  # os.fork keeps the interpreter lock, and fork others
    if worker == 0:
        while True:
            signal.pause()
    time.sleep(live)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


def play(comm: str, live: float) -> None:
    began = threading.Event()
    beside = threading.Thread(target=_fork_worker, args=(comm, live, began))
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    beside.start()
    began.wait()
    time.sleep(0.02)  # the kernel has copied the fd table
    start = time.monotonic()
    child = fork_and_exec()
    wait_for_exec(start, read_end, write_end, child, holder=None)
    os.waitpid(child, 0)
    beside.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comm", default="python3", help="of the thread that forks the worker")
    parser.add_argument("--live", type=float, default=0.3, help="seconds that the worker lives")
    options = parser.parse_args()
    play(options.comm, options.live)
    done()


if __name__ == "__main__":
    main()
