#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Another process receives or takes a copy of the errpipe's write end without a fork.

Prints the spawn with "receiver": the pid of the process that keeps the copy for --live seconds.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import time
from typing import Any

from _spawns import TRUE, HookedEnv, done, is_pipe, spawn

_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 434, 438


def _take(by: str, sock: socket.socket, parent: int, live: float) -> None:
    """Run the receiver: take a copy of the fd that the parent sends, keep it, and exit."""
    message, fds, _, _ = socket.recv_fds(sock, 32, 1)
    number = int(message)
    if by == "proc":
        fds = [os.open(f"/proc/{parent}/fd/{number}", os.O_WRONLY | os.O_CLOEXEC)]
    elif by == "pidfd_getfd":
        libc = ctypes.CDLL(None)
        pidfd = libc.syscall(_SYS_PIDFD_OPEN, parent, 0)
        fds = [libc.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)]
    assert fds[0] >= 0
    sock.send(b"got it")
    time.sleep(live)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", choices=("socket", "pidfd_getfd", "proc"), default="socket")
    parser.add_argument("--live", type=float, default=2.5)
    options = parser.parse_args()
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    receiver = os.fork()
    if receiver == 0:
        ours.close()
        _take(options.by, theirs, parent, options.live)
    theirs.close()
    fields: dict[str, Any] = {"receiver": receiver}

    def give() -> None:
        # The errpipe is the newest pipe: its write end has the highest fd of all pipes.
        pipes = [fd for fd in range(3, 64) if is_pipe(fd)]
        passed = [pipes[-1]] if options.by == "socket" else []
        socket.send_fds(ours, [str(pipes[-1]).encode()], passed)
        assert ours.recv(16) == b"got it"

    spawn(TRUE, fields, env=HookedEnv(give)).wait()
    os.waitpid(receiver, 0)
    done()


if __name__ == "__main__":
    main()
