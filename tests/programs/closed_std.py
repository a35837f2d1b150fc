#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Popen in a daemon with closed standard input and output, while another thread forks a worker.

The errpipe is created on fds 0 and 1; CPython moves its write end up, because the child's standard streams
belong there. Prints the spawn, with its worker.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from typing import Any

from _spawns import TRUE, HookedEnv, emit_spawn, fork_worker_beside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", type=float, default=1.6, help="how long the worker lives")
    options = parser.parse_args()
    output = os.dup(1)
    os.close(0)
    os.close(1)
    fields: dict[str, Any] = {"slow": 0}

    def fork_beside() -> None:
        fields["worker"] = fork_worker_beside(options.live)

    start = time.monotonic()
    popen = subprocess.Popen(TRUE, env=HookedEnv(fork_beside))
    seconds = time.monotonic() - start
    os.dup2(output, 1)
    popen.wait()
    os.waitpid(fields["worker"], 0)
    emit_spawn(start, seconds, popen.pid, **fields)


if __name__ == "__main__":
    main()
