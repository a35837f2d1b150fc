#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A foreign holder that does unusual things with its copy of the errpipe's write end before it releases it.

The worker is forked while the errpipe is open. Prints the spawn with "holder" (the process that releases the
last copy) and "kept": about how long it delays the reader; and the cause in a separate line.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import threading
import time
from typing import Any, Callable

from _spawns import TRUE, HookedEnv, done, is_pipe, spawn

_SYS_EXIT, _SYS_CLOSE_RANGE = {"x86_64": 60, "aarch64": 93}[os.uname().machine], 436
_FIONCLEX, _FIOCLEX = 0x5450, 0x5451
_CLOSE_RANGE_CLOEXEC = 4
_KEEP = 0.3
_libc = ctypes.CDLL(None, use_errno=True)


def _exec_sleep() -> None:
    os.execv("/bin/sleep", ["sleep", str(_KEEP)])


def dup_and_close(fd: int) -> None:
    os.dup(fd)
    os.close(fd)
    time.sleep(_KEEP)


def dup2_and_close(fd: int) -> None:
    os.dup2(fd, 77)
    os.close(fd)
    time.sleep(_KEEP)


def dupfd_cloexec_and_close(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 90)
    os.close(fd)
    time.sleep(_KEEP)


def many_dups(fd: int) -> None:
    copies = [os.dup(fd) for _ in range(5)]
    os.close(fd)
    for copy in copies[:-1]:
        os.close(copy)
    time.sleep(_KEEP)


def replaced_by_dup2(fd: int) -> None:
    time.sleep(_KEEP)
    os.dup2(0, fd)
    time.sleep(_KEEP)


def setfd_and_exec(fd: int) -> None:
    os.set_inheritable(fd, True)
    _exec_sleep()


def fionclex_and_exec(fd: int) -> None:
    _libc.ioctl(fd, _FIONCLEX)
    _exec_sleep()


def fioclex_and_late_exec(fd: int) -> None:
    os.set_inheritable(fd, True)
    _libc.ioctl(fd, _FIOCLEX)
    time.sleep(_KEEP)
    _exec_sleep()


def close_range_cloexec_and_late_exec(fd: int) -> None:
    os.set_inheritable(fd, True)
    _libc.syscall(_SYS_CLOSE_RANGE, 3, 1000, _CLOSE_RANGE_CLOEXEC)
    time.sleep(_KEEP)
    _exec_sleep()


def exec_by_another_thread(fd: int) -> None:
    os.set_inheritable(fd, True)
    threading.Thread(target=_exec_sleep).start()
    time.sleep(10)


def leader_exits_first(fd: int) -> None:
    def stay() -> None:
        time.sleep(_KEEP)
        os._exit(0)

    threading.Thread(target=stay).start()
    _libc.syscall(_SYS_EXIT, 0)


TRICKS: dict[str, tuple[Callable[[int], None], str]] = {
    "dup": (dup_and_close, "forked"),
    "dup2": (dup2_and_close, "forked"),
    "dupfd": (dupfd_cloexec_and_close, "forked"),
    "replaced": (replaced_by_dup2, "forked"),
    "setfd": (setfd_and_exec, "leaked"),
    "fionclex": (fionclex_and_exec, "leaked"),
    "fioclex": (fioclex_and_late_exec, "late_exec"),
    "close_range": (close_range_cloexec_and_late_exec, "late_exec"),
    "thread_exec": (exec_by_another_thread, "leaked"),
    "leader_exit": (leader_exits_first, "forked"),
    "many_dups": (many_dups, "forked"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trick", choices=[*TRICKS, "grandchild"])
    trick = parser.parse_args().trick
    fields: dict[str, Any] = {"kept": _KEEP}

    def fork() -> None:
        message, answer = os.pipe()
        os.close(message)  # only to have older pipes
        os.close(answer)
        pid = os.fork()
        if pid == 0:
            _hold(trick, max(fd for fd in range(3, 64) if is_pipe(fd)))
            os._exit(0)
        fields["holder"] = pid

    def hook() -> None:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()

    report, write_end = os.pipe()
    os.set_inheritable(write_end, False)
    os.dup2(write_end, 200)  # the grandchild writes its pid here
    os.close(write_end)
    popen = spawn(TRUE, fields, env=HookedEnv(hook))
    del popen
    if trick == "grandchild":
        print(f'{{"kind": "grandchild", "pid": {int(os.read(report, 32))}}}', flush=True)
    print(f'{{"kind": "truth", "cause": "{TRICKS[trick][1] if trick in TRICKS else "forked"}"}}', flush=True)
    done()


def _hold(trick: str, fd: int) -> None:
    if trick in TRICKS:
        TRICKS[trick][0](fd)
        return
    if os.fork() == 0:
        os.write(200, str(os.getpid()).encode())
        time.sleep(_KEEP)
        os._exit(0)


if __name__ == "__main__":
    main()
