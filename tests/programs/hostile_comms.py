#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A stall in which parent, own child and holder all have a malicious comm.

The first line contains the holder's pid; the stall ends after --live seconds, or when the holder is killed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

from _spawns import HookedEnv, done, emit, spawn


def call_self(comm: bytes) -> None:
    """Set this process's comm."""
    Path("/proc/self/comm").write_bytes(comm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comm", required=True, help="for all three, at most 15 bytes, in hexadecimal")
    parser.add_argument("--live", type=float, default=2.0, help="how long the holder lives")
    options = parser.parse_args()
    comm = bytes.fromhex(options.comm)
    holders: list[int] = []

    def fork_holder() -> None:
        pid = os.fork()
        if pid == 0:
            call_self(comm)
            time.sleep(options.live)
            os._exit(0)
        emit(kind="worker", pid=pid)
        holders.append(pid)

    def hook() -> None:
        forker = threading.Thread(target=fork_holder)  # Popen's own thread would fork a descendant
        forker.start()
        forker.join()

    call_self(comm)
    with tempfile.TemporaryDirectory() as folder:
        # exec sets comm to the name of the file, which cannot contain a slash.
        program = Path(folder) / os.fsdecode(comm.replace(b"/", b"|"))
        program.symlink_to("/bin/true")
        spawn([os.fspath(program)], env=HookedEnv(hook)).wait()
    os.waitpid(holders[0], 0)
    done()


if __name__ == "__main__":
    main()
