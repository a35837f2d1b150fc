#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Own children that write to the errpipe before their exec, as Java's helper does.

Each runs on another CPU than the parent, and calls exec as soon as it has written.
"""

from __future__ import annotations

import argparse
import os
import time

from _spawns import TRUE, done, emit_spawn, set_comm

_MESSAGE = b"ping"


def play(cpus: list[int]) -> None:
    start = time.monotonic()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, cpus[-1:])
        os.write(write_end, _MESSAGE)
        os.execv(TRUE[0], TRUE)
    os.close(write_end)
    assert [os.read(read_end, len(_MESSAGE)) for _ in range(2)] == [_MESSAGE, b""]
    emit_spawn(start, time.monotonic() - start, child)
    os.close(read_end)
    os.waitpid(child, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--comm", help="the process's name")
    options = parser.parse_args()
    if options.comm:
        set_comm(options.comm)
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:1])
    for _ in range(options.count):
        play(cpus)
    done()


if __name__ == "__main__":
    main()
