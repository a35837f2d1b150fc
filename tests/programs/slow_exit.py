#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A process with a copy of an errpipe exits; the kernel first closes its sockets, which can be delayed."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import threading
import time

from _spawns import done, fork_and_exec, set_comm, wait_for_exec


def fork_worker(comm: str, live: float, sockets: int) -> int:
    """Fork a process that kills itself; the kernel closes the files that were opened last first."""
    pid = os.fork()
    if pid == 0:
        listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(sockets)]
        set_comm(comm)
        time.sleep(live)
        os.kill(os.getpid(), signal.SIGKILL)
        del listening
    return pid


def play(who: str, comm: str, live: float, sockets: int, size: int) -> None:
    workers: list[int] = []

    def fork() -> None:
        workers.append(fork_worker(comm, live, sockets))

    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    if who == "holder":
        beside = threading.Thread(target=fork)
        beside.start()
        beside.join()
    start = time.monotonic()
    if who == "child":
        fork()
    child = workers[0] if who == "child" else fork_and_exec()
    wait_for_exec(start, read_end, write_end, child, size=size, holder=workers[0])
    for pid in {child, workers[0]}:
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--who", choices=("holder", "child"), default="holder", help="which process exits")
    parser.add_argument("--comm", default="python3", help="of that process")
    parser.add_argument("--live", type=float, default=0.3, help="seconds that it lives")
    parser.add_argument("--sockets", type=int, default=40, help="that it has open")
    parser.add_argument("--size", type=int, default=50_000, help="of the read; 50000: as Python")
    options = parser.parse_args()
    play(options.who, options.comm, options.live, options.sockets, options.size)
    done()


if __name__ == "__main__":
    main()
