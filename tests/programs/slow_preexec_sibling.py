#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A stall of cause `late_exec`: the holder is a sibling Popen's child with a slow preexec_fn.

Thread A's Popen reads its ``env=`` mapping between pipe2 and fork; there it waits until thread B's
Popen has forked. B's child releases A's errpipe at its close_range (after preexec_fn), or, with
--no-close-fds, at its exec.
"""

from __future__ import annotations

import argparse
import mmap
import os
import struct
import threading
import time
from typing import Any

from _spawns import TRUE, HookedEnv, done, spawn

PID = struct.Struct("i")


def play(sleep: float, close_fds: bool) -> None:
    child_pid = mmap.mmap(-1, PID.size)  # shared with B's child; not a pipe, to have only errpipes
    opened = threading.Event()
    fields: dict[str, Any] = {"role": "a"}

    def slow_start() -> None:
        PID.pack_into(child_pid, 0, os.getpid())
        time.sleep(sleep)

    def sibling() -> None:
        opened.wait()
        spawn(TRUE, {"role": "b"}, preexec_fn=slow_start, close_fds=close_fds).wait()

    def hook() -> None:
        opened.set()
        while not PID.unpack_from(child_pid)[0]:
            time.sleep(0.001)
        fields["holder"] = PID.unpack_from(child_pid)[0]

    thread = threading.Thread(target=sibling)
    thread.start()
    spawn(TRUE, fields, env=HookedEnv(hook)).wait()
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--sleep", type=float, default=0.4, help="how long B's preexec_fn takes")
    parser.add_argument(
        "--close-fds", action=argparse.BooleanOptionalAction, default=True, help="of B's Popen"
    )
    options = parser.parse_args()
    for _ in range(options.count):
        play(options.sleep, options.close_fds)
    done()


if __name__ == "__main__":
    main()
