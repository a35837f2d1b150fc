# SPDX-License-Identifier: Apache-2.0
"""What blocks a process that already hangs: one look at ``/proc``, without eBPF.

This file stands alone: standard library only, Python 3.6 and later.  Copy it to a host and run as root

    python3 snapshot.py PID [--json] [--interval SECONDS] [--duration SECONDS]

It prints stalls and waits as text, or with --json as one JSON object a line (agent/reports/JSON.md).  Exit
status: 0 if nothing hangs, 1 if a thread does, 2 if the process cannot be looked at.  A thread that waits for
a side that is alive and at work does not hang.  ``make snapshot`` rewrites this file for Python 2.7.

A stall is a thread that is blocked in ``read`` on an errpipe whose write end a foreign process holds.
Most pipes are data pipes.  ``_judge`` decides.  In doubt it reports nothing, so as not to accuse a process
wrongly:

* Not an errpipe: a pipe that is a standard stream of some process, that an ancestor of the reader holds, or
  that is read with a size that no known runtime uses for its errpipe.
* The read sizes of Python (50000, 1048576) and Tcl (223) come with a close-on-exec read end.  Small sizes
  (4 and 8 bytes: Node, Ruby, Perl, Java, git, GLib) are common in data pipes too: such a stall is at most
  "possible", and in a Python process the pipe is taken for a data pipe.
* Nothing is written to an errpipe before its end, so the times of its inode are those of its creation
  (since Linux 6.15, this is true of every anonymous pipe).  A process that was forked earlier did not
  inherit it; the own child is a child that the reading thread has forked since then.
* The own child is that thread's youngest child since then (``/proc/PID/task/TID/children`` tells which
  thread forked which child; without it, any child of a process with one thread).  While it has a copy
  itself, it is slow to call exec, or is a worker with a result pipe, or was given the pipe as a data pipe:
  not a stall, whatever other process holds the pipe.  A child that exited without an exec was no spawn.
* Where the forking thread is not known, a child that has not called exec and holds no read end may be the
  own child: not a stall.  One that has the read end too is not the own child of Python, which closes that
  first.
* "certain" needs an own child that has released its copy, and a read size of Python or Tcl.

Every other thread that waits for a child or for the end of a pipe, in whatever call, is a wait (``_wait``).
A wait reports what was seen and blames no process: ``/proc`` does not always show whether a pipe is an
errpipe, an output or the answer of a worker.

Before a stall or wait is returned, it is checked again: the thread must be in the same call on the same pipe.
The fds of a thread that has an fd table of its own are not seen.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import stat
import struct
import sys
import textwrap
import time
from datetime import datetime, timezone
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

__all__ = [
    "WHY",
    "Effort",
    "Finding",
    "Holder",
    "Look",
    "Sampler",
    "Wait",
    "WaitHolder",
    "is_dumping",
    "is_waiting",
    "kernel_thread",
    "look",
    "main",
    "printable",
    "survey",
    "take",
    "text",
    "wait_entries",
    "why_not",
]

PROC = "/proc"

_O_ACCMODE, _O_RDONLY, _O_WRONLY, _O_CLOEXEC = 0o3, 0o0, 0o1, 0o2000000
_PF_EXITING, _PF_FORKNOEXEC, _PF_KTHREAD = 0x4, 0x40, 0x200000  # <linux/sched.h>
_CAP_SYS_PTRACE = 1 << 19  # <linux/capability.h>
_CLOCK_BOOTTIME = 7  # time.CLOCK_BOOTTIME is there from Python 3.7 on
_TICKS = os.sysconf("SC_CLK_TCK")
# Start times are cut to a tick, the times of an inode to a timer interrupt.
_SLACK_SECONDS = 0.05

# System calls that a thread can be blocked in: <asm/unistd_64.h> of x86, and <asm-generic/unistd.h>.
_X86_64 = {
    0: "read", 1: "write", 2: "open", 3: "close", 7: "poll", 17: "pread64", 19: "readv", 20: "writev",
    23: "select", 34: "pause", 35: "nanosleep", 40: "sendfile", 42: "connect", 43: "accept",
    44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 56: "clone", 57: "fork", 58: "vfork",
    59: "execve", 60: "exit", 61: "wait4", 62: "kill", 65: "semop", 70: "msgrcv", 72: "fcntl",
    73: "flock", 74: "fsync", 75: "fdatasync", 128: "rt_sigtimedwait", 130: "rt_sigsuspend",
    202: "futex", 208: "io_getevents", 217: "getdents64", 219: "restart_syscall", 220: "semtimedop",
    230: "clock_nanosleep", 231: "exit_group", 232: "epoll_wait", 243: "mq_timedreceive", 247: "waitid",
    257: "openat", 262: "newfstatat", 270: "pselect6", 271: "ppoll", 275: "splice", 276: "tee",
    278: "vmsplice", 281: "epoll_pwait", 288: "accept4", 299: "recvmmsg", 322: "execveat",
    426: "io_uring_enter", 435: "clone3", 436: "close_range", 437: "openat2", 441: "epoll_pwait2",
    449: "futex_waitv",
}  # fmt: skip
_GENERIC = {
    4: "io_getevents", 22: "epoll_pwait", 25: "fcntl", 32: "flock", 56: "openat", 57: "close",
    61: "getdents64", 63: "read", 64: "write", 65: "readv", 66: "writev", 67: "pread64", 71: "sendfile",
    72: "pselect6", 73: "ppoll", 75: "vmsplice", 76: "splice", 77: "tee", 79: "newfstatat", 82: "fsync",
    83: "fdatasync", 93: "exit", 94: "exit_group", 95: "waitid", 98: "futex", 101: "nanosleep",
    115: "clock_nanosleep", 128: "restart_syscall", 129: "kill", 133: "rt_sigsuspend",
    137: "rt_sigtimedwait", 183: "mq_timedreceive", 188: "msgrcv", 192: "semtimedop", 193: "semop",
    202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg",
    220: "clone", 221: "execve", 242: "accept4", 243: "recvmmsg", 260: "wait4", 281: "execveat",
    426: "io_uring_enter", 435: "clone3", 436: "close_range", 437: "openat2", 441: "epoll_pwait2",
    449: "futex_waitv",
}  # fmt: skip
_CALLS = {
    "x86_64": _X86_64,
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
    "mips64": {5000: "read"},
}
_CALLS_ELSEWHERE = {3: "read", 4: "write"}
# 32-bit programs on a 64-bit kernel: i386 and ARM share most numbers.
_COMPAT_SHARED = {
    2: "fork", 3: "read", 4: "write", 11: "execve", 114: "wait4", 120: "clone", 142: "select",
    145: "readv", 146: "writev", 162: "nanosleep", 168: "poll", 190: "vfork", 240: "futex",
    422: "futex", 435: "clone3",
}  # fmt: skip


def _merged(one: Dict[int, str], other: Dict[int, str]) -> Dict[int, str]:
    both = dict(one)
    both.update(other)
    return both


_COMPAT = {
    "x86_64": _merged(_COMPAT_SHARED, {
        7: "waitpid", 256: "epoll_wait", 267: "clock_nanosleep", 284: "waitid", 308: "pselect6", 309: "ppoll",
        319: "epoll_pwait", 358: "execveat", 371: "recvfrom", 372: "recvmsg", 407: "clock_nanosleep",
        413: "pselect6", 414: "ppoll",
    }),
    "aarch64": _merged(_COMPAT_SHARED, {
        252: "epoll_wait", 265: "clock_nanosleep", 280: "waitid", 292: "recvfrom", 297: "recvmsg",
        335: "pselect6", 336: "ppoll", 346: "epoll_pwait", 387: "execveat", 407: "clock_nanosleep",
        413: "pselect6", 414: "ppoll",
    }),
}  # fmt: skip
_READS = ("read", "readv", "pread64", "recvfrom", "recvmsg", "recvmmsg", "splice")
_WRITES = ("write", "writev", "sendto", "sendmsg")
_POLLS = ("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2")
_EXECS = ("execve", "execveat")
_WAITS = ("wait4", "waitpid", "waitid")
_VFORKS = ("vfork", "clone", "clone3")
_SLEEPS = ("nanosleep", "clock_nanosleep")
_LOCKS = ("futex", "futex_waitv")
_CRASHED = "has crashed, and the kernel writes its core dump"
_CALL_NAMES = {
    "epoll": ("epoll_wait", "epoll_pwait", "epoll_pwait2"),
    "poll": ("ppoll",),
    "select": ("pselect6",),
    "wait": _WAITS,
    "vfork": _VFORKS,
    "exec": _EXECS,
    "sleep": _SLEEPS,
    "futex": _LOCKS,
}
_LOCAL_FILE_SYSTEMS = (
    b"ext4",
    b"ext3",
    b"ext2",
    b"xfs",
    b"btrfs",
    b"tmpfs",
    b"overlay",
    b"zfs",
    b"f2fs",
    b"ramfs",
)
_KERNEL = tuple(int(part) for part in re.findall(r"\d{1,9}", os.uname().release)[:2])
_OLD_KERNEL = _KERNEL < (5, 8)
# From then on the times of an anonymous pipe are always those of its creation.
_KEEPS_PIPE_TIMES = _KERNEL >= (6, 15)
_STREAMS = {1: " (its standard output)", 2: " (its standard error)"}
_KINDS = ("errpipe", "own_child", "vfork", "output", "input", "jobserver", "self_held", "child", "other")
_MAX_DEPTH = 8  # of a chain of processes in which each waits for the next
_MAX_LISTED = 5
_YOUNG_SECONDS = 1.0  # a child may take so long until its exec
_MANY_FDS = 65536  # closing so many, one by one, takes long
_FDS_PER_STEP = 256
_POLLIN, _POLLOUT = 0x1 | 0x40, 0x4 | 0x100  # <asm-generic/poll.h>; the same in an epoll's events
_MAX_POLLED = 1 << 16

# Read sizes of errpipes (probes/ERRPIPES.md).
_RUNTIMES = {50000: "Python 3", 1048576: "Python 2.7", 223: "Tcl"}
FOUND = 1 << 63
"""Set in the id of a stall that was found here; the rest is the inode of its pipe."""
_MAX_COMM = 64  # of a kernel thread; a process's own has 15
_SMALL_READ = 8
_SMALL_RUNTIMES = {4: "Node, Ruby, Perl and Java", 8: "git and GLib"}


class _Process(NamedTuple):
    """A process as in ``/proc/PID/stat``; start is in seconds since the boot."""

    pid: int
    state: str
    parent: int
    session: int
    flags: int
    threads: int
    start: float

    @property
    def execed(self) -> bool:
        """Whether it has called exec since it was forked."""
        return not self.flags & _PF_FORKNOEXEC

    @property
    def exiting(self) -> bool:
        """Whether it is exiting, and not a zombie yet: it may have files open, and does not show them."""
        return bool(self.flags & _PF_EXITING) and self.state not in "ZX"

    @property
    def age(self) -> Tuple[float, int]:
        """A key that sorts by start time."""
        return self.start, self.pid


class _Call(NamedTuple):
    """The system call that a thread is blocked in, or the name "running" or "no system call"."""

    name: str
    args: Tuple[int, ...] = ()


class _End(NamedTuple):
    """A file that a thread waits for: to read it, or to write it."""

    fd: int
    link: str
    writes: bool
    cloexec: bool
    fifo: bool  # a pipe, with or without a name


class _Thread(NamedTuple):
    """A thread and what it is blocked in."""

    pid: int
    tid: int
    call: _Call
    ends: Tuple[_End, ...]


class _Reader(NamedTuple):
    """A thread that is blocked on a pipe, in read (size: of that read) or in poll, select or epoll (0)."""

    pid: int
    tid: int
    fd: int
    size: int
    pipe: str
    cloexec: bool


class _Copies(NamedTuple):
    """The fds of a process on a pipe: write ends and read ends, with their close-on-exec flags."""

    writes: Dict[int, bool]
    reads: Dict[int, bool]


class _Facts(NamedTuple):
    """All that is known of a blocked read; times are in seconds since the boot.

    created: when the pipe was created, None: not known.  used: data has passed through it.
    children: those that the thread itself forked, None: not known.
    """

    reader: _Reader
    python: bool
    processes: Dict[int, _Process]
    thread_start: float
    created: Optional[float]
    used: bool
    children: Optional[Set[int]]
    copies: Dict[int, _Copies]


class Holder(NamedTuple):
    """A foreign holder; pid None: no process could be found.  dumping: it crashes, as for is_dumping."""

    pid: Optional[int]
    comm: bytes
    fds: Tuple[int, ...]
    cause: str
    dumping: bool = False

    def to_object(self) -> Dict[str, Any]:
        """As in a stall's "holders"."""
        return {
            "pid": self.pid,
            "comm": None if self.pid is None else printable(self.comm),
            "exe": None,
            "uid": None,
            "container": None,
            "fds": list(self.fds),
            "cause": self.cause,
            "acquired_seconds": None,
            "forked_by": None,
            "released_seconds": None,
            "released_by": None,
            "confirmed": self.pid is not None,
            "confirmation": None if self.pid is None else "confirmed",
            "last_seen_seconds": None,
            "exiting_seconds": None,
            "dumping_core": self.dumping,
        }


