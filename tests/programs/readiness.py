#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Look-alike of a stalled spawn: a daemon reports through the pipe that it is ready.

The child forks the daemon and exits without an exec; the parent reads until the daemon has written. With a
SEQPACKET socketpair instead of the pipe, this is what Chromium's crashpad does.
"""

from __future__ import annotations

import argparse
import os
import socket
import time

from _spawns import done

_SECONDS = 1.6


def _daemon(fd: int) -> None:
    """Run the child: leave a grandchild behind that writes later."""
    if os.fork() == 0:
        time.sleep(_SECONDS)
        os.write(fd, b"ready")
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("by", choices=["pipe", "socket"])
    if parser.parse_args().by == "pipe":
        read_fd, write_fd = os.pipe()
    else:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read_fd, write_fd = (end.detach() for end in pair)
    child = os.fork()
    if child == 0:
        _daemon(write_fd)
    os.close(write_fd)
    os.waitpid(child, 0)
    if os.read(read_fd, 5) != b"ready":
        raise SystemExit("the daemon wrote something else")
    os.close(read_fd)
    done()


if __name__ == "__main__":
    main()
