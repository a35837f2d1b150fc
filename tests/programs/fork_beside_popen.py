#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stalls of cause `forked`: one thread forks workers that never exec, another uses Popen.

By default a worker inherits an errpipe by chance. With ``--force K``, K Popens are certain to stall:
Popen reads its ``env=`` mapping between pipe2 and fork, and the mapping has a worker forked at that
moment.
"""

from __future__ import annotations

import argparse
import os
import queue
import threading
import time
from typing import Any

from _spawns import TRUE, HookedEnv, done, emit, fork_worker, spawn


def reap_worker(pid: int, start: float) -> None:
    os.waitpid(pid, 0)
    emit(kind="worker", pid=pid, start=start, end=time.monotonic())


def run_free(seconds: float, live: float, gap: float, pause: float) -> None:
    stop = threading.Event()

    def fork_loop() -> None:
        while not stop.is_set():
            start = time.monotonic()
            reap_worker(fork_worker(live), start)
            time.sleep(gap)

    forker = threading.Thread(target=fork_loop)
    forker.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        spawn(TRUE).wait()
        if pause:
            time.sleep(pause)
    stop.set()
    forker.join()


def run_forced(stalls: int, plain: int, live: float, gap: float) -> None:
    wanted: queue.Queue[bool] = queue.Queue()
    forked: queue.Queue[int] = queue.Queue()
    reaped: queue.Queue[int] = queue.Queue()

    def fork_when_asked() -> None:
        while wanted.get():
            start = time.monotonic()
            pid = fork_worker(live)
            forked.put(pid)
            reap_worker(pid, start)
            reaped.put(pid)

    forker = threading.Thread(target=fork_when_asked)
    forker.start()
    for _ in range(stalls):
        for _ in range(plain):
            spawn(TRUE, {"worker": None}).wait()
        fields: dict[str, Any] = {}

        def hook(fields: dict[str, Any] = fields) -> None:
            wanted.put(True)
            fields["worker"] = forked.get()

        spawn(TRUE, fields, env=HookedEnv(hook)).wait()
        reaped.get()
        time.sleep(gap)
    wanted.put(False)
    forker.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to run (not with --force)")
    parser.add_argument("--live", type=float, default=0.25, help="how long a worker lives")
    parser.add_argument("--gap", type=float, default=0.003, help="pause after a worker was reaped")
    parser.add_argument("--pause", type=float, default=0.0, help="pause after each Popen (not with --force)")
    parser.add_argument("--force", type=int, default=0, metavar="K", help="K certain stalls, then end")
    parser.add_argument("--plain", type=int, default=2, help="plain Popens before each forced one")
    options = parser.parse_args()
    if options.force:
        run_forced(options.force, options.plain, options.live, options.gap)
    else:
        run_free(options.seconds, options.live, options.gap, options.pause)
    done()


if __name__ == "__main__":
    main()