class Finding(NamedTuple):
    """A blocked read and its holders; time: when the pipe was created or, if that is unknown, of the look."""

    time: float
    pid: int
    tid: int
    comm: bytes
    child: Optional[int]
    child_comm: bytes
    read_fd: int
    write_fd: Optional[int]
    holders: Tuple[Holder, ...]
    certain: bool
    evidence: Tuple[str, ...]
    pipe: str
    state: str = "ongoing"
    seconds: Optional[float] = None

    @property
    def inode(self) -> Optional[int]:
        """The number in a link such as ``pipe:[123]``."""
        number = self.pipe.rpartition("[")[2].rstrip("]")
        return int(number) if number.isdecimal() else None

    @property
    def id(self) -> Optional[str]:
        """The same for as long as the pipe exists."""
        return None if self.inode is None else "{:016x}".format(FOUND | self.inode)

    def to_object(self) -> Dict[str, Any]:
        """The JSON object of a stall."""
        child = None if self.child is None else {"pid": self.child, "comm": printable(self.child_comm)}
        return {
            "type": "stall",
            "time": _timestamp(self.time),
            "state": self.state,
            "id": self.id,
            "parent": {
                "pid": self.pid,
                "tid": self.tid,
                "comm": printable(self.comm),
                "exe": None,
                "uid": None,
                "container": None,
            },
            "child": child,
            "errpipe": {"read_fd": self.read_fd, "write_fd": self.write_fd},
            "spawn_seconds": None,
            "exec_seconds": None,
            "began_seconds": None if self.seconds is None else 0.0,
            "stall_seconds": self.seconds,
            "late_wakeup_seconds": 0.0,
            "holders": [holder.to_object() for holder in self.holders],
            "steps": [],
            "source": "snapshot",
            "certainty": "certain" if self.certain else "possible",
            "evidence": list(self.evidence),
        }


class WaitHolder(NamedTuple):
    """A process that has the other end of what a thread waits for; started: seconds since the epoch."""

    pid: int
    comm: bytes
    fds: Tuple[int, ...]
    parent: int
    started: Optional[float]
    doing: str

    def to_object(self) -> Dict[str, Any]:
        """As in a wait's "holders"."""
        return {
            "pid": self.pid,
            "comm": printable(self.comm),
            "fds": list(self.fds),
            "parent": self.parent,
            "started": _timestamp(self.started),
            "doing": self.doing,
        }


class Wait(NamedTuple):
    """What a thread waits for, if the wait is not a stall.

    kind: one of _KINDS.  headline: one sentence.  normal: the other side is alive and at work.
    time: of the look; since: the earliest time at which the wait can have begun, None: not known.
    id: the same in every look for as long as the thread waits for the same.
    link: of the file that it waits for; empty: it waits for a child.
    ended, ending: when it was seen to have ended, and how: a clause.  None: it goes on.
    """

    kind: str
    time: float
    pid: int
    tid: int
    comm: bytes
    child: Optional[int]
    child_comm: bytes
    headline: str
    holders: Tuple[WaitHolder, ...] = ()
    evidence: Tuple[str, ...] = ()
    advice: str = ""
    normal: bool = False
    since: Optional[float] = None
    id: str = ""
    link: str = ""
    ended: Optional[float] = None
    ending: Optional[str] = None

    def to_object(self) -> Dict[str, Any]:
        """The JSON object of a wait."""
        return {
            "type": "wait",
            "id": self.id,
            "kind": self.kind,
            "time": _timestamp(self.time),
            "state": "ongoing" if self.ended is None else "ended",
            "since": _timestamp(self.since),
            "ended": _timestamp(self.ended),
            "ending": self.ending,
            "parent": {"pid": self.pid, "comm": printable(self.comm)},
            "thread": self.tid,
            "child": None if self.child is None else {"pid": self.child, "comm": printable(self.child_comm)},
            "headline": self.headline,
            "normal": self.normal,
            "holders": [holder.to_object() for holder in self.holders],
            "evidence": list(self.evidence),
            "advice": self.advice,
        }


