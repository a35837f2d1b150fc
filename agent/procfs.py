"""What ``/proc`` says of processes and their file descriptors.

Processes come and go while they are looked at: "gone" is an answer, never an error.  The root of proc is a
parameter, so that tests use a tree of files.  Formats: proc(5).

All of it is asked again and again while stalls go on: pathlib and buffered files would take most of its time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Optional

from agent.model import Confirmation

__all__ = [
    "PROC",
    "comm_of",
    "confirm_holder",
    "contents",
    "descendants",
    "find_holders",
    "is_alive",
    "is_blocked_on",
    "is_stopped",
    "pipe_inode",
]

PROC = Path("/proc")
_LONGEST_COMM = 64  # of a kernel thread; a process's own has 15
_ACCESS_MODE = 0o3
_READ_ONLY = 0o0
_CHUNK = 65536


def contents(path: str) -> bytes:
    """All bytes of a file; raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.read(file, _CHUNK)
        while more := os.read(file, _CHUNK):
            found += more
        return found
    finally:
        os.close(file)


def is_alive(pid: int, proc: Path = PROC) -> bool:
    """Whether there is a process (not merely a thread) with this pid that has not ended.

    A zombie has; but one with more threads is only a leader that has left before them.
    """
    try:
        status = contents(f"{proc}/{pid}/status")
    except OSError:
        return False
    is_zombie = b"\nState:\tZ" in status and b"\nThreads:\t1\n" in status
    return b"\nTgid:\t%d\n" % pid in status and not is_zombie


def is_stopped(pid: int, tid: int, proc: Path = PROC) -> bool:
    """Whether a thread was stopped, by a signal or a debugger; False when it is gone."""
    try:
        status = contents(f"{proc}/{pid}/task/{tid}/status")
    except OSError:
        return False
    return re.search(rb"\nState:\t[Tt]", status) is not None


def comm_of(pid: int, proc: Path = PROC) -> bytes:
    """The comm of a process, empty when it is gone."""
    try:
        return contents(f"{proc}/{pid}/comm")[:_LONGEST_COMM].rstrip(b"\n")
    except OSError:
        return b""


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """The processes that descend from one, without itself, in no particular order."""
    children: dict[int, list[int]] = {}
    for name in _pids(proc):
        parent = _parent(name, proc)
        if parent is not None:
            children.setdefault(parent, []).append(name)
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.pop(todo.pop(), [])
        found += below
        todo += below
    return found


def is_blocked_on(pid: int, tid: int, fd: int, proc: Path = PROC) -> bool:
    """Whether a thread is blocked in a system call whose first argument is this fd."""
    try:
        words = contents(f"{proc}/{pid}/task/{tid}/syscall").split()
        return int(words[0]) >= 0 and int(words[1], 16) == fd
    except (OSError, ValueError, IndexError):
        return False  # gone, running, or a kernel that does not tell


def pipe_inode(pid: int, fd: int, proc: Path = PROC) -> Optional[int]:
    """The inode of the pipe (or socket) that is open as fd; None when it is gone or something else."""
    try:
        target = os.readlink(f"{proc}/{pid}/fd/{fd}")  # noqa: PTH115 - Path.readlink makes a Path of no path
    except OSError:
        return None
    kind, _, inode = target.partition(":")
    if kind in ("pipe", "socket") and inode[1:-1].isdecimal():
        return int(inode[1:-1])
    return None


def confirm_holder(
    pid: int, inode: int, fds: Iterable[int] = (), proc: Path = PROC
) -> Optional[Confirmation]:
    """Whether a process has the write end of a pipe open: the given fds are looked at first, then all.

    GONE when the process, or its fds, are there no more; MISMATCH when it is there without; None when we are
    not allowed to look.
    """
    folder = f"{proc}/{pid}/fd"
    try:
        others = _numbers(folder)
    except PermissionError:
        return None
    except OSError:
        return Confirmation.GONE
    if not others:
        return Confirmation.GONE  # it is exiting: its table is gone before it is
    if not _may_follow(f"{folder}/{others[0]}"):
        return None
    for fd in (*fds, *others):
        if pipe_inode(pid, fd, proc) == inode and _is_writable(pid, fd, proc):
            return Confirmation.CONFIRMED
    return Confirmation.MISMATCH


def find_holders(inodes: Collection[int], proc: Path = PROC) -> dict[int, dict[int, list[int]]]:
    """Who has the write ends of these pipes open on the host: for each inode the fds by pid."""
    found: dict[int, dict[int, list[int]]] = {}
    for pid in _pids(proc):
        try:
            fds = _numbers(f"{proc}/{pid}/fd")
        except OSError:
            continue  # gone, or not ours to look at
        for fd in fds:
            inode = pipe_inode(pid, fd, proc)
            if inode is not None and inode in inodes and _is_writable(pid, fd, proc):
                found.setdefault(inode, {}).setdefault(pid, []).append(fd)
    return found


def _may_follow(link: str) -> bool:
    """Whether we are allowed to see where a link of another process leads: it takes CAP_SYS_PTRACE."""
    try:
        os.readlink(link)  # noqa: PTH115
    except PermissionError:
        return False
    except OSError:
        pass  # gone meanwhile
    return True


def _is_writable(pid: int, fd: int, proc: Path) -> bool:
    try:
        for line in contents(f"{proc}/{pid}/fdinfo/{fd}").splitlines():
            if line.startswith(b"flags:"):
                return int(line.split()[1], 8) & _ACCESS_MODE != _READ_ONLY
    except (OSError, ValueError, IndexError):
        pass  # gone meanwhile
    return False


def _pids(proc: Path) -> list[int]:
    try:
        return _numbers(str(proc))
    except OSError:
        return []


def _numbers(folder: str) -> list[int]:
    """The entries that are pids or fds; raises OSError."""
    return [int(name) for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208


def _parent(pid: int, proc: Path) -> Optional[int]:
    try:
        stat = contents(f"{proc}/{pid}/stat")
        # The comm in parentheses can hold anything, a closing parenthesis too: the last one ends it.
        return int(stat[stat.rindex(b")") + 1 :].split()[1])
    except (OSError, ValueError, IndexError):
        return None
