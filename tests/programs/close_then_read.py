#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stalls whose parent closes its write end at all moments around the exec, and reads a little later.

Before the own child, another thread forks a worker that exits at once, and one that holds the errpipe until
its exec.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import threading
import time

from _spawns import done, fork_and_exec, fork_worker, wait_for_exec


def _fork_workers(live: float, workers: list[int]) -> None:
    os.waitpid(fork_worker(0), 0)
    workers.append(fork_and_exec(after=live))


def _spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def seconds_to_exec() -> float:
    """Return the time from a fork to the child's exec."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    start = time.monotonic()
    child = fork_and_exec()
    os.close(write_end)
    os.read(read_end, 1)
    taken = time.monotonic() - start
    os.close(read_end)
    os.waitpid(child, 0)
    return taken


def _wait_in_poll(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()


def play(after: float, live: float, polls: bool) -> None:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    workers: list[int] = []
    beside = threading.Thread(target=_fork_workers, args=(live, workers))
    beside.start()
    beside.join()
    start = time.monotonic()
    child = fork_and_exec()
    _spin(start + after - time.monotonic())

    def wait() -> None:
        return _wait_in_poll(read_end) if polls else _spin(40e-6)

    wait_for_exec(start, read_end, write_end, child, wait, holder=workers[0])
    for pid in (child, workers[0]):
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--around", type=float, default=0.2, help="most milliseconds between close and exec")
    parser.add_argument(
        "--live", type=float, default=0.06, help="seconds that a holder lives before its exec"
    )
    parser.add_argument("--poll", action="store_true", help="wait in poll, and read only at the end, as Qt")
    options = parser.parse_args()
    exec_at = statistics.median(seconds_to_exec() for _ in range(25))
    for number in range(options.count):
        play(exec_at + options.around / 1e3 * (2 * number / options.count - 1), options.live, options.poll)
    done()


if __name__ == "__main__":
    main()
