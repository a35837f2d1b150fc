#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A busy spawner: many quick Popens, in one thread or several. None of them stalls."""

from __future__ import annotations

import argparse
import subprocess
import threading
from collections.abc import Sequence

from _spawns import TRUE, done, spawn


def spawn_many(program: Sequence[str], count: int) -> None:
    for _ in range(count):
        spawn(program).wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="Popens in all")
    parser.add_argument("--threads", type=int, default=1, help="threads that share them")
    parser.add_argument("--fork", action="store_true", help="by fork and close of all fds, not by vfork")
    parser.add_argument("program", nargs="*", default=TRUE, help="what to start, with its arguments")
    options = parser.parse_args()
    vars(subprocess)["_USE_VFORK"] = not options.fork
    shares = [options.count // options.threads] * options.threads
    shares[0] += options.count % options.threads
    threads = [threading.Thread(target=spawn_many, args=(options.program, share)) for share in shares[1:]]
    for thread in threads:
        thread.start()
    spawn_many(options.program, shares[0])
    for thread in threads:
        thread.join()
    done()


if __name__ == "__main__":
    main()
