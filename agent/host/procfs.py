# SPDX-License-Identifier: Apache-2.0
"""Read processes and their file descriptors from ``/proc``.

A process may exit while it is read: that is a result, never an error.  The root of proc is a parameter, so
that tests can use a tree of files.  Formats: proc(5).

These functions run often while stalls are in progress, so they avoid pathlib and buffered files.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import struct
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Optional

__all__ = [
    "PROC",
    "comm_of",
    "contents",
    "descendants",
    "has_exited",
    "has_not_execed",
    "has_open",
    "has_run",
    "is_alive",
    "is_blocked_on",
    "is_exiting",
    "is_in_exec",
    "is_in_vfork",
    "is_polling",
    "is_stopped",
    "may_be_younger",
    "pids",
    "pipe_inode",
    "pipe_links",
    "started",
    "stat_field",
    "still_has",
    "thread_comm",
    "thread_has_exited",
    "write_ends",
]

PROC = Path("/proc")
_MAX_COMM = 64  # of a kernel thread; other comms have at most 15 bytes
_ACCESS_MODE = 0o3
_READ_ONLY = 0o0
_CHUNK = 65536
_MAX_BYTES = 1 << 20  # the fdinfo of an epoll has a line for each of its files
_PF_EXITING, _PF_FORKNOEXEC = 0x4, 0x40
_PPID, _FLAGS, _NUM_THREADS, _STARTTIME = 4, 9, 20, 22  # fields of /proc/PID/stat
_MAX_POLLED = 4096
_FREEZERS = (b"do_freezer_trap", b"get_signal", b"__refrigerator")
"""Where a frozen thread sleeps in the kernel: of cgroup2 (inlined or not), and of cgroup v1."""
_POLL_CALLS = {
    "x86_64": {
        7: "poll",
        271: "poll",
        23: "select",
        270: "select",
        232: "epoll",
        281: "epoll",
        441: "epoll",
    },
    "aarch64": {73: "poll", 72: "select", 22: "epoll", 441: "epoll"},
}
"""poll, ppoll, select, pselect6, epoll_wait, epoll_pwait and epoll_pwait2 by number: <asm/unistd.h>."""
_EXEC_CALLS = {"x86_64": (59, 322), "aarch64": (221, 281), "ppc64le": (11, 362), "s390x": (11, 354)}
"""The numbers of execve and execveat, by machine: <asm/unistd.h>."""
_VFORK_CALLS = {
    "x86_64": (56, 58, 435),
    "aarch64": (220, 435),
    "ppc64le": (120, 189, 435),
    "s390x": (120, 190, 435),
}
"""The numbers of clone, vfork and clone3: one that blocks waits for the child's exec."""


