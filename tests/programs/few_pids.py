#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reused pids: own children and holders take turns with a few pids, as if pid_max were small.

Every spawn has a foreign holder, whose pid belonged to an own child or a holder shortly before. Prints each
spawn with "child" and "holder".
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time

from _spawns import TRUE, done, emit_spawn, fork_with_pid

_KEEP = 0.03


def _pids(count: int) -> list[int]:
    """Return free pids that the kernel has just passed, so that no other process receives them soon."""
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        pids.append(pid)
    return pids


def _spawn(child_pid: int, holder_pid: int) -> None:
    began = time.monotonic()
    read_end, write_end = os.pipe()

    def fork_holder() -> None:
        if fork_with_pid(holder_pid) == 0:
            time.sleep(_KEEP)
            os._exit(0)

    thread = threading.Thread(target=fork_holder)
    thread.start()
    thread.join()
    if fork_with_pid(child_pid) == 0:
        os.execv(TRUE[0], TRUE)
    os.close(write_end)
    os.read(read_end, 1)
    emit_spawn(began, time.monotonic() - began, child_pid, holder=holder_pid)
    os.close(read_end)
    for pid in (child_pid, holder_pid):
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spawns", type=int, default=60)
    parser.add_argument("--pids", type=int, default=3)
    options = parser.parse_args()
    pids = _pids(options.pids)
    for number in range(options.spawns):
        try:
            _spawn(pids[number % len(pids)], pids[(number + 1) % len(pids)])
        except FileExistsError:
            sys.exit("another process has got one of the pids")
    done()


if __name__ == "__main__":
    main()
