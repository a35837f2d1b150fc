#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server that only spawns: threads of one process start programs in a loop, another forks workers.

The workers do not exec, and live briefly. Each thread starts at least one program. Prints every spawn and
every worker at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import threading
import time
from typing import Any

from _spawns import TRUE, done, emit

_PR_SET_NAME = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--worker", type=float, default=0.05, help="how long a worker lives")
    parser.add_argument("--comm", default="storm", help="the name of the process")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, options.comm.encode())
    said: list[dict[str, Any]] = []
    end = 0.0
    go = threading.Event()

    def spawn_on() -> None:
        go.wait()
        while True:
            start = time.monotonic()
            child = subprocess.Popen(TRUE)
            seconds = time.monotonic() - start
            tid = threading.get_native_id()
            said.append({"kind": "spawn", "tid": tid, "child": child.pid, "start": start, "seconds": seconds})
            child.wait()
            if time.monotonic() > end:
                return

    def fork_on() -> None:
        go.wait()
        while time.monotonic() < end:
            start = time.monotonic()
            worker = os.fork()
            if worker == 0:
                time.sleep(options.worker)
                os._exit(0)
            os.waitpid(worker, 0)
            said.append({"kind": "worker", "pid": worker, "start": start, "end": time.monotonic()})
            time.sleep(0.01)

    threads = [threading.Thread(target=spawn_on) for _ in range(options.threads)]
    threads.append(threading.Thread(target=fork_on))
    for thread in threads:
        thread.start()
    end = time.monotonic() + options.seconds
    go.set()
    for thread in threads:
        thread.join()
    for line in said:
        emit(**{"pid": os.getpid(), **line})
    done(comm=options.comm)


if __name__ == "__main__":
    main()
