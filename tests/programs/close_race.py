#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The own child calls exec while another child is in close or close_range, which will release its copy.

As in Popen with close_fds, this child calls exec next. Its comm is --comm from before it closes the copy.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import threading
import time

from _spawns import TRUE, done, set_comm, wait_for_exec

_SYS_CLOSE_RANGE = 436
_FIRST_FD = 3
_MEANWHILE = 0.005
_CPUS = sorted(os.sched_getaffinity(0))
_libc = ctypes.PyDLL(None, use_errno=True)


def _fork_sibling(by: str, fd: int, comm: str, entered: mmap.mmap, pids: list[int]) -> None:
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, _CPUS[-1:])
        set_comm(comm)
        entered[0] = 1
        if by == "close":
            os.close(fd)
        else:
            _libc.syscall(_SYS_CLOSE_RANGE, _FIRST_FD, ~0, 0)
        os.execv(TRUE[0], TRUE)
    pids.append(pid)


def play(by: str, comm: str) -> None:
    entered = mmap.mmap(-1, 1)  # shared; not a pipe, to have only errpipes
    siblings: list[int] = []
    start = time.monotonic()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    beside = threading.Thread(target=_fork_sibling, args=(by, write_end, comm, entered, siblings))
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, _CPUS[:1])
        while not entered[0]:
            time.sleep(0.0001)
        time.sleep(_MEANWHILE)  # it has entered the call, and a delay keeps it there
        os.execv(TRUE[0], TRUE)
    beside.start()
    beside.join()
    wait_for_exec(start, read_end, write_end, child, holder=siblings[0])
    for pid in (child, siblings[0]):
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", choices=["close", "close_range"], default="close_range")
    parser.add_argument("--comm", default="sibling")
    options = parser.parse_args()
    play(options.by, options.comm)
    done()


if __name__ == "__main__":
    main()