def contents(path: str) -> bytes:
    """The bytes of a file, at most _MAX_BYTES or a little more; raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.read(file, _CHUNK)
        while len(found) < _MAX_BYTES and (more := os.read(file, _CHUNK)):
            found += more
        return found
    finally:
        os.close(file)


def stat_field(pid: int, number: int, proc: Path = PROC) -> int:
    """A number in ``/proc/PID/stat``, by its place in proc(5); the comm is field 2.

    Raises OSError, ValueError or IndexError when the process is gone or the file has no such field.
    """
    stat = contents(f"{proc}/{pid}/stat")
    # A comm can contain parentheses and spaces: the last parenthesis ends it.
    return int(stat[stat.rindex(b")") + 1 :].split()[number - 3])


def started(pid: int, proc: Path = PROC) -> int:
    """When a process started: CLOCK_MONOTONIC nanoseconds, rounded down to a tick.

    Raises OSError, ValueError or IndexError when it is gone.
    """
    # The file has the time since boot. CLOCK_MONOTONIC stops during suspend.
    suspended = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return stat_field(pid, _STARTTIME, proc) * _tick_ns() - suspended


def _tick_ns() -> int:
    return 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def may_be_younger(pid: int, than: int, proc: Path = PROC) -> bool:
    """Whether a process may have started after a time (CLOCK_MONOTONIC ns); True if it is gone."""
    try:
        return started(pid, proc) + _tick_ns() > than
    except (OSError, ValueError, IndexError):
        return True


def has_run(pid: int, proc: Path = PROC) -> bool:
    """Whether the main thread of a process has run since its fork; True if that is unknown, or it is gone.

    Unknown: a kernel that does not count, or that has no such file, as without CONFIG_SCHED_INFO.
    """
    try:
        return _runs(proc / str(pid)) > 0 or _runs(proc / "self") == 0
    except (OSError, ValueError, IndexError):
        return True


def _runs(process: Path) -> int:
    return int(contents(f"{process}/schedstat").split()[2])


def is_alive(pid: int, proc: Path = PROC) -> bool:
    """Whether a process (not just a thread) with this pid is running.

    A zombie is not, unless it has other threads: then only its main thread has exited.
    """
    try:
        status = contents(f"{proc}/{pid}/status")
    except OSError:
        return False
    is_zombie = b"\nState:\tZ" in status and b"\nThreads:\t1\n" in status
    return b"\nTgid:\t%d\n" % pid in status and not is_zombie


def has_exited(pid: int, proc: Path = PROC) -> bool:
    """Whether no thread of a process will run its program again.

    A process closes its files some time before it is a zombie.
    """
    return not is_alive(pid, proc) or _threads_have_exited(pid, proc)


def is_exiting(pid: int, proc: Path = PROC) -> bool:
    """Whether a process is exiting, and not a zombie yet: it may not have closed its files."""
    return is_alive(pid, proc) and _threads_have_exited(pid, proc)


def _threads_have_exited(pid: int, proc: Path) -> bool:
    try:
        return all(thread_has_exited(pid, tid, proc) for tid in _numbers(f"{proc}/{pid}/task"))
    except OSError:
        return True  # gone


def thread_has_exited(pid: int, tid: int, proc: Path = PROC) -> bool:
    """Whether a thread is exiting, a zombie, or gone."""
    try:
        return bool(stat_field(tid, _FLAGS, proc / str(pid) / "task") & _PF_EXITING)
    except (OSError, ValueError, IndexError):
        return True


def is_stopped(pid: int, tid: int, proc: Path = PROC) -> bool:
    """Whether a thread is stopped by a signal or a debugger, or frozen by its cgroup; False if it is gone."""
    try:
        status = contents(f"{proc}/{pid}/task/{tid}/status")
        if re.search(rb"\nState:\t[Tt]", status):
            return True
        return contents(f"{proc}/{pid}/task/{tid}/wchan").strip() in _FREEZERS
    except OSError:
        return False


def comm_of(pid: int, proc: Path = PROC) -> bytes:
    """The comm of a process, empty if it is gone."""
    return _comm(f"{proc}/{pid}") or b""


def thread_comm(pid: int, tid: int, proc: Path = PROC) -> Optional[bytes]:
    """The comm of a thread, None if it is gone."""
    return _comm(f"{proc}/{pid}/task/{tid}")


def _comm(folder: str) -> Optional[bytes]:
    try:
        return contents(f"{folder}/comm")[:_MAX_COMM].rstrip(b"\n")
    except OSError:
        return None


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """The descendants of a process, in no particular order."""
    children: dict[int, list[int]] = {}
    for name in pids(proc):
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
        return False  # it is gone or running, or the kernel does not provide the file


def still_has(pid: int, fds: Collection[int], inode: int, proc: Path = PROC) -> bool:
    """Whether a process has this inode, of a pipe or a socket, at one of these fds, and is not exiting.

    True if it is unknown: the inode is 0, or the main thread has exited before others.
    """
    if not inode:
        return True
    with contextlib.suppress(OSError, ValueError, IndexError):
        if stat_field(pid, _FLAGS, proc) & _PF_EXITING:
            return stat_field(pid, _NUM_THREADS, proc) > 1
    for fd in fds:
        with contextlib.suppress(OSError):
            if os.readlink(f"{proc}/{pid}/fd/{fd}").endswith(f":[{inode}]"):  # noqa: PTH115 - the target is not a path
                return True
    return False


def has_open(pid: int, fd: int, inode: int, proc: Path = PROC) -> bool:
    """Whether a process has this inode, of a pipe or a socket, open: at this fd or at any other.

    True if it is unknown, as in ``still_has``; so is a process whose fds cannot be listed.
    """
    if still_has(pid, (fd,), inode, proc):
        return True
    try:
        fds = _numbers(f"{proc}/{pid}/fd")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return still_has(pid, fds, inode, proc)


def has_not_execed(pid: int, proc: Path = PROC) -> Optional[bool]:
    """Whether a process has not called exec since its fork; None if it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return bool(stat_field(pid, _FLAGS, proc) & _PF_FORKNOEXEC)
    return None


