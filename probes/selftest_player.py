# SPDX-License-Identifier: Apache-2.0
"""Run one spawn with a foreign holder, for the self-test; a program of its own.

    selftest_player.py HOLD_SECONDS

Waits for a line on standard input, runs the spawn, and prints a JSON object: pids, thread, fds, and when the
read began and ended (CLOCK_MONOTONIC ns).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

_COMM = "spawnstall-test"
_PAUSE_SECONDS = 0.001


def _play(hold_seconds: float) -> dict[str, object]:
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    holder: list[int] = []
    reads: list[bool] = []

    def fork_holder() -> None:
        pid = os.fork()
        if pid == 0:
            os.read(go_read, 1)
            time.sleep(hold_seconds)
            os._exit(0)
        holder.append(pid)

    def release_after_exec() -> None:
        # The stall begins with the own child's exec, which can take long on a busy machine: only the exit of
        # the new program shows that it is over.
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        while not (reads and _sleeps(os.getpid())):  # it can be kept from its read for long
            time.sleep(_PAUSE_SECONDS)
        os.write(go_write, b"x")

    other_thread = threading.Thread(target=fork_holder)
    other_thread.start()
    other_thread.join()
    child = os.fork()
    if child == 0:
        os.execv("/bin/true", ["true"])
    threading.Thread(target=release_after_exec).start()
    os.close(write_fd)
    began = time.monotonic_ns()
    reads.append(True)
    os.read(read_fd, 1)
    ended = time.monotonic_ns()
    os.close(read_fd)
    os.waitpid(child, 0)
    os.waitpid(holder[0], 0)
    return {
        "pid": os.getpid(),
        "tid": threading.get_native_id(),
        "child": child,
        "holder": holder[0],
        "read_fd": read_fd,
        "write_fd": write_fd,
        "began": began,
        "ended": ended,
    }


def _sleeps(tid: int) -> bool:
    """Whether a thread of this process is blocked."""
    stat = Path(f"/proc/self/task/{tid}/stat").read_text()
    return stat.rsplit(")", 1)[1].split()[0] == "S"


if __name__ == "__main__":
    Path("/proc/self/comm").write_text(_COMM)
    if not sys.stdin.readline():
        sys.exit()  # the self-test has been cancelled
    print(json.dumps(_play(float(sys.argv[1]))))
