#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Start a program as Rust's Command with pre_exec does: the errpipe is a SEQPACKET socketpair.

With --force another thread forks a worker (no exec, --live seconds) while the pair is open. Prints the spawn
with "worker"; "seconds" is the time in recv.
"""

from __future__ import annotations

import argparse
import os
import socket
import threading
import time
from typing import Optional

from _spawns import done, emit_spawn


def _spawn(live: Optional[float], program: str) -> None:
    kind = socket.SOCK_SEQPACKET
    reader, writer = socket.socketpair(socket.AF_UNIX, kind)
    workers: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(live or 0)
            os._exit(0)
        workers.append(pid)

    if live is not None:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    child = os.fork()
    if child == 0:
        reader.close()
        try:
            os.execv(program, [program])
        except OSError as error:
            writer.send(str(error.errno).encode())
        os._exit(1)
    writer.close()
    start = time.monotonic()
    reader.recv(8)
    seconds = time.monotonic() - start
    reader.close()
    for pid in (child, *workers):
        os.waitpid(pid, 0)
    emit_spawn(start, seconds, child, worker=workers[0] if workers else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--live", type=float, default=0.3)
    parser.add_argument("--program", default="/bin/true")
    options = parser.parse_args()
    for _ in range(options.count):
        _spawn(options.live if options.force else None, options.program)
    done()


if __name__ == "__main__":
    main()