class Look(NamedTuple):
    """A process and its descendants at one moment; states: the number of threads in each call."""

    pid: int
    stalls: Tuple[Finding, ...]
    waits: Tuple[Wait, ...]
    states: Dict[str, int]

    @property
    def nothing(self) -> Optional[str]:
        """One sentence if no thread waits for a child or a pipe; None if a thread does."""
        if self.stalls or self.waits:
            return None
        most = sorted(self.states.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join("{} ({})".format(name, number) for name, number in most)
        if not listed:
            return "/proc does not show what the threads of {} wait for".format(self.pid)
        return "no thread of {} waits for a child or a pipe; they are in: {}".format(self.pid, listed)


def _timestamp(when: Optional[float]) -> Optional[str]:
    if when is None:
        return None
    try:
        return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (OverflowError, ValueError, OSError):
        return None


def duration(seconds: float) -> str:
    """A time span in one or two units, as in ``8.3 s`` or ``2 h 14 min``."""
    if seconds < 120:
        return "{:.1f} s".format(seconds)
    if seconds < 7200:
        return "{} min {} s".format(*divmod(int(seconds), 60))
    if seconds < 172800:
        return "{} h {} min".format(*divmod(int(seconds) // 60, 60))
    return "{} d {} h".format(*divmod(int(seconds) // 3600, 24))


def printable(comm: bytes) -> str:
    """A comm as text that is safe in every output: unprintable characters are escaped."""
    chars = comm.decode("utf-8", "backslashreplace")
    if chars.isprintable():
        return chars
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in chars)


def why_not(pid: int, proc: str = PROC) -> Optional[str]:
    """One line that says why no snapshot of a process can be taken; None if it can."""
    is_kernel_thread = kernel_thread(pid, proc)
    if is_kernel_thread is not None:
        return is_kernel_thread
    try:
        with open("{}/{}/syscall".format(proc, pid), "rb") as file:
            file.read()
        os.listdir("{}/{}/fd".format(proc, pid))
    except PermissionError:
        return "pid {} cannot be inspected: {}".format(pid, _refusal(proc))
    except OSError:
        if os.path.exists("{}/{}".format(proc, pid)):
            return "this kernel has no /proc/PID/syscall, which shows the call that a thread is blocked in"
        return "there is no process with pid {}".format(pid)
    return None


def kernel_thread(pid: int, proc: str = PROC) -> Optional[str]:
    """One line about a process that is a thread of the kernel; None if it is not."""
    process = _process("{}/{}".format(proc, pid), pid)
    if process is None or not process.flags & _PF_KTHREAD:
        return None
    return "pid {} is a thread of the kernel: it has no file descriptors and starts no programs".format(pid)


def _refusal(proc: str) -> str:
    """Why this process may not inspect another one."""
    try:
        capabilities = int(_bytes(proc + "/self/status").split(b"\nCapEff:", 1)[1].split(None, 1)[0], 16)
    except (OSError, ValueError, IndexError):
        capabilities = 0
    if capabilities & _CAP_SYS_PTRACE:
        return (
            "the kernel refuses it despite CAP_SYS_PTRACE: a security module or sandbox protects the process"
        )
    if os.geteuid() == 0:
        return "root has no CAP_SYS_PTRACE here, as in a container with few privileges"
    return "run this as root"


class Effort:
    """How much a look may cost; this one may cost anything.

    max_fds: of one process that are read.
    """

    max_fds = sys.maxsize

    def step(self) -> None:
        """Called again and again during a look; TimeoutError raised here ends the look."""

    def leave_out(self) -> None:
        """Called for a process that has more fds than are read."""


_ANY = Effort()


def take(pid: int, proc: str = PROC, boot: Optional[float] = None) -> List[Finding]:
    """The stalls in progress in a process and its descendants.

    boot: when the host booted, in seconds since the epoch; None: computed from the clocks.
    """
    return _gather([pid], proc, boot, _ANY)[0]


def look(pid: int, proc: str = PROC, boot: Optional[float] = None) -> Look:
    """What each thread of a process and of its descendants waits for: the stalls, and everything else."""
    stalls, view = _gather([pid], proc, boot, _ANY)
    waits = _waits(stalls, view, _ANY)
    waits.sort(key=lambda wait: (wait.normal, _KINDS.index(wait.kind)))
    states: Dict[str, int] = {}
    for thread in view.threads:
        name = _state_name(thread.call.name)
        states[name] = states.get(name, 0) + 1
    return Look(pid, tuple(stalls), tuple(waits), states)


def survey(
    pids: Iterable[int], effort: Effort = _ANY, proc: str = PROC, boot: Optional[float] = None
) -> Tuple[List[Finding], List[Wait]]:
    """The stalls and the waits in several processes and their descendants, in one pass over all processes."""
    stalls, view = _gather(pids, proc, boot, effort)
    return stalls, _waits(stalls, view, effort)


def _waits(stalls: Sequence[Finding], view: "_View", effort: Effort) -> List[Wait]:
    """Those of the threads that are in no stall."""
    stalled = {(stall.pid, stall.tid) for stall in stalls}
    waits = []
    for thread in view.threads:
        effort.step()
        wait = None if (thread.pid, thread.tid) in stalled else _wait(thread, view)
        if wait is not None and _still(thread, view.proc):
            waits.append(wait)
    return waits


def _gather(
    pids: Iterable[int], proc: str, boot: Optional[float], effort: Effort
) -> "Tuple[List[Finding], _View]":
    """The stalls, and everything that was read to find them."""
    pids = list(pids)
    processes = _processes(proc)
    threads = [
        thread
        for process in _trees(pids, processes)
        if process.state != "Z" or process.threads > 1
        for thread in _threads(process.pid, proc, effort)
    ]
    if boot is None:
        boot = time.time() - time.clock_gettime(_CLOCK_BOOTTIME)
    links = {end.link for thread in threads for end in thread.ends if end.fifo}
    links |= {
        slave for thread in threads for end in thread.ends for slave in [_slave(thread, end, proc)] if slave
    }
    peers = _peers(pids, threads, proc)
    links |= set(peers.values())
    seen: Dict[str, Dict[int, List[int]]] = {}
    if links:
        # This second list has every process that was forked before the reads began.
        processes = _processes(proc)
        seen = _scan(processes.values(), links, proc, effort)
        late = _processes(proc, besides=processes)
        for pipe, by in _scan(late.values(), links, proc, effort).items():
            seen.setdefault(pipe, {}).update(by)
        processes.update(late)
    stalls = []
    for thread in threads:
        effort.step()
        for reader in _pipe_readers(thread):
            finding = _look(reader, seen.get(reader.pipe, {}), processes, proc, boot)
            if finding is not None:
                stalls.append(finding)
    return stalls, _View(proc, boot, processes, threads, seen, peers)


class Sampler:
    """Repeats the look; reports each stall once while it is in progress, and once when it has ended.

    Stalls shorter than min_seconds are not reported, and one in progress only after ongoing_seconds.
    """

    def __init__(
        self, pid: int, min_seconds: float = 0.01, ongoing_seconds: float = 1.0, proc: str = PROC
    ) -> None:
        self._pid = pid
        self._min_seconds = min_seconds
        self._ongoing_seconds = ongoing_seconds
        self._proc = proc
        self._known: Dict[Tuple[int, int, str], Finding] = {}
        self._began: Dict[Tuple[int, int, str], float] = {}
        self._reported: Set[Tuple[int, int, str]] = set()

    def sample(self, now: float) -> List[Finding]:
        """Look again, and return what there is to report; now: time.monotonic().

        The seconds of a stall count from the creation of its pipe or, if that is unknown, from the first look
        that found it.
        """
        news = []
        found = {(one.pid, one.tid, one.pipe): one for one in take(self._pid, self._proc)}
        for key, finding in found.items():
            seconds = now - self._began.setdefault(key, now - (finding.seconds or 0.0))
            self._known[key] = finding._replace(seconds=seconds)
            if seconds >= self._ongoing_seconds and key not in self._reported:
                self._reported.add(key)
                news.append(self._known[key])
        for key, finding in list(self._known.items()):
            if key in found:
                continue
            readers = _readers(finding.pid, finding.tid, self._proc)
            if all(reader.pipe != finding.pipe for reader in readers):
                del self._known[key]
                self._reported.discard(key)
                seconds = now - self._began.pop(key)
                if seconds >= self._min_seconds:
                    news.append(finding._replace(state="ended", seconds=seconds))
        return news


# -- looking --


def _processes(proc: str, besides: Mapping[int, _Process] = {}) -> Dict[int, _Process]:
    """All processes; besides: those that are not read again."""
    found = {}
    for name in os.listdir(proc):
        if name.isdecimal() and int(name) not in besides:
            process = _process(proc + "/" + name, int(name))
            if process is not None:
                found[process.pid] = process
    return found


def _process(folder: str, pid: int) -> Optional[_Process]:
    """A process, or a thread of one, by its folder."""
    try:
        line = _bytes(folder + "/stat")
        # The comm in parentheses can contain any character, even a closing parenthesis: the last one ends it.
        fields = line[line.rindex(b")") + 1 :].split()
        state, start = fields[0].decode("ascii"), int(fields[19]) / _TICKS
        parent, session, flags, threads = (int(fields[number]) for number in (1, 3, 6, 17))
    except (OSError, ValueError, IndexError, OverflowError):
        return None
    return _Process(pid, state, parent, session, flags, threads, start)


def _trees(pids: Iterable[int], processes: Dict[int, _Process]) -> List[_Process]:
    """These processes and their descendants, each once."""
    children: Dict[int, List[_Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found = {pid: processes[pid] for pid in pids if pid in processes}
    todo = list(found.values())
    for process in todo:  # grows
        for child in children.pop(process.pid, []):
            if child.pid not in found:
                found[child.pid] = child
                todo.append(child)
    return todo


def _threads(pid: int, proc: str, effort: Effort) -> Iterator[_Thread]:
    compat = _is_32_bit(pid, proc)
    for tid in _numbers("{}/{}/task".format(proc, pid)):
        effort.step()
        thread = _thread(pid, tid, proc, compat)
        if thread is not None:
            yield thread


def _thread(pid: int, tid: int, proc: str, compat: Optional[bool] = None) -> Optional[_Thread]:
    task = "{}/{}/task/{}".format(proc, pid, tid)
    call = _call(task, _is_32_bit(pid, proc) if compat is None else compat)
    if call is None:
        return None
    return _Thread(pid, tid, call, tuple(_ends(task, pid, call, proc)))


def _call(task: str, compat: bool) -> Optional[_Call]:
    """The call that a thread is blocked in; None: it has exited, or the kernel does not tell."""
    machine = os.uname().machine
    calls = _COMPAT.get(machine, _CALLS_ELSEWHERE) if compat else _CALLS.get(machine, _CALLS_ELSEWHERE)
    try:
        if _may_hang(task):
            return None
        words = _bytes(task + "/syscall").split()
        if words == [b"running"]:
            return _Call("running")
        number = int(words[0])
        if number < 0:
            return _Call("no system call")
        return _Call(
            calls.get(number, "system call {}".format(number)), tuple(int(word, 16) for word in words[1:7])
        )
    except (OSError, ValueError, IndexError):
        return None


def _may_hang(task: str) -> bool:
    """Whether reading the thread's system call could block because of an exec from a dead file system.

    Before Linux 5.8 both take the same mutex, and an exec holds it until it has read the file.
    """
    if not _OLD_KERNEL:
        return False
    return _bytes(task + "/wchan").startswith((b"request_wait", b"fuse_", b"rpc_", b"nfs", b"cifs_"))


def _is_32_bit(pid: int, proc: str) -> bool:
    """Whether a process runs a 32-bit program: the auxiliary vector is then made of 32-bit words.

    The vector has pairs of key and value.  The first key is small, so in 64 bits its upper half is 0.
    """
    try:
        with open("{}/{}/auxv".format(proc, pid), "rb", 0) as file:
            words = struct.unpack("=II", file.read(8))
    except (OSError, struct.error):
        return False
    return sys.byteorder == "little" and words[0] < 64 and words[1] != 0


def _ends(task: str, pid: int, call: _Call, proc: str) -> Iterator[_End]:
    try:
        polled = list(_polled(task, "{}/{}/mem".format(proc, pid), call))
    except (OSError, ValueError, IndexError, struct.error):
        return  # it has exited, or permission is denied
    for fd, reads, writes in polled:
        try:
            link = os.readlink("{}/fd/{}".format(task, fd))
            flags = _flags("{}/fdinfo/{}".format(task, fd))
        except (OSError, ValueError):
            continue
        if flags is None:
            continue
        mode = flags & _O_ACCMODE
        fifo = link.startswith("pipe:[") or (link.startswith("/") and _is_fifo(task, fd))
        if fifo and (mode == _O_WRONLY or (mode != _O_RDONLY and not reads)):
            if not writes:
                continue  # it waits for an error only
            yield _End(fd, link, True, bool(flags & _O_CLOEXEC), fifo)
        else:
            yield _End(fd, link, writes and not reads, bool(flags & _O_CLOEXEC), fifo)


def _polled(task: str, memory: str, call: _Call) -> Iterator[Tuple[int, bool, bool]]:
    """The fds that a call waits for, each with two flags: it waits to read, it waits to write."""
    name, args = call.name, call.args
    if name == "restart_syscall" and b"poll" in _bytes(task + "/wchan"):
        name = "poll"  # its arguments are those of the call that was interrupted
    if name in _READS:
        yield args[0] & 0xFFFFFFFF, True, False
    elif name in _WRITES:
        yield args[0] & 0xFFFFFFFF, False, True
    elif name in ("poll", "ppoll"):
        block = _memory(memory, args[0], 8 * min(args[1], _MAX_POLLED))
        for at in range(0, len(block) - 7, 8):
            fd, events, _ = struct.unpack_from("=ihh", block, at)
            if fd >= 0:
                yield fd, bool(events & _POLLIN), bool(events & _POLLOUT)
    elif name in ("select", "pselect6"):
        most = min(args[0] & 0xFFFFFFFF, _MAX_POLLED)
        sets = [bytearray(_memory(memory, at, most + 7 >> 3) if at else b"") for at in args[1:3]]
        for fd in range(most):
            reads, writes = (fd >> 3 < len(bits) and bool(bits[fd >> 3] >> (fd & 7) & 1) for bits in sets)
            if reads or writes:
                yield fd, reads, writes
    elif name in _POLLS:
        for line in _bytes("{}/fdinfo/{}".format(task, args[0] & 0xFFFFFFFF)).splitlines():
            words = line.split()  # tfd: 5 events: 19 data: ...
            if len(words) > 3 and words[0] == b"tfd:":
                events = int(words[3], 16)
                yield int(words[1]), bool(events & _POLLIN), bool(events & _POLLOUT)


def _memory(path: str, address: int, size: int) -> bytes:
    file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        return os.pread(file, size, address)
    except OverflowError:
        raise ValueError(address) from None
    finally:
        os.close(file)


def _is_fifo(task: str, fd: int) -> bool:
    """Whether an fd is a named FIFO; only local file systems are asked, because others may never answer."""
    try:
        fields = dict(
            line.split(b":", 1)
            for line in _bytes("{}/fdinfo/{}".format(task, fd)).splitlines()
            if b":" in line
        )
        number = fields.get(b"mnt_id", b"").strip()
        for line in _bytes(task + "/mountinfo").splitlines():
            if line.split(b" ", 1)[0] == number:
                if line.partition(b" - ")[2].split(b" ")[0] not in _LOCAL_FILE_SYSTEMS:
                    return False
                return stat.S_ISFIFO(os.stat("{}/fd/{}".format(task, fd)).st_mode)
    except OSError:
        pass
    return False


def _exec_file(thread: _Thread, proc: str) -> Tuple[str, str]:
    """The file that an execve executes, and its file system: from the caller's memory and mounts."""
    at = thread.call.args[1 if thread.call.name == "execveat" else 0]
    folder = "{}/{}".format(proc, thread.pid)
    try:
        block = _memory(folder + "/mem", at, 4096 - at % 4096)
        if b"\0" not in block:
            block += _memory(folder + "/mem", at + len(block), 4096)
        path = block.split(b"\0", 1)[0]
        if not path.startswith(b"/"):
            path = os.readlink(os.fsencode(folder + "/cwd")) + b"/" + path
    except (OSError, ValueError):
        return "", ""
    return printable(path), _file_system(folder, path)


def _file_system(folder: str, path: bytes) -> str:
    """The file system of a path, from the mount table alone: the file system itself may not answer."""
    try:
        lines = _bytes(folder + "/mountinfo").splitlines()
    except OSError:
        return ""
    found, words = b"", ""
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields, kinds = before.split(b" "), after.split(b" ")
        if len(fields) < 5 or len(kinds) < 2:
            continue
        place = re.sub(
            rb"\\([0-7]{3})", lambda octal: struct.pack("B", int(octal.group(1), 8) & 255), fields[4]
        )
        if len(place) >= len(found) and (path + b"/").startswith(place.rstrip(b"/") + b"/"):
            found = place
            words = " on {} ({}, mounted at {})".format(*map(printable, (kinds[0], kinds[1], place)))
    return words


def _slave(thread: _Thread, end: _End, proc: str) -> Optional[str]:
    """The terminal at the other end of a pty; None if the fd is not the master of one."""
    if not end.link.endswith("/ptmx"):
        return None
    try:
        for line in _bytes(
            "{}/{}/task/{}/fdinfo/{}".format(proc, thread.pid, thread.tid, end.fd)
        ).splitlines():
            if line.startswith(b"tty-index:"):
                return "/dev/pts/{}".format(int(line[10:]))
    except (OSError, ValueError):
        pass
    return None


def _peers(pids: Sequence[int], threads: Sequence[_Thread], proc: str) -> Dict[str, str]:
    """The other ends of the socketpairs that threads wait for, found by their inode numbers.

    The kernel gives the two ends consecutive numbers, with rare exceptions; the parent's is assumed to be the
    first.
    """
    sockets = {end.link for thread in threads for end in thread.ends if end.link.startswith("socket:[")}
    if not sockets:
        return {}
    networks = {_network(pid, proc): pid for pid in pids}
    pairs: Dict[bytes, bytes] = {}
    for pid in networks.values():
        try:
            lines = _bytes("{}/{}/net/unix".format(proc, pid)).splitlines()[1:]
        except OSError:
            continue
        # Num RefCount Protocol Flags Type St Inode Path; state 3 is connected
        fields = [line.split() for line in lines]
        pairs.update({words[6]: words[4] for words in fields if len(words) == 7 and words[5] == b"03"})
    found = {}
    for link in sockets:
        number = link[len("socket:[") : -1]
        if not number.isdecimal():
            continue
        kind = pairs.get(number.encode("ascii", "replace"))
        if kind is not None and pairs.get(b"%d" % (int(number) + 1)) == kind:
            found[link] = "socket:[{}]".format(int(number) + 1)
    return found


def _network(pid: int, proc: str) -> str:
    """The network namespace of a process."""
    try:
        return os.readlink("{}/{}/ns/net".format(proc, pid))
    except OSError:
        return ""


def _pipe_readers(thread: _Thread) -> Iterator[_Reader]:
    """The anonymous pipes that a thread waits to read."""
    size = thread.call.args[2] if thread.call.name == "read" and len(thread.call.args) > 2 else 0
    for end in thread.ends:
        if not end.writes and end.link.startswith("pipe:["):
            yield _Reader(thread.pid, thread.tid, end.fd, size, end.link, end.cloexec)


def _readers(pid: int, tid: int, proc: str) -> List[_Reader]:
    thread = _thread(pid, tid, proc)
    return [] if thread is None else list(_pipe_readers(thread))


def is_dumping(pid: int, proc: str = PROC) -> bool:
    """Whether the kernel writes the core dump of a process that has crashed (shown from Linux 4.15 on)."""
    try:
        status = _bytes("{}/{}/status".format(proc, pid))
    except OSError:
        return False  # gone
    return re.search(rb"^CoreDumping:\s*1$", status, re.M) is not None


def is_waiting(found: Union[Finding, Wait], proc: str = PROC) -> bool:
    """Whether a thread still waits for what a look has found; False may also mean: not at this moment."""
    thread = _thread(found.pid, found.tid, proc)
    if thread is None:
        return False
    if isinstance(found, Finding):
        return any(reader.pipe == found.pipe for reader in _pipe_readers(thread))
    if _wait_id(thread, found.link, found.holders, proc) != found.id:
        return False  # it is another thread
    if found.link:
        return any(end.link == found.link for end in thread.ends)
    if thread.call.name not in (_VFORKS if found.kind == "vfork" else _WAITS):
        return False
    children = [_process("{}/{}".format(proc, holder.pid), holder.pid) for holder in found.holders]
    return all(
        one is not None
        and one.parent == found.pid
        and one.state != "Z"
        and not (found.kind == "vfork" and one.execed)
        for one in children
    )


def _wait_id(thread: _Thread, link: str, holders: Sequence[WaitHolder], proc: str) -> str:
    """A name for what a thread waits for: unique on this host until the next boot."""
    process = _process("{}/{}/task/{}".format(proc, thread.pid, thread.tid), thread.tid)
    what = link or [holder.pid for holder in holders]
    named = "{} {} {} {}".format(thread.pid, thread.tid, None if process is None else process.start, what)
    return hashlib.sha256(os.fsencode(named)).hexdigest()[:16]


def _still(thread: _Thread, proc: str) -> bool:
    """Whether a thread is still blocked in the same call on the same files."""
    return _thread(thread.pid, thread.tid, proc) == thread


def _scan(
    processes: Iterable[_Process], pipes: Set[str], proc: str, effort: Effort
) -> Dict[str, Dict[int, List[int]]]:
    """For each of these pipes, the fds of either end by pid."""
    found: Dict[str, Dict[int, List[int]]] = {}
    for process in processes:
        if process.flags & _PF_KTHREAD:
            continue
        folder = _folder(process, proc) + "/fd/"
        for number, fd in enumerate(_numbers(folder)):
            if number == effort.max_fds:
                effort.leave_out()
                break
            if number % _FDS_PER_STEP == 0:
                effort.step()
            try:
                link = os.readlink(folder + str(fd))
            except OSError:
                continue
            if link in pipes:
                found.setdefault(link, {}).setdefault(process.pid, []).append(fd)
    return found


def _folder(process: _Process, proc: str) -> str:
    """The folder that shows the fds of a process: that of another thread if the main thread has exited."""
    folder = "{}/{}".format(proc, process.pid)
    if process.state == "Z" and process.threads > 1:
        for tid in _numbers(folder + "/task"):
            if _numbers("{}/task/{}/fd".format(folder, tid)):
                return "{}/task/{}".format(folder, tid)
    return folder


def _look(
    reader: _Reader, fds: Dict[int, List[int]], before: Dict[int, _Process], proc: str, boot: float
) -> Optional[Finding]:
    """Read the facts of a blocked read once more, and judge them."""
    task = "{}/{}/task/{}".format(proc, reader.pid, reader.tid)
    thread = _process(task, reader.tid)
    if thread is None:
        return None
    try:
        times = os.stat("{}/fd/{}".format(task, reader.fd))
    except OSError:
        times = None
    used = times is not None and times.st_atime_ns != times.st_mtime_ns
    created = None if times is None or used else times.st_mtime_ns / 1e9 - boot
    children = _children(task)
    # First whether they have called exec, then what they hold: with an exec in between, the process is no
    # holder.  In the other order, its close-on-exec copy would look as if it had survived an exec.
    kin = set(fds) | {reader.pid} | {one.pid for one in before.values() if one.parent == reader.pid}
    processes = dict(before)
    for pid in kin | (children or set()):
        fresh = _process("{}/{}".format(proc, pid), pid)
        if fresh is None:
            processes.pop(pid, None)
        else:
            processes[pid] = fresh
    copies = {}
    for pid, numbers in fds.items():
        if pid in processes:
            mine = _copies(_folder(processes[pid], proc), numbers, reader.pipe)
            if mine.writes:
                copies[pid] = mine
    facts = _Facts(
        reader, _is_python(reader.pid, proc), processes, thread.start, created, used, children, copies
    )
    verdict = _judge(facts)
    if verdict is None or reader not in _readers(reader.pid, reader.tid, proc):
        return None
    holders, evidence = [], list(verdict.evidence)
    for holder in verdict.holders:
        if holder.pid is None:
            holders.append(holder)
            continue
        cause, first = holder.cause, _thread(holder.pid, holder.pid, proc)
        if cause == "forked" and first is not None and first.call.name in _EXECS:
            cause = "late_exec"
            evidence.append("holder {}: is in execve of {}{}".format(holder.pid, *_exec_file(first, proc)))
        comm = _comm("{}/{}".format(proc, holder.pid))
        holders.append(Holder(holder.pid, comm, holder.fds, cause, is_dumping(holder.pid, proc)))
    return Finding(
        time=time.time() if created is None else created + boot,
        pid=reader.pid,
        tid=reader.tid,
        comm=_comm(task),
        child=verdict.child,
        child_comm=b"" if verdict.child is None else _comm("{}/{}".format(proc, verdict.child)),
        read_fd=reader.fd,
        write_fd=verdict.write_fd,
        holders=tuple(holders),
        certain=verdict.certain,
        evidence=tuple(evidence),
        pipe=reader.pipe,
        seconds=None if created is None else max(0.0, _uptime() - created),
    )


def _uptime() -> float:
    """Seconds since the boot."""
    return time.clock_gettime(_CLOCK_BOOTTIME)


def _copies(folder: str, fds: Sequence[int], pipe: str) -> _Copies:
    writes, reads = {}, {}
    for fd in sorted(fds):
        try:
            flags = _flags("{}/fdinfo/{}".format(folder, fd))
            if flags is None or os.readlink("{}/fd/{}".format(folder, fd)) != pipe:
                continue
        except (OSError, ValueError):
            continue
        if flags & _O_ACCMODE != _O_RDONLY:
            writes[fd] = bool(flags & _O_CLOEXEC)
        if flags & _O_ACCMODE != _O_WRONLY:
            reads[fd] = bool(flags & _O_CLOEXEC)
    return _Copies(writes, reads)


def _children(task: str) -> Optional[Set[int]]:
    """The children that a thread has forked; None: the kernel does not tell."""
    try:
        return {int(word) for word in _bytes(task + "/children").split()}
    except (OSError, ValueError):
        return None


def _is_python(pid: int, proc: str) -> bool:
    try:
        name = os.readlink("{}/{}/exe".format(proc, pid)).rpartition("/")[2]
    except OSError:
        return False
    return name.startswith(("python", "pypy"))


def _flags(path: str) -> Optional[int]:
    """The flags of an fd, from its fdinfo; raises OSError and ValueError."""
    for line in _bytes(path).splitlines():
        if line.startswith(b"flags:"):
            return int(line[6:].decode("ascii"), 8)
    return None


def _comm(folder: str) -> bytes:
    try:
        comm = _bytes(folder + "/comm")
    except OSError:
        return b""
    return comm[:_MAX_COMM].rstrip(b"\n")


def _numbers(folder: str) -> List[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]
    except OSError:
        return []  # it has exited, or permission is denied


def _bytes(path: str) -> bytes:
    with open(path, "rb", 0) as file:
        return file.read()


# -- judging: pure --


class _Verdict(NamedTuple):
    child: Optional[int]
    write_fd: Optional[int]
    holders: Tuple[Holder, ...]
    certain: bool
    evidence: Tuple[str, ...]


def _judge(facts: _Facts) -> Optional[_Verdict]:
    """Decide whether foreign holders keep the errpipe of a read open; None: no, or it may be another pipe."""
    reader, processes, copies, created = facts.reader, facts.processes, facts.copies, facts.created
    parent = processes.get(reader.pid)
    if parent is None or reader.pid in copies or (reader.fd <= 2 and not reader.cloexec):
        return None
    # A standard stream is not close-on-exec.  A close-on-exec copy on fd 0 to 2 is that of an errpipe, in a
    # program that had closed its standard streams.
    if any(fd <= 2 and not cloexec for mine in copies.values() for fd, cloexec in mine.writes.items()):
        return None  # a standard output
    if copies.keys() & set(_ancestors(reader.pid, processes)):
        return None  # the reader received it from its parent, as with bash's job control
    runtime = _RUNTIMES.get(reader.size)
    older = _older(created, parent.start, facts.thread_start)
    certain = runtime is not None and not older
    if runtime is not None:
        if not reader.cloexec or facts.used:
            return None
    elif not 0 < reader.size <= _SMALL_READ or facts.python or older:
        return None

    # Which process is the own child?
    known = facts.children is not None or parent.threads == 1
    forked = facts.children
    if forked is None:
        forked = {one.pid for one in processes.values() if one.parent == reader.pid}
    since = [
        processes[pid]
        for pid in forked
        if pid in processes and (created is None or processes[pid].start >= created - _SLACK_SECONDS)
    ]
    foreign = {
        pid
        for pid, mine in copies.items()
        if runtime is not None and mine.reads and not processes[pid].execed
    }
    may_be_own = sorted((one for one in since if one.pid not in foreign), key=lambda one: one.age)
    released = [one for one in may_be_own if one.pid not in copies and one.execed]
    own: Optional[_Process] = None
    if known:
        if may_be_own and may_be_own[-1] in released:
            own = may_be_own[-1]
        released = [] if own is None else [own]
        if any(one.pid in copies for one in since):
            # The holder is the own child, slow to call exec or with a data pipe; or another child of this
            # thread, such as a worker with a result pipe; or it was adopted from a thread that has exited.
            if own is None or runtime is None:
                return None
            certain = False
    else:
        if any(one.pid in copies and not one.execed for one in may_be_own):
            return None  # it may be the own child, slow to call exec
        if len(released) == 1:
            own = released[0]
    if not released and (runtime is None or not copies):
        return None  # no sign of a spawn
    certain = certain and bool(released) and created is not None and bool(copies)

    holders = sorted(copies, key=lambda pid: processes[pid].age)
    causes = {pid: _cause(pid, own, facts) for pid in holders}
    numbers = {fd for pid in holders for fd in copies[pid].writes if causes[pid] in ("forked", "leaked")}
    return _Verdict(
        child=None if own is None else own.pid,
        write_fd=numbers.pop() if len(numbers) == 1 else None,
        holders=tuple(Holder(pid, b"", tuple(copies[pid].writes), causes[pid]) for pid in holders)
        or (Holder(None, b"", (), "unknown"),),
        certain=certain,
        evidence=tuple(_evidence(facts, own, released)),
    )


def _cause(pid: int, own: Optional[_Process], facts: _Facts) -> str:
    holder, mine = facts.processes[pid], facts.copies[pid]
    ancestors = set(_ancestors(pid, facts.processes))
    if own is not None and own.pid in ancestors:
        return "own_descendant"
    if facts.created is not None and holder.start < facts.created - _SLACK_SECONDS:
        return "unknown" if mine.reads else "passed"  # it is older than the pipe
    if not holder.execed:
        return "forked" if mine.reads else "unknown"
    kin = facts.reader.pid in ancestors or holder.session == facts.processes[facts.reader.pid].session
    if not all(mine.writes.values()):
        return "leaked" if kin else "unknown"
    return "unknown" if kin else "passed"  # no exec leaves a close-on-exec copy


def _evidence(facts: _Facts, own: Optional[_Process], released: Sequence[_Process]) -> Iterator[str]:
    reader = facts.reader
    runtime = _RUNTIMES.get(reader.size)
    if runtime is not None:
        yield "read size {}: as {} reads its errpipe".format(reader.size, runtime)
    else:
        others = _SMALL_RUNTIMES.get(reader.size, "others")
        yield "read size {}: as {} read an errpipe, but data pipes too".format(reader.size, others)
    yield "the read end is {}close-on-exec".format("" if reader.cloexec else "not ")
    if facts.created is None:
        yield "the age of the pipe is not known"
    elif _older(facts.created, facts.processes[reader.pid].start, facts.thread_start):
        yield "the pipe looks older than the thread that reads it"
    else:
        yield "the pipe is younger than the thread that reads it"
    if own is not None:
        which = "the thread's youngest" if facts.children is not None else "the process's only or youngest"
        state = "exited" if own.state == "Z" else "called exec"
        yield "own child: pid {}, {} child since the pipe was created, has {} and has no copy".format(
            own.pid, which, state
        )
    elif released:
        yield "own child: one of {} processes that were started since then".format(len(released))
    else:
        yield "no own child was found"
    if not facts.copies:
        yield "no process that can be inspected has the write end"
        for one in _exiting_descendants(reader.pid, facts.processes):
            yield "pid {} is exiting: its open files cannot be inspected".format(one.pid)
    for pid, mine in sorted(facts.copies.items()):
        execed = "has called exec" if facts.processes[pid].execed else "has not called exec since its fork"
        flags = "close-on-exec" if all(mine.writes.values()) else "not close-on-exec"
        both = ", has the read end too" if mine.reads else ""
        exits = ", is exiting" if facts.processes[pid].exiting else ""
        yield "holder {}: {}, its copy is {}{}{}".format(pid, execed, flags, both, exits)


def _older(created: Optional[float], *starts: float) -> bool:
    """Whether a pipe is older than a process or thread that should have created it."""
    return created is not None and any(start > created + _SLACK_SECONDS for start in starts)


def _ancestors(pid: int, processes: Dict[int, _Process]) -> Iterator[int]:
    seen = {pid}
    while pid in processes:
        pid = processes[pid].parent
        if pid in seen:
            return  # pids were reused while the processes were read
        seen.add(pid)
        yield pid


def _exiting_descendants(pid: int, processes: Dict[int, _Process]) -> List[_Process]:
    """Those whose open files do not show any more whether they have a pipe; not all if there are many."""
    exiting = (one for one in processes.values() if one.exiting)
    return [one for one in exiting if pid in _ancestors(one.pid, processes)][:_MAX_LISTED]


# -- waits that are not stalls --


class _View:
    """One look: processes, threads and pipes, and whatever else of them is read on demand."""

    def __init__(
        self,
        proc: str,
        boot: float,
        processes: Dict[int, _Process],
        threads: List[_Thread],
        seen: Dict[str, Dict[int, List[int]]],
        peers: Dict[str, str],
    ) -> None:
        self.proc = proc
        self.boot = boot
        self.processes = processes
        self.threads = threads
        self.seen = seen
        self.peers = peers
        self._by_parent: Dict[int, List[int]] = {}
        for process in processes.values():
            self._by_parent.setdefault(process.parent, []).append(process.pid)
        self._copies: Dict[str, Dict[int, _Copies]] = {}
        self._leaders: Dict[int, Optional[_Thread]] = {
            thread.pid: thread for thread in threads if thread.pid == thread.tid
        }
        self._fresh: Dict[int, Optional[_Process]] = {}
        self._children: Dict[int, List[_Process]] = {}
        self._comms: Dict[int, bytes] = {}
        self._doing: Dict[int, str] = {}

    def folder(self, pid: int) -> str:
        return "{}/{}".format(self.proc, pid)

    def task(self, thread: _Thread) -> str:
        return "{}/{}/task/{}".format(self.proc, thread.pid, thread.tid)

    def process(self, pid: int) -> Optional[_Process]:
        """A process as it is after all fds have been read; None if it has exited."""
        if pid not in self._fresh:
            self._fresh[pid] = _process(self.folder(pid), pid)
        return self._fresh[pid]

    def children(self, pid: int) -> List[_Process]:
        """The children of a process that are alive or not reaped, the oldest first."""
        if pid not in self._children:
            found = [self.process(child) for child in self._by_parent.get(pid, ())]
            mine = [one for one in found if one is not None and one.parent == pid]
            self._children[pid] = sorted(mine, key=lambda one: one.age)
        return self._children[pid]

    def forked_by(self, thread: _Thread) -> List[_Process]:
        """The children that a thread forked; if the kernel does not tell, all children of its process."""
        children = self.children(thread.pid)
        known = _children(self.task(thread))
        return children if known is None else [one for one in children if one.pid in known]

    def ancestors(self, pid: int) -> Set[int]:
        return set(_ancestors(pid, self.processes))

    def copies(self, link: str) -> Dict[int, _Copies]:
        """The processes that have ends of a pipe open."""
        if link not in self._copies:
            found = {}
            for pid, fds in self.seen.get(link, {}).items():
                if pid in self.processes:
                    mine = _copies(_folder(self.processes[pid], self.proc), fds, link)
                    if mine.writes or mine.reads:
                        found[pid] = mine
            self._copies[link] = found
        return self._copies[link]

    def comm(self, pid: int) -> bytes:
        if pid not in self._comms:
            self._comms[pid] = _comm(self.folder(pid))
        return self._comms[pid]

    def name(self, pid: int) -> str:
        """As in ``sleep (pid 456)``."""
        comm = printable(self.comm(pid))
        return "{} (pid {})".format(comm, pid) if comm else "pid {}".format(pid)

    def thread_name(self, thread: _Thread) -> str:
        if thread.tid == thread.pid:
            return self.name(thread.pid)
        comm = printable(self.comm(thread.pid))
        return "{} (pid {}, thread {})".format(comm, thread.pid, thread.tid)

    def started(self, pid: int) -> Optional[float]:
        process = self.processes.get(pid)
        return None if process is None else process.start + self.boot

    def holder(self, pid: int, fds: Iterable[int]) -> WaitHolder:
        process = self.processes.get(pid)
        return WaitHolder(
            pid,
            self.comm(pid),
            tuple(sorted(fds)),
            0 if process is None else process.parent,
            self.started(pid),
            self.doing(pid),
        )

    def text(self, name: str) -> bytes:
        """The content of a file below /proc, empty if it cannot be read."""
        try:
            return _bytes("{}/{}".format(self.proc, name))
        except OSError:
            return b""

    def leader(self, pid: int) -> Optional[_Thread]:
        """The main thread of a process."""
        if pid not in self._leaders:
            self._leaders[pid] = _thread(pid, pid, self.proc)
        return self._leaders[pid]

    def wchan(self, pid: int) -> str:
        found = printable(self.text("{}/wchan".format(pid)).strip())
        return "" if found == "0" else found

    def is_frozen(self, pid: int) -> bool:
        # Some compilers inline do_freezer_trap into get_signal, where a stopped process may sleep, too.
        process = self.process(pid)
        is_stopped = process is not None and process.state in "Tt"
        return not is_stopped and self.wchan(pid) in ("do_freezer_trap", "get_signal", "__refrigerator")

    def tracer(self, pid: int) -> int:
        found = re.search(rb"^TracerPid:\s*(\d{1,9})$", self.text("{}/status".format(pid)), re.M)
        return int(found.group(1)) if found else 0

    def waited_for(self, thread: _Thread) -> List[_Process]:
        """The children that a thread in wait4 or waitid waits for."""
        children = self.children(thread.pid)
        args = thread.call.args
        if thread.call.name == "waitid":
            kind, number = args[0], args[1] & 0xFFFFFFFF
            if kind == 3:  # P_PIDFD
                info = self.text("{}/fdinfo/{}".format(thread.pid, number))
                found = re.search(rb"^Pid:\s*(\d{1,9})$", info, re.M)
                number = int(found.group(1)) if found else 0
        else:
            number = args[0] & 0xFFFFFFFF
            kind = 1 if 0 < number < 1 << 31 else 0
        return [one for one in children if one.pid == number] if kind in (1, 3) else children

    def waits_for(self, pid: int, target: int, depth: int = 0) -> bool:
        """Whether a process waits for another one to exit, directly or through other processes."""
        for tid in _numbers(self.folder(pid) + "/task"):
            thread = _thread(pid, tid, self.proc)
            if thread is None or thread.call.name not in _WAITS or len(thread.call.args) < 2:
                continue
            alive = [one.pid for one in self.waited_for(thread) if one.state != "Z"]
            if len(alive) == 1 and (
                alive[0] == target or (depth < _MAX_DEPTH and self.waits_for(alive[0], target, depth + 1))
            ):
                return True
        return False

    def is_stuck(self, pid: int) -> bool:
        """Whether a process does no work: it is stopped, traced, frozen, in an exec, or at its end."""
        process, thread = self.process(pid), self.leader(pid)
        if process is None:
            return False
        in_exec = thread is not None and thread.call.name in _EXECS and not self.is_starting(pid)
        ends = process.exiting or is_dumping(pid, self.proc)
        return process.state in "Tt" or ends or in_exec or self.is_frozen(pid)

    def is_starting(self, pid: int) -> bool:
        """Whether a process is so young, and not kept from running, that its exec is not late."""
        process = self.process(pid)
        if process is None or process.state in "Tt" or self.is_frozen(pid):
            return False
        return _uptime() - process.start < _YOUNG_SECONDS

    def doing(self, pid: int, depth: int = 0) -> str:
        """What the main thread of a process does: the predicate of a sentence."""
        if depth:
            return self._does(pid, depth)
        if pid not in self._doing:
            self._doing[pid] = self._does(pid, depth)
        return self._doing[pid]

    def _does(self, pid: int, depth: int) -> str:
        process = self.process(pid)
        if process is None:
            return "has exited"
        if process.state == "Z":
            return "has exited" if process.threads <= 1 else "runs, but its main thread has exited"
        if process.state == "T":
            return "is stopped (state T)"
        if process.state == "t":
            tracer = self.tracer(pid)
            return "is stopped by its tracer{}".format(" " + self.name(tracer) if tracer else "")
        if process.exiting or is_dumping(pid, self.proc):
            ends = "is exiting" if process.exiting else _CRASHED
            return ends + (", in uninterruptible sleep (state D)" if process.state == "D" else "")
        if self.is_frozen(pid):
            return "is frozen by its cgroup"
        thread = self.leader(pid)
        if thread is None or thread.call.name == "running":
            return "is running" if process.state == "R" else "is in state {}".format(process.state)
        doing = self._in_call(thread, depth)
        return doing + (", in uninterruptible sleep (state D)" if process.state == "D" else "")

    def _in_call(self, thread: _Thread, depth: int) -> str:
        call = thread.call
        if call.name in _EXECS:
            path, where = _exec_file(thread, self.proc)
            return "is in execve{}".format(" of " + path + where if path else "")
        if call.name in _WAITS and len(call.args) > 1:
            alive = [one.pid for one in self.waited_for(thread) if one.state != "Z"]
            if len(alive) == 1 and depth < _MAX_DEPTH:
                return "waits for {}, which {}".format(self.name(alive[0]), self.doing(alive[0], depth + 1))
            return "waits for its children ({})".format(call.name)
        if call.name in _LOCKS:
            return "waits for a lock or for another thread (futex)"
        if call.name in _SLEEPS or call.name == "pause":
            return "sleeps ({})".format(call.name)
        if thread.ends:
            listed = ["fd {} ({})".format(end.fd, printable(os.fsencode(end.link))) for end in thread.ends]
            if call.name in _POLLS:
                more = len(listed) - _MAX_LISTED
                rest = " and {} more".format(more) if more > 0 else ""
                return "waits in {} for {}{}".format(call.name, ", ".join(listed[:_MAX_LISTED]), rest)
            return "{} {}".format("writes to" if thread.ends[0].writes else "reads", listed[0])
        if call.name == "no system call":
            return "waits outside a system call"
        return "is in {}".format(call.name)

    def make(
        self,
        kind: str,
        thread: _Thread,
        headline: str,
        child: Optional[int] = None,
        holders: Sequence[WaitHolder] = (),
        evidence: Iterable[str] = (),
        advice: str = "",
        normal: bool = False,
        since: Optional[float] = None,
    ) -> Wait:
        return Wait(
            kind,
            time.time(),
            thread.pid,
            thread.tid,
            self.comm(thread.pid),
            child,
            b"" if child is None else self.comm(child),
            headline + ".",
            tuple(holders),
            tuple(evidence),
            advice,
            normal,
            since,
        )


def _state_name(call: str) -> str:
    for name, calls in _CALL_NAMES.items():
        if call in calls:
            return name
    return call


def _wait(thread: _Thread, view: _View) -> Optional[Wait]:
    """What a thread waits for if that is a child or a pipe; None if it is something else."""
    if thread.call.name in _VFORKS:
        return _identified(_vfork_wait(thread, view), thread, "", view)
    if thread.call.name in _WAITS and len(thread.call.args) > 1:
        return _identified(_child_wait(thread, view), thread, "", view)
    waits = [_identified(_end_wait(thread, end, view), thread, end.link, view) for end in thread.ends]
    found = [wait for wait in waits if wait is not None]
    if not found:
        return None
    found.sort(key=lambda wait: (wait.normal, _KINDS.index(wait.kind)))
    first, others = found[0], found[1:]
    also = ["also: " + other.headline for other in others[:_MAX_LISTED]]
    if len(others) > _MAX_LISTED:
        also.append("also: {} more pipes".format(len(others) - _MAX_LISTED))
    return first._replace(evidence=first.evidence + tuple(also))


def _identified(wait: Optional[Wait], thread: _Thread, link: str, view: _View) -> Optional[Wait]:
    if wait is None:
        return None
    if wait.kind in ("own_child", "vfork") and wait.child is not None and view.is_starting(wait.child):
        wait = wait._replace(normal=True, advice="")
    return wait._replace(id=_wait_id(thread, link, wait.holders, view.proc), link=link)


def _vfork_wait(thread: _Thread, view: _View) -> Optional[Wait]:
    pending = [one for one in view.forked_by(thread) if not one.execed and one.state != "Z"]
    if not pending:
        return None
    child = pending[-1].pid
    return view.make(
        "vfork",
        thread,
        "{} is starting a program and is blocked until its child {} calls exec: the child {}".format(
            view.thread_name(thread), view.name(child), view.doing(child)
        ),
        child=child,
        holders=[view.holder(child, ())],
        evidence=[
            "the thread is in {}, which has not returned".format(thread.call.name),
            *_before_exec(child, view),
        ],
        advice=_advice_before_exec(child, view),
        since=view.started(child),
    )


def _before_exec(child: int, view: _View) -> List[str]:
    """What ``/proc`` shows of a child that has not called exec."""
    evidence = []
    started = view.started(child)
    if started is not None:
        evidence.append("the child was forked at {}".format(_clock(started)))
    process, thread, wchan = view.process(child), view.leader(child), view.wchan(child)
    if process is not None and thread is not None:
        if thread.call.name == "running":
            evidence.append("the child is running (state {})".format(process.state))
        else:
            at = " at {}".format(wchan) if wchan else ""
            evidence.append("the child is in state {}, in {}{}".format(process.state, thread.call.name, at))
    tracer = view.tracer(child)
    if tracer:
        evidence.append("it is traced by {}".format(view.name(tracer)))
    if view.is_frozen(child):
        groups = [
            printable(line.rsplit(b":", 1)[1])
            for line in view.text("{}/cgroup".format(child)).splitlines()
            if line.startswith(b"0::") or b":freezer:" in line
        ]
        evidence.append("its cgroup is {}".format(", ".join(groups)))
    limit = _fd_limit(child, view)
    fds = sorted(_numbers(view.folder(child) + "/fd"))
    if fds and process is not None and (process.state == "R" or (thread and thread.call.name == "close")):
        listed = ", ".join(map(str, fds[:10])) + (", ..." if len(fds) > 10 else "")
        evidence.append("it has {} open fds: {}".format(len(fds), listed))
        if limit is not None:
            evidence.append("its limit of open files is {:,}".format(limit))
        if thread and thread.call.name == "close":
            evidence.append("it is closing fd {}".format(thread.call.args[0] & 0xFFFFFFFF))
    return evidence


def _fd_limit(pid: int, view: _View) -> Optional[int]:
    found = re.search(rb"^Max open files\s+(\d{1,19})", view.text("{}/limits".format(pid)), re.M)
    return int(found.group(1)) if found else None


def _advice_before_exec(child: int, view: _View) -> str:
    process, thread = view.process(child), view.leader(child)
    if process is not None and process.state == "T":
        return "Continue it (kill -CONT {}), and find out what stopped it.".format(child)
    if process is not None and process.state == "t":
        return "Continue it in its tracer (a debugger, strace), or detach the tracer."
    if process is not None and process.exiting:
        return (
            "The kernel frees its memory and closes its files. If that takes long, a file system or a device"
            " does not respond."
        )
    if is_dumping(child, view.proc):
        return (
            "Find out why it crashes. Killing it (kill -KILL {}) ends the core dump, which the kernel writes"
            " to the file or program that /proc/sys/kernel/core_pattern names."
        ).format(child)
    if view.is_frozen(child):
        return "Thaw its cgroup, and find out what froze it."
    if thread is not None and thread.call.name in _EXECS:
        return "Check that the file system of the program answers: a dead or slow mount keeps execve waiting."
    if thread is not None and thread.call.name in _LOCKS:
        return (
            "A lock that another thread held at the fork is never released in the child: take no locks in"
            " preexec_fn and fork hooks (os.register_at_fork, pthread_atfork)."
        )
    if process is not None and process.state == "R" and (_fd_limit(child, view) or 0) >= _MANY_FDS:
        return (
            "If the child closes all fds up to its limit one by one, lower the limit (ulimit -n), or use a"
            " runtime that calls close_range."
        )
    return "Check what the child runs before its exec: preexec_fn and fork hooks."


def _child_wait(thread: _Thread, view: _View) -> Optional[Wait]:
    alive = [one.pid for one in view.waited_for(thread) if one.state != "Z"]
    if not alive:
        return None
    who = view.thread_name(thread)
    evidence = ["the thread is in {}".format(thread.call.name)]
    if len(alive) == 1:
        child = alive[0]
        stuck = view.is_stuck(child)
        return view.make(
            "child",
            thread,
            "{} waits for its child {} to exit; the child {}".format(
                who, view.name(child), view.doing(child)
            ),
            child=child,
            holders=[view.holder(child, ())],
            evidence=evidence + (_before_exec(child, view) if stuck else []),
            advice=_advice_before_exec(child, view) if stuck else "",
            normal=not stuck,
            since=view.started(child),
        )
    listed = ", ".join(map(view.name, alive[:_MAX_LISTED])) + (", ..." if len(alive) > _MAX_LISTED else "")
    holders = [view.holder(pid, ()) for pid in alive[:_MAX_LISTED]]
    evidence += ["{} {}".format(view.name(holder.pid), holder.doing) for holder in holders]
    return view.make(
        "child",
        thread,
        "{} waits for one of its {} children to exit: {}".format(who, len(alive), listed),
        holders=holders,
        evidence=evidence,
        normal=not all(map(view.is_stuck, alive)),
    )


def _end_wait(thread: _Thread, end: _End, view: _View) -> Optional[Wait]:
    if end.fifo:
        return _write_wait(thread, end, view) if end.writes else _read_wait(thread, end, view)
    peer = view.peers.get(end.link)
    holders_of_peer = {
        pid: fds for pid, fds in view.seen.get(peer or "", {}).items() if pid in view.processes
    }
    if holders_of_peer and thread.pid not in holders_of_peer and not end.writes:
        return _socket_wait(thread, end, holders_of_peer, view)
    terminal = end.link.endswith("/ptmx")
    if _is_polling(thread) or not (terminal or end.link.startswith("socket:[")):
        return None
    children = view.children(thread.pid)
    if not children:
        return None
    what = "a terminal (pty)" if terminal else "a socket"
    evidence = [
        "fd {} is {}".format(end.fd, printable(os.fsencode(end.link))),
        "its children: {}".format(", ".join(view.name(one.pid) for one in children[:_MAX_LISTED])),
    ]
    holders = []
    slave = _slave(thread, end, view.proc)
    if slave is not None:
        evidence.append("the other end is {}".format(slave))
        holders = [view.holder(pid, fds) for pid, fds in sorted(view.seen.get(slave, {}).items())]
    else:
        evidence.append("/proc does not show which process has the other end")
    return view.make(
        "other",
        thread,
        "{} {} {}, fd {}".format(
            view.thread_name(thread), "writes to" if end.writes else "reads", what, end.fd
        ),
        holders=holders,
        evidence=evidence,
        normal=True,
    )


def _socket_wait(thread: _Thread, end: _End, fds: Dict[int, List[int]], view: _View) -> Wait:
    """The wait for a socketpair; fds: of the end that is taken for its other end, by pid."""
    copies = {}
    for pid, numbers in fds.items():
        mine = _copies(_folder(view.processes[pid], view.proc), numbers, view.peers[end.link])
        if mine.writes:
            copies[pid] = mine
    seen = "{} is taken for its other end: the ends of a socketpair have consecutive numbers".format(
        view.peers[end.link]
    )
    below = sorted(pid for pid in copies if thread.pid in view.ancestors(pid))
    size = thread.call.args[2] if thread.call.name == "recvfrom" and len(thread.call.args) > 2 else 0
    if size == _SMALL_READ and end.cloexec and copies:
        forked = view.forked_by(thread)
        own = [one.pid for one in forked if one.pid in copies and not one.execed]
        if own and len(own) == len(copies):
            return view.make(
                "own_child",
                thread,
                "{} is starting a program; its own child {} has not called exec: the child {}".format(
                    view.thread_name(thread), view.name(own[-1]), view.doing(own[-1])
                ),
                child=own[-1],
                holders=[view.holder(pid, copies[pid].writes) for pid in own],
                evidence=[
                    "recvfrom of 8 bytes from a socketpair: as Rust reads its errpipe",
                    seen,
                    *_before_exec(own[-1], view),
                ],
                advice=_advice_before_exec(own[-1], view),
                since=view.started(own[-1]),
            )
        started = [one for one in forked if one.execed and one.pid not in copies]
        if started and not any(one.pid in copies for one in forked):
            return view.make(
                "errpipe",
                thread,
                "{} waits for a socketpair (fd {}) that looks like the errpipe of {}; its other end is"
                " open in {}".format(
                    view.thread_name(thread),
                    end.fd,
                    view.name(started[-1].pid),
                    ", ".join(map(view.name, copies)),
                ),
                child=started[-1].pid,
                holders=[view.holder(pid, mine.writes) for pid, mine in copies.items()],
                evidence=["recvfrom of 8 bytes from a socketpair: as Rust reads its errpipe", seen],
                advice=_DO["forked"],
            )
    if copies and not below and not copies.keys() & view.ancestors(thread.pid):
        wait = _data_wait(thread, end, copies, view)
        return wait._replace(evidence=(*wait.evidence, seen))
    first = (below or sorted(copies) or sorted(fds))[0]
    return view.make(
        "output" if below else "other",
        thread,
        "{} reads from {} over a socket (fd {}); that process {}".format(
            view.thread_name(thread), view.name(first), end.fd, view.doing(first)
        ),
        child=first if below else None,
        holders=[view.holder(pid, numbers) for pid, numbers in sorted(fds.items())],
        evidence=[seen],
        normal=not view.is_stuck(first),
    )


# A pipe that a thread waits to read


def _is_polling(thread: _Thread) -> bool:
    """Whether a thread waits for one of several files; a poll of a single one is like a read."""
    return thread.call.name in _POLLS and not (
        len(thread.ends) == 1 and thread.call.name in ("poll", "ppoll")
    )


def _read_wait(thread: _Thread, end: _End, view: _View) -> Optional[Wait]:
    writers = {pid: mine for pid, mine in view.copies(end.link).items() if mine.writes}
    jobserver = _jobserver_wait(thread, end, writers, view)
    if jobserver is not None:
        return jobserver
    mine = writers.pop(thread.pid, None)
    if mine is not None and _is_polling(thread):
        return None  # its other threads wake it up by this pipe
    if mine is not None and not any(thread.pid in view.ancestors(pid) for pid in writers):
        return _self_held(thread, end, mine.writes, writers, view)
    if mine is None:
        spawn = _spawn_wait(thread, end, writers, view)
        if spawn is not None:
            return spawn
    if not writers:
        if _is_polling(thread):
            return None
        return view.make(
            "other",
            thread,
            "{} reads a pipe (fd {}) whose write end is open in no process that can be inspected".format(
                view.thread_name(thread), end.fd
            ),
            evidence=[
                "fd {} is {}".format(end.fd, printable(os.fsencode(end.link))),
                *(
                    "{} is exiting: its open files cannot be inspected".format(view.name(one.pid))
                    for one in _exiting_descendants(thread.pid, view.processes)
                ),
            ],
        )
    wait = _data_wait(thread, end, writers, view)
    if mine is not None:
        own = "{} has the write end open too (fd {}): there is no end-of-file before it closes it".format(
            view.name(thread.pid), _listed_fds(mine.writes)
        )
        wait = wait._replace(evidence=(*wait.evidence, own))
    return wait


def _self_held(
    thread: _Thread, end: _End, fds: Iterable[int], others: Dict[int, _Copies], view: _View
) -> Wait:
    process = view.process(thread.pid)
    several = process is not None and process.threads > 1
    evidence = ["fd {} is {}".format(end.fd, printable(os.fsencode(end.link))), *_traffic(thread, end, view)]
    if several:
        evidence.append("its other threads can write to it")
    if others:
        evidence.append("also open in {}".format(", ".join(map(view.name, sorted(others)[:_MAX_LISTED]))))
    return view.make(
        "self_held",
        thread,
        "{} reads a pipe (fd {}) whose write end it has open itself (fd {}):"
        " there is no end-of-file before it closes that".format(
            view.thread_name(thread), end.fd, _listed_fds(fds)
        ),
        holders=[view.holder(thread.pid, fds)],
        evidence=evidence,
        advice=""
        if several and not others
        else "Close the write end in the parent once the child has been forked.",
        normal=several and not others,
    )


def _listed_fds(fds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(fds)))


def _pipe_times(thread: _Thread, end: _End, view: _View) -> Tuple[Optional[float], Optional[float]]:
    """When a pipe was created (None: not known), and when it was last written to (None: never)."""
    try:
        times = os.stat("{}/fd/{}".format(view.task(thread), end.fd))
    except OSError:
        return None, None
    if times.st_atime_ns == times.st_mtime_ns and end.link.startswith("pipe:["):
        return times.st_mtime_ns / 1e9, None
    return None, times.st_mtime_ns / 1e9


def _traffic(thread: _Thread, end: _End, view: _View) -> List[str]:
    if not end.fifo:
        return []
    created, written = _pipe_times(thread, end, view)
    if created is not None:
        return [_creation(created)]
    return [] if written is None else ["the pipe was last written to at {}".format(_clock(written))]


def _creation(created: float) -> str:
    """When a pipe was created; on older kernels, a write and a read within one timer tick look the same."""
    if _KEEPS_PIPE_TIMES:
        return "the pipe was created at {}".format(_clock(created))
    return "the pipe was created, or last written to and read at once, at {}".format(_clock(created))


def _clock(when: float) -> str:
    try:
        return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "an unknown time"


def _spawn_wait(thread: _Thread, end: _End, writers: Dict[int, _Copies], view: _View) -> Optional[Wait]:
    """The wait for a pipe that is an errpipe, or looks like one."""
    created, _ = _pipe_times(thread, end, view)
    own_thread, parent = _process(view.task(thread), thread.tid), view.process(thread.pid)
    if created is None or not end.cloexec or own_thread is None or parent is None:
        return None
    age = created - view.boot
    if _older(age, parent.start, own_thread.start) or writers.keys() & view.ancestors(thread.pid):
        return None
    if any(fd <= 2 and not cloexec for mine in writers.values() for fd, cloexec in mine.writes.items()):
        return None
    since = [one for one in view.forked_by(thread) if one.start >= age - _SLACK_SECONDS]
    size = thread.call.args[2] if thread.call.name == "read" and len(thread.call.args) > 2 else 0
    runtime = _RUNTIMES.get(size)
    seen = [
        "read size {}: as {} reads its errpipe".format(size, runtime)
        if runtime is not None
        else "the thread is in {}".format(thread.call.name),
        _creation(created),
    ]

    if writers:
        before_exec = [one for one in since if one.pid in writers and not one.execed and one.state != "Z"]
    else:
        before_exec = [one for one in since if one.exiting and not one.execed and runtime is not None]
    if before_exec:
        own = before_exec[-1].pid
        others = [pid for pid in writers if pid != own and own not in view.ancestors(pid)]
        # Each of them may be the child for which the pipe was created.
        others_execed = any(one.execed and one.pid not in writers for one in since)
        is_own = runtime is not None or (view.is_stuck(own) and not others_execed)
        if is_own and not (others and runtime is None):
            return view.make(
                "own_child",
                thread,
                "{} is starting a program; its own child {} has not called exec: the child {}".format(
                    view.thread_name(thread), view.name(own), view.doing(own)
                ),
                child=own,
                holders=[view.holder(pid, writers[pid].writes if writers else ()) for pid in [own, *others]],
                evidence=[
                    *seen,
                    "no process that can be inspected has its write end"
                    if not writers
                    else "its write end is open in {} only".format(view.name(own))
                    if not others
                    else "its write end is open in {} too".format(", ".join(map(view.name, others))),
                    *_before_exec(own, view),
                ],
                advice=_advice_before_exec(own, view),
                since=view.started(own),
            )

    started = since[-1] if since and since[-1].pid not in writers and since[-1].execed else None
    beside = [
        pid
        for pid, mine in writers.items()
        for process in [view.process(pid)]
        if process is not None
        and (
            (not process.execed and mine.reads)
            or (
                process.execed
                and not all(mine.writes.values())
                and process.pid not in {one.pid for one in since}
            )
        )
    ]
    library = None if started is not None else _loop_library(thread, view)
    if not beside or len(beside) < len(writers) or (started is None and library is None):
        return None
    first = view.name(beside[0])
    if started is not None:
        of = "of {}, which {}".format(
            view.name(started.pid), "has exited" if started.state == "Z" else "has called exec"
        )
    else:
        of = "of a program"
        seen.append("it uses {}, which waits for errpipes in {}".format(library, thread.call.name))
    return view.make(
        "errpipe",
        thread,
        "{} waits for a pipe (fd {}) that looks like the errpipe or an output {}; its write end is still open"
        " in {}".format(
            view.thread_name(thread), end.fd, of, ", ".join(map(view.name, beside[:_MAX_LISTED]))
        ),
        child=None if started is None else started.pid,
        holders=[view.holder(pid, writers[pid].writes) for pid in beside],
        evidence=[
            *seen,
            *(
                "{} {}".format(
                    view.name(pid),
                    "was forked while the pipe was open, has not called exec, and has the read end too"
                    if writers[pid].reads
                    else "has called exec with its copy, which is not close-on-exec",
                )
                for pid in beside
            ),
        ],
        advice="If {} is meant to answer on this pipe, nothing is wrong. Otherwise it blocks the start of a"
        " program. {}".format(first, _DO["forked"]),
        since=created,
    )


def _loop_library(thread: _Thread, view: _View) -> Optional[str]:
    """The name of a library that waits for errpipes in poll or epoll, if the process has loaded one."""
    if thread.call.name not in _POLLS:
        return None
    maps = view.text("{}/maps".format(thread.pid))
    for part, name in ((b"/gevent/", "gevent"), (b"/libQt", "Qt"), (b"/libuv.", "libuv")):
        if part in maps:
            return name
    return None


def _data_wait(thread: _Thread, end: _End, writers: Dict[int, _Copies], view: _View) -> Wait:
    """The wait for a data pipe; writers: other processes, at least one."""
    me = thread.pid
    who, mine = view.thread_name(thread), view.ancestors(me)
    below = {pid for pid in writers if me in view.ancestors(pid)}
    above = writers.keys() & mine
    order = sorted(writers, key=lambda pid: view.processes[pid].age)
    holders = [view.holder(pid, writers[pid].writes) for pid in order]
    sort = "pipe" if end.fifo else "socket"
    what = "its standard input, a {},".format(sort) if end.fd == 0 else "a {} (fd {})".format(sort, end.fd)
    evidence = ["fd {} is {}".format(end.fd, printable(os.fsencode(end.link))), *_traffic(thread, end, view)]
    exited = [one.pid for one in view.children(me) if one.state == "Z"]
    for pid in order:
        if view.processes[pid].session in exited:
            evidence.append("{} is in the session of the exited child".format(view.name(pid)))
    details = evidence + [line for pid in order[:_MAX_LISTED] for line in [_origin(pid, writers[pid], view)]]

    forked = view.forked_by(thread)
    own = {one.pid for one in forked} if all(one.state != "Z" for one in forked) else set()
    at_work = [pid for pid in order if pid in below and _was_given(pid, writers[pid], pid in own, view)]
    if at_work:
        first = at_work[0]
        return view.make(
            "output",
            thread,
            "{} reads the output of {}, which {}".format(who, view.name(first), view.doing(first)),
            child=first,
            holders=holders,
            evidence=details,
            normal=not view.is_stuck(first),
            advice=_advice_before_exec(first, view) if view.is_stuck(first) else "",
            since=view.started(first),
        )
    if above:
        feeder = min(above, key=lambda pid: -view.processes[pid].start)
        deadlock = view.waits_for(feeder, me)
        return view.make(
            "input",
            thread,
            "{} waits for input from {} on {}{}".format(
                who,
                view.name(feeder),
                what.rstrip(","),
                "; that process waits for {} to exit: neither can continue".format(view.name(me))
                if deadlock
                else "",
            ),
            holders=holders,
            evidence=details,
            normal=not deadlock,
            advice="Close the write end before waiting for the child to exit." if deadlock else "",
        )
    if end.fd == 0 and not below:
        shell = next(_ancestors(me, view.processes), 0)
        near = [
            pid
            for pid in order
            if any(fd in (1, 2) for fd in writers[pid].writes) and shell in view.ancestors(pid)
        ]
        if near:
            return view.make(
                "input",
                thread,
                "{} reads its standard input from {}, which {}".format(
                    who, view.name(near[0]), view.doing(near[0])
                ),
                holders=holders,
                evidence=details,
                normal=not view.is_stuck(near[0]),
                advice=_advice_before_exec(near[0], view) if view.is_stuck(near[0]) else "",
            )
        return view.make(
            "input",
            thread,
            "{} waits for the end of its standard input; the write end of that pipe is still open in"
            " {}".format(who, _listed_holders(order, writers, view)),
            holders=holders,
            evidence=details,
            advice="Make the pipe close-on-exec (pipe2 with O_CLOEXEC, close_fds=True) so that no other child"
            " inherits its write end.",
            since=view.started(order[0]),
        )
    child = exited[-1] if len(exited) == 1 else None
    head = "{} reads {} that is still open in {}".format(who, what, _listed_holders(order, writers, view))
    if child is not None:
        head += "; its child {} has exited".format(view.name(child))
    elif exited:
        head += "; its children {} have exited".format(", ".join(map(view.name, exited[:_MAX_LISTED])))
    return view.make(
        "output",
        thread,
        head,
        child=child,
        holders=holders,
        evidence=["this is not an errpipe but a data {}".format(sort), *details],
        advice=_advice_on_output(me, order, writers, view),
        since=view.started(order[0]),
    )


def _advice_on_output(me: int, pids: Sequence[int], writers: Dict[int, _Copies], view: _View) -> str:
    if not all(view.processes[pid].execed for pid in pids):
        return (
            "If {} is meant to answer on this pipe (with a result, or that it is ready), nothing is wrong."
            " Otherwise make it close its copy.".format(
                view.name(next(pid for pid in pids if not view.processes[pid].execed))
            )
        )
    if all(fd > 2 for pid in pids for fd in writers[pid].writes):
        advice = (
            "Make the pipe close-on-exec (pipe2 with O_CLOEXEC, close_fds=True) so that no other child"
            " inherits it."
        )
        if any(me in view.ancestors(pid) for pid in pids):
            advice = "If {} is meant to write to this pipe, nothing is wrong. Otherwise: {}".format(
                view.name(pids[0]), advice
            )
        return advice
    return (
        "Redirect the output of programs that run on in the background (>/dev/null 2>&1), or wait with a"
        " limit: WaitDelay in Go, communicate(timeout=) and start_new_session=True with killpg in Python."
    )


def _was_given(pid: int, mine: _Copies, own: bool, view: _View) -> bool:
    """Whether a process was given a pipe on purpose: as a standard stream, or by the fork that created it.

    own: the reading thread forked it, and has no other child that could have written.  Otherwise a process
    that also has the read end may have been forked by chance while the pipe was open.
    """
    process = view.process(pid)
    if any(fd <= 2 for fd in mine.writes):
        return True
    return process is not None and not process.execed and (own or not mine.reads)


def _listed_holders(pids: Sequence[int], copies: Dict[int, _Copies], view: _View) -> str:
    listed = [
        "{}, fd {}".format(
            view.name(pid),
            ", ".join(str(fd) + _STREAMS.get(fd, "") for fd in sorted(copies[pid].writes)),
        )
        for pid in pids[:_MAX_LISTED]
    ]
    return " and in ".join(listed) + (" and others" if len(pids) > _MAX_LISTED else "")


def _origin(pid: int, mine: _Copies, view: _View) -> str:
    """The origin of a holder, as far as /proc shows it."""
    process = view.processes[pid]
    parent = (
        "its parent is {}".format(view.name(process.parent))
        if process.parent > 1
        else ("the process that started it has exited")
    )
    execed = "" if process.execed else ", has not called exec"
    started = view.started(pid)
    return "{}: fd {}, started at {}, {}{}".format(
        view.name(pid),
        _listed_fds(mine.writes),
        "an unknown time" if started is None else _clock(started),
        parent,
        execed,
    )


# A jobserver, and a pipe that a thread waits to write to


def _jobserver_wait(thread: _Thread, end: _End, writers: Dict[int, _Copies], view: _View) -> Optional[Wait]:
    me, copies = thread.pid, view.copies(end.link)
    flags = None
    for pid in [me, *writers]:
        flags = flags or _jobserver_flags(pid, end, copies.get(pid), view)
    is_make = view.comm(me).rstrip() in (b"make", b"gmake")
    if flags is None and not (is_make and me in writers and thread.call.name in _POLLS):
        return None
    others = sorted(pid for pid in writers if pid != me)
    children = [one.pid for one in view.children(me) if one.state != "Z"]
    left = me not in writers and not children and others
    who = view.thread_name(thread)
    if left:
        headline = "{} waits for the end of its jobserver's pipe (fd {}), which is still open in {}".format(
            who, end.fd, _listed_holders(others, writers, view)
        )
    else:
        running = ", ".join(map(view.name, children[:_MAX_LISTED]))
        headline = "{} waits for a token of its jobserver (fd {}){}".format(
            who, end.fd, "; its children run: " + running if running else ""
        )
    return view.make(
        "jobserver",
        thread,
        headline,
        holders=[view.holder(pid, writers[pid].writes) for pid in others],
        evidence=[
            "fd {} is {}".format(end.fd, printable(os.fsencode(end.link))),
            *(["MAKEFLAGS: {}".format(flags)] if flags else []),
            *(_origin(pid, writers[pid], view) for pid in others[:_MAX_LISTED]),
        ],
        advice="A recipe left a process running with the jobserver's fds: start it without '+', or close"
        " its fds above 2."
        if left
        else "",
        normal=not left,
        since=view.started(others[0]) if left else None,
    )


def _jobserver_flags(pid: int, end: _End, mine: Optional[_Copies], view: _View) -> Optional[str]:
    """The part of MAKEFLAGS that names a pipe as the jobserver of a process."""
    for variable in view.text("{}/environ".format(pid)).split(b"\0"):
        if not variable.startswith(b"MAKEFLAGS="):
            continue
        found = re.search(rb"--jobserver-(?:auth|fds)=(?:fifo:(\S{1,4096})|(\d{1,9}),(\d{1,9}))", variable)
        if found is None:
            continue
        fifo, reads, writes = found.groups()
        if fifo is not None:
            if os.fsencode(end.link) == fifo:
                return printable(found.group(0))
        elif mine is not None and (int(reads) in mine.reads or int(writes) in mine.writes):
            return printable(found.group(0))
    return None


def _write_wait(thread: _Thread, end: _End, view: _View) -> Optional[Wait]:
    me = thread.pid
    readers = {pid: mine for pid, mine in view.copies(end.link).items() if mine.reads}
    mine = readers.pop(me, None)
    who = view.thread_name(thread)
    evidence = ["fd {} is {}".format(end.fd, printable(os.fsencode(end.link)))]
    if not readers:
        process = view.process(me)
        if mine is None or process is None or process.threads > 1 or thread.call.name in _POLLS:
            return None
        return view.make(
            "self_held",
            thread,
            "{} writes to a full pipe (fd {}) that no other process reads; its own read end is fd {}".format(
                who, end.fd, _listed_fds(mine.reads)
            ),
            holders=[view.holder(me, mine.reads)],
            evidence=evidence,
            advice="Close the read end in the writer, so that a write fails once no process reads any more.",
        )
    order = sorted(readers, key=lambda pid: (me not in view.ancestors(pid), view.processes[pid].age))
    first = order[0]
    below = me in view.ancestors(first)
    deadlock = any(view.waits_for(pid, me) for pid in order[:_MAX_LISTED])
    stuck = view.is_stuck(first)
    return view.make(
        "input" if below else "output",
        thread,
        "{} writes to a full pipe (fd {}), which {} does not read; that process {}".format(
            who, end.fd, view.name(first), view.doing(first)
        ),
        child=first if below else None,
        holders=[view.holder(pid, readers[pid].reads) for pid in order],
        evidence=evidence
        + (
            ["the reader waits for {} to exit: neither can continue".format(view.name(me))]
            if deadlock
            else []
        ),
        advice="Read the output before waiting for the child to exit: communicate() does both."
        if deadlock
        else _advice_before_exec(first, view)
        if stuck
        else "",
        normal=not (deadlock or stuck),
        since=None,
    )


# -- text --

WHY = {
    "forked": "was forked while the pipe was open and has not called exec",
    "leaked": "kept its copy across exec: the fd was not close-on-exec",
    "late_exec": "was forked while the pipe was open and was slow to call exec",
    "own_descendant": "was forked by the child that was being started",
    "passed": "received a copy from another process",
    "unknown": "has a copy for an unknown reason",
}
"""What a holder did, by cause; the holder is the subject."""

_DO = {
    "forked": "Fork workers before any thread starts programs, or have them call exec.",
    "leaked": "Make pipes close-on-exec from the start (pipe2 with O_CLOEXEC), or use close_fds=True.",
    "late_exec": "Find what delays the holder's exec: a fork hook, or a program on a slow file system.",
    "own_descendant": "A child that forks before its exec must close inherited fds in the process that stays"
    " behind.",
    "passed": "Find the process that passes the fd on (SCM_RIGHTS, pidfd_getfd), and close it there.",
}


def wait_entries(report: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    """The text of a wait, from its JSON object, as labels and paragraphs; the headline has no label.

    A normal wait has only its headline.
    """
    headline, since = report["headline"], _since(report)
    yield "", headline[:-1] + since + "." if since and headline.endswith(".") else headline + since
    if report["normal"]:
        return
    label = "held by"
    for holder in report["holders"]:
        fds = ", ".join(map(str, holder["fds"]))
        name = (
            "{} (pid {})".format(holder["comm"], holder["pid"])
            if holder["comm"]
            else "pid {}".format(holder["pid"])
        )
        yield label, "{}{}: {}".format(name, ", fd " + fds if fds else "", holder["doing"])
        label = "also by"
    if report["advice"]:
        yield "advice", report["advice"]
    for number, line in enumerate(report["evidence"]):
        yield "" if number else "evidence", line


def _since(report: Mapping[str, Any]) -> str:
    """How long a wait has lasted at most; empty if that is not known."""
    if report["normal"] or report["since"] is None:
        return ""
    now, since = (datetime.strptime(report[key][:19], "%Y-%m-%dT%H:%M:%S") for key in ("time", "since"))
    seconds = (now - since).total_seconds()
    if seconds < 0:
        return ""
    return " (for at most {}, since {} UTC)".format(
        duration(seconds), since.strftime("%H:%M:%S" if seconds < 86400 else "%Y-%m-%d %H:%M:%S")
    )


def _stall_entries(report: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    parent, child = report["parent"], report["child"]
    yield (
        "",
        "{} (pid {}, thread {}) has been blocked{} while starting {}.".format(
            parent["comm"],
            parent["pid"],
            parent["tid"],
            "" if report["stall_seconds"] is None else " for " + duration(report["stall_seconds"]),
            "a program" if child is None else "{} (pid {})".format(child["comm"], child["pid"]),
        ),
    )
    for holder in report["holders"]:
        if holder["pid"] is None:
            yield "held by", "a process that cannot be inspected"
        else:
            fds = ", ".join(map(str, holder["fds"]))
            yield (
                "held by",
                "{} (pid {}), fd {}: {}{}".format(
                    holder["comm"],
                    holder["pid"],
                    fds,
                    WHY[holder["cause"]],
                    "; it " + _CRASHED if holder["dumping_core"] else "",
                ),
            )
    cause = report["holders"][0]["cause"]
    if cause in _DO:
        yield "advice", _DO[cause]
    for number, line in enumerate(report["evidence"]):
        yield "" if number else "evidence", line


def text(report: Mapping[str, Any], width: int = 80) -> str:
    """A stall or a wait as text for people."""
    if report["type"] == "wait":
        title, entries = "WAIT", wait_entries(report)
    else:
        title = "STALL" if report["state"] == "ended" else "STALL IN PROGRESS"
        title = "POSSIBLE " + title if report["certainty"] == "possible" else title
        entries = _stall_entries(report)
    lines = []
    for number, (label, words) in enumerate(entries):
        before, after = (title + "  ", "  ") if number == 0 else ("  {:<9}".format(label), " " * 11)
        lines += textwrap.wrap(
            words,
            width,
            initial_indent=before,
            subsequent_indent=after,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [before]
    return "\n".join(lines)


# -- command line --


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print what a process waits for, or one line on standard error; return the exit status."""
    parser = argparse.ArgumentParser(prog="snapshot.py", description="Reports what a process waits for.")
    parser.add_argument("pid", type=int, metavar="PID", help="the process; its descendants are included")
    parser.add_argument("--interval", type=float, metavar="SECONDS", help="repeat the look at this interval")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="repeat the look for this time")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line, not text")
    options = parser.parse_args(argv)
    for value in (options.interval, options.duration):
        if value is not None and not 0 < value < float("inf"):
            parser.error("SECONDS must be greater than 0")
    wrong = why_not(options.pid)
    if wrong is not None:
        print("snapshot.py: " + wrong, file=sys.stderr)
        return 2
    sampler = Sampler(options.pid)
    interval = options.interval or (options.duration and 0.1)
    ends = None if options.duration is None else time.monotonic() + options.duration

    def show(report: Dict[str, Any]) -> None:
        print(json.dumps(report) if options.json else text(report), flush=True)

    try:
        found = look(options.pid)
        status = 0 if not found.stalls and all(wait.normal for wait in found.waits) else 1
        for each in found.stalls + found.waits:
            show(each.to_object())
        if found.nothing is not None and not options.json:
            print(found.nothing, flush=True)
        while interval is not None:
            for finding in sampler.sample(time.monotonic()):
                status = 1
                show(finding.to_object())
            if not os.path.exists("{}/{}".format(PROC, options.pid)):
                return status
            left = interval if ends is None else min(interval, ends - time.monotonic())
            if left <= 0:
                return status
            time.sleep(left)
        return status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has exited (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
