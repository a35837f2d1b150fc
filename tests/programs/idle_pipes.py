#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Many pipes without a fork, and then one Popen, beside which another thread forks a worker.

``--threads N``: N threads each create a pipe, and sleep. ``--made M``: another thread creates M pipes in
sequence and keeps the last ``--kept`` open; with ``--same-thread`` it is the thread that uses Popen.
Prints the spawn, with its worker.
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
import threading
from typing import Any

from _spawns import TRUE, HookedEnv, done, fork_worker_beside, spawn


def _make_pipes(made: int, kept: int) -> None:
    open_pipes: collections.deque[tuple[int, int]] = collections.deque()
    for _ in range(made):
        open_pipes.append(os.pipe())
        if len(open_pipes) > kept:
            for fd in open_pipes.popleft():
                os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--made", type=int, default=0)
    parser.add_argument("--kept", type=int, default=400)
    parser.add_argument("--same-thread", action="store_true")
    parser.add_argument("--live", type=float, default=1.0, help="how long the worker lives")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    over = threading.Event()
    ready = threading.Semaphore(0)

    def sit() -> None:
        os.pipe()
        ready.release()
        over.wait()

    def make() -> None:
        _make_pipes(options.made, options.kept)
        ready.release()
        over.wait()

    idle = [threading.Thread(target=sit) for _ in range(options.threads)]
    if options.made and not options.same_thread:
        idle.append(threading.Thread(target=make))
    for thread in idle:
        thread.start()
    for _ in idle:
        ready.acquire()
    if options.same_thread:
        _make_pipes(options.made, options.kept)
    fields: dict[str, Any] = {}

    def fork_beside() -> None:
        fields["worker"] = fork_worker_beside(options.live)

    spawn(TRUE, fields, env=HookedEnv(fork_beside)).wait()
    os.waitpid(fields["worker"], 0)
    over.set()
    for thread in idle:
        thread.join()
    done()


if __name__ == "__main__":
    main()
