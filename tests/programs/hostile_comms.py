#!/usr/bin/python3
"""Plays a stall in which parent, own child and holder all have a comm that was chosen to do harm.

The first line tells the holder's pid; killing it, or the end of --live seconds, ends the stall.
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
    """Set this process' comm."""
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
        forker = threading.Thread(target=fork_holder)  # what Popen's own thread forks is its child
        forker.start()
        forker.join()

    call_self(comm)
    with tempfile.TemporaryDirectory() as folder:
        # A comm is the name of the file that was executed; a slash cannot be in it.
        program = Path(folder) / os.fsdecode(comm.replace(b"/", b"|"))
        program.symlink_to("/bin/true")
        spawn([os.fspath(program)], env=HookedEnv(hook)).wait()
    os.waitpid(holders[0], 0)
    done()


if __name__ == "__main__":
    main()
