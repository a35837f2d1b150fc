# SPDX-License-Identifier: Apache-2.0
"""Common parts of the workload programs.

Timed Popens, printed as JSON lines, and a hook between pipe2 and fork.
"""

from __future__ import annotations

import collections.abc
import ctypes
import json
import os
import struct
import subprocess
import threading
import time
from collections.abc import ItemsView, Iterator, Sequence
from signal import SIGCHLD
from typing import Any, Callable, Optional

# Python 3.13 starts plain programs by posix_spawn, which has no errpipe. This is the documented
# switch back to fork or vfork (subprocess, "Disabling use of posix_spawn()"). Before 3.13 it has
# no effect here.
vars(subprocess)["_USE_POSIX_SPAWN"] = False

TRUE = ["/bin/true"]

_SYS_CLONE3 = 435
_PR_SET_NAME = 15
_libc = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter lock, which the child needs
_lock = threading.Lock()
_spawns = 0


def emit(**fields: Any) -> None:
    """Print a JSON line in one unbuffered write: a process forked meanwhile has nothing to flush."""
    os.write(1, (json.dumps(fields) + "\n").encode())


def fork_worker(live: float) -> int:
    """Fork a process that sleeps and exits, without exec."""
    pid = os.fork()
    if pid == 0:
        time.sleep(live)
        os._exit(0)
    return pid


def fork_worker_beside(live: float) -> int:
    """Do the same in another thread, which ends before this returns."""
    pids: list[int] = []
    forker = threading.Thread(target=lambda: pids.append(fork_worker(live)))
    forker.start()
    forker.join()
    return pids[0]


def emit_spawn(start: float, seconds: float, child: Optional[int], **fields: Any) -> None:
    """Report one Popen of the calling thread."""
    global _spawns
    with _lock:
        _spawns += 1
    emit(
        kind="spawn",
        pid=os.getpid(),
        tid=threading.get_native_id(),
        child=child,
        seconds=seconds,
        start=start,
        **fields,
    )


def spawn(
    args: Sequence[str], fields: Optional[dict[str, Any]] = None, **kwargs: Any
) -> subprocess.Popen[bytes]:
    """Time one Popen and report it; a hook can add to ``fields`` during the Popen."""
    start = time.monotonic()
    popen = subprocess.Popen(args, **kwargs)
    seconds = time.monotonic() - start
    emit_spawn(start, seconds, popen.pid, **(fields or {}))
    return popen


def set_comm(comm: str) -> None:
    """Name the calling thread; of the main thread it is the process's comm."""
    _libc.prctl(_PR_SET_NAME, comm.encode(), 0, 0, 0)


def fork_and_exec(after: float = 0) -> int:
    """Fork a child that calls exec, after some seconds; return its pid."""
    pid = os.fork()
    if pid == 0:
        if after:
            time.sleep(after)
        os.execv(TRUE[0], TRUE)
    return pid


def wait_for_exec(
    start: float,
    read_end: int,
    write_end: int,
    child: int,
    between: Callable[[], None] = lambda: None,
    size: int = 1,
    **fields: Any,
) -> None:
    """Do what Popen does after the fork: close the write end, read end-of-file; report the spawn."""
    os.close(write_end)
    between()
    assert os.read(read_end, size) == b""
    emit_spawn(start, time.monotonic() - start, child, **fields)
    os.close(read_end)


def done(**fields: Any) -> None:
    """Print the last line of every program."""
    emit(kind="done", spawns=_spawns, **fields)


class HookedEnv(collections.abc.Mapping[str, str]):
    """An ``env=`` with a hook; Popen reads it between the errpipe's pipe2 and the fork."""

    def __init__(self, hook: Callable[[], None]) -> None:
        self._hook = hook
        self._env = dict(os.environ)

    def items(self) -> ItemsView[str, str]:
        self._hook()
        return self._env.items()

    def __getitem__(self, key: str) -> str:
        return self._env[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._env)

    def __len__(self) -> int:
        return len(self._env)


def fork_with_pid(pid: int) -> int:
    """Fork a child with the given pid; see clone3(2)."""
    wanted = ctypes.c_int(pid)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal,
    # stack, stack_size, tls, set_tid, set_tid_size
    packed = struct.pack("10Q", 0, 0, 0, 0, SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1)
    child = int(_libc.syscall(_SYS_CLONE3, packed, len(packed)))
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    return child


def is_pipe(fd: int) -> bool:
    """Return whether an fd of this process is a pipe."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")  # noqa: PTH115
    except OSError:
        return False