def is_in_exec(pid: int, proc: Path = PROC) -> bool:
    """Whether a thread of a process is blocked in execve or execveat."""
    calls = _EXEC_CALLS.get(platform.machine(), ())
    try:
        threads = _numbers(f"{proc}/{pid}/task")
    except OSError:
        return False  # gone
    for tid in threads:
        # The thread may be gone or running, or the kernel may not provide the file.
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(contents(f"{proc}/{pid}/task/{tid}/syscall").split()[0]) in calls:
                return True
    return False


def is_in_vfork(pid: int, tid: int, proc: Path = PROC) -> bool:
    """Whether a thread is blocked in vfork, or in a clone that does the same."""
    calls = _VFORK_CALLS.get(platform.machine(), ())
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(contents(f"{proc}/{pid}/task/{tid}/syscall").split()[0]) in calls
    return False


def is_polling(pid: int, tid: int, fd: int, proc: Path = PROC) -> bool:
    """Whether a thread is blocked in poll, select or epoll on this fd of its process.

    False also without the permission to read the process's memory.
    """
    try:
        words = contents(f"{proc}/{pid}/task/{tid}/syscall").split()
        first, second = int(words[1], 16), int(words[2], 16)
        how = _POLL_CALLS.get(platform.machine(), {}).get(int(words[0]))
        if how == "poll":
            entries = _memory(f"{proc}/{pid}/mem", first, 8 * min(second, _MAX_POLLED))
            return any(entry[0] == fd for entry in struct.iter_unpack("=ihh", entries))
        if how == "select":
            byte = _memory(f"{proc}/{pid}/mem", second + fd // 8, 1) if fd < first and second else b"\0"
            return bool(byte[0] >> fd % 8 & 1)
        if how == "epoll":
            lines = contents(f"{proc}/{pid}/fdinfo/{first}").splitlines()
            return any(line.split()[1:2] == [b"%d" % fd] for line in lines if line.startswith(b"tfd:"))
    except (OSError, ValueError, IndexError, struct.error):
        pass  # it is gone or running, or permission is denied
    return False


def _memory(path: str, address: int, size: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(file, size, address)
    finally:
        os.close(file)


def pipe_inode(pid: int, fd: int, proc: Path = PROC) -> Optional[int]:
    """The inode of the pipe or socket that is open as fd; None if the fd is closed or something else."""
    try:
        target = os.readlink(f"{proc}/{pid}/fd/{fd}")  # noqa: PTH115 - the target is not a path
    except OSError:
        return None
    kind, _, inode = target.partition(":")
    if kind in ("pipe", "socket") and inode[1:-1].isdecimal():
        return int(inode[1:-1])
    return None


def pids(proc: Path = PROC) -> list[int]:
    """All processes, in order."""
    try:
        return sorted(_numbers(str(proc)))
    except OSError:
        return []


def pipe_links(inodes: Iterable[int]) -> dict[str, int]:
    """What ``/proc/PID/fd/FD`` shows for pipes, and for sockets, with these inodes."""
    return {f"{kind}:[{inode}]": inode for inode in inodes for kind in ("pipe", "socket")}


def write_ends(
    pid: int, links: Mapping[str, int], most: int, proc: Path = PROC
) -> tuple[dict[int, list[int]], bool]:
    """The fds by which a process has the write ends of these pipes open, by inode.

    links: of ``pipe_links``.  most: of its fds are read; the second value is whether these were all.
    """
    found: dict[int, list[int]] = {}
    try:
        folder = os.open(f"{proc}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return found, True  # it is gone, or permission is denied
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == most:
                    return found, False
                try:
                    inode = links.get(os.readlink(entry.name, dir_fd=folder))
                except OSError:
                    continue  # closed in the meantime
                if inode is not None and _is_writable(pid, int(entry.name), proc):
                    found.setdefault(inode, []).append(int(entry.name))
    except OSError:
        pass  # it is gone
    finally:
        os.close(folder)
    return found, True


def _is_writable(pid: int, fd: int, proc: Path) -> bool:
    try:
        for line in contents(f"{proc}/{pid}/fdinfo/{fd}").splitlines():
            if line.startswith(b"flags:"):
                return int(line.split()[1], 8) & _ACCESS_MODE != _READ_ONLY
    except (OSError, ValueError, IndexError):
        pass  # closed in the meantime
    return False


def _numbers(folder: str) -> list[int]:
    """The numeric names in a directory; raises OSError."""
    return [int(name) for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208


def _parent(pid: int, proc: Path) -> Optional[int]:
    try:
        return stat_field(pid, _PPID, proc)
    except (OSError, ValueError, IndexError):
        return None
