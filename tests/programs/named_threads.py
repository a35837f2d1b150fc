#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server whose threads have names of their own in the kernel, as every thread of Python 3.14 has.

The process is ``named-server``. Each of its threads starts one program. One more thread has a stall: a
worker, the process ``named-worker``, is forked meanwhile, and one of its threads closes its copy.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import threading
import time
from typing import Any, Callable

from _spawns import TRUE, HookedEnv, done, spawn

_PR_SET_NAME = 15
_libc = ctypes.CDLL(None)


def set_name(name: str) -> None:
    _libc.prctl(_PR_SET_NAME, name.encode())


def run_named(name: str, function: Callable[[], Any]) -> None:
    """Run a function in a thread of this name, to its end."""

    def run() -> None:
        set_name(name)
        function()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def work(live: float) -> None:
    """The worker: its copies are closed by a thread that has another name."""
    set_name("named-worker")
    time.sleep(live)
    run_named("Thread-1 (close", lambda: os.closerange(3, 256))
    os._exit(0)


def stall(live: float) -> None:
    fields: dict[str, Any] = {}

    def fork() -> None:
        fields["worker"] = os.fork()
        if fields["worker"] == 0:
            work(live)

    spawn(TRUE, fields, env=HookedEnv(lambda: run_named("Thread-1 (fork", fork))).wait()
    os.waitpid(fields["worker"], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=20)
    parser.add_argument("--live", type=float, default=1.5, help="how long the worker has its copy")
    options = parser.parse_args()
    set_name("named-server")
    for number in range(1, options.threads + 1):
        run_named(f"Thread-{number} (hand", lambda: spawn(TRUE).wait())
    run_named("Thread-0 (stall", lambda: stall(options.live))
    done()


if __name__ == "__main__":
    main()
