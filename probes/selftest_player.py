"""Plays one spawn with a known foreign holder, for the self-test; run as a program of its own.

    selftest_player.py HOLD_SECONDS

Waits for a line on standard input, plays, and prints one JSON object: the pids, thread, fds and the time
for which the read was blocked, as this program itself saw them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

_COMM = "spawnstall-test"


def _play(hold_seconds: float) -> dict[str, object]:
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    holder = []

    def fork_holder() -> None:
        pid = os.fork()
        if pid == 0:
            os.read(go_read, 1)
            time.sleep(hold_seconds)
            os._exit(0)
        holder.append(pid)

    def let_go_after_exec() -> None:
        """The stall begins with the own child's exec, which a busy machine can put off or draw out: the new
        program's end is the first sure sign that it is over."""
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        os.write(go_write, b"x")

    other_thread = threading.Thread(target=fork_holder)
    other_thread.start()
    other_thread.join()
    child = os.fork()
    if child == 0:
        os.execv("/bin/true", ["true"])
    threading.Thread(target=let_go_after_exec).start()
    os.close(write_fd)
    began = time.monotonic_ns()
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
        "blocked_ns": ended - began,
    }


if __name__ == "__main__":
    Path("/proc/self/comm").write_text(_COMM)
    if not sys.stdin.readline():
        sys.exit()  # whoever wanted a play has gone
    print(json.dumps(_play(float(sys.argv[1]))))
