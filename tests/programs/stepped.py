#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One spawn, a step at a time: its driver (tests/live/stepped.py) can stop anywhere.

    stepped.py CHILD_ORDERS HOLDER_ORDERS    (the read ends of two pipes)

Orders for the parent are lines on standard input: ``pipe``, ``hold`` (another thread forks a worker),
``fork`` (the own child), ``close`` (the write end) and ``read``. A JSON line confirms each. Own child and
worker obey bytes in their pipes: ``c`` closes the copy of the write end, ``e`` calls exec, end-of-file ends
the process.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from _spawns import emit


def _obey(orders: int, write_end: int) -> None:
    while order := os.read(orders, 1):
        if order == b"c":
            os.close(write_end)
        elif order == b"e":
            os.dup2(orders, 0)
            os.execv("/bin/cat", ["cat"])  # ends at the end of the orders
    os._exit(0)


def main() -> None:
    child_orders, holder_orders = map(int, sys.argv[1:])
    read_end = write_end = pid = -1

    def fork(orders: int) -> None:
        nonlocal pid
        pid = os.fork()
        if pid == 0:
            _obey(orders, write_end)

    emit(did="start")
    for line in sys.stdin:
        step = line.strip()
        if step == "pipe":
            read_end, write_end = os.pipe()
        elif step == "hold":
            thread = threading.Thread(target=fork, args=(holder_orders,))
            thread.start()
            thread.join()
        elif step == "fork":
            fork(child_orders)
        elif step == "close":
            os.close(write_end)
        elif step == "read":
            emit(did="reading")
            began = time.monotonic()
            os.read(read_end, 1)
            emit(did="read", seconds=time.monotonic() - began)
            continue
        emit(did=step, pid=pid)


if __name__ == "__main__":
    main()
