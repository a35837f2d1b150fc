#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A foreign holder with the former pid of the own child.

A worker is forked while the errpipe is open. When the own child has called exec, ended and been reaped, the
worker forks a process with the child's pid (clone3 with set_tid), and ends; that process keeps the copy.
Prints the spawn, with "worker" and "kept".
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from _spawns import TRUE, HookedEnv, done, fork_with_pid, spawn

_KEEP = 0.5


def _work(orders: int) -> None:
    pid = int(os.read(orders, 32))
    if fork_with_pid(pid) == 0:
        time.sleep(_KEEP)
    os._exit(0)


def _children() -> list[int]:
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def main() -> None:
    fields: dict[str, Any] = {"kept": _KEEP}
    orders, order = os.pipe()

    def reap() -> None:
        [pid] = [pid for pid in _children() if pid != fields["worker"]]
        os.waitpid(pid, 0)
        os.write(order, str(pid).encode())

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            _work(orders)
        fields["worker"] = pid

    def hook() -> None:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        timer = threading.Timer(0.3, reap)
        timer.start()

    spawn(TRUE, fields, env=HookedEnv(hook))
    done()


if __name__ == "__main__":
    main()
