# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the agent as plain data: spawns, releases, holders, stalls.

Times are CLOCK_MONOTONIC nanoseconds.  A comm is raw bytes from the kernel and must be escaped for display.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple, Optional

__all__ = [
    "KEEPS_COPY",
    "Cause",
    "Confirmation",
    "Container",
    "Frame",
    "Holder",
    "Identity",
    "Outcome",
    "Release",
    "ReleasedBy",
    "Spawn",
    "Stack",
    "Stall",
    "Step",
    "StepKind",
    "StuckExec",
    "stall_began",
]


class _Word(str, Enum):
    """A word of the JSON objects: formats as its value on every Python (``StrEnum`` needs 3.11)."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, format_spec: str) -> str:
        return format(str(self.value), format_spec)


class Outcome(_Word):
    """How a spawn ended."""

    OK = "ok"
    EXEC_FAILED = "exec_failed"
    ABANDONED = "abandoned"


class Cause(_Word):
    """Why a foreign holder got a copy of the write end and kept it."""

    FORKED = "forked"
    LEAKED = "leaked"
    LATE_EXEC = "late_exec"
    OWN_DESCENDANT = "own_descendant"
    PASSED = "passed"
    UNKNOWN = "unknown"


KEEPS_COPY = frozenset({Cause.FORKED, Cause.LEAKED, Cause.OWN_DESCENDANT, Cause.PASSED})
"""Causes with which nothing but chance decides how long a process keeps its copy."""


class Confirmation(_Word):
    """What the scan of the host's open files found out about a holder."""

    CONFIRMED = "confirmed"


class StepKind(_Word):
    """What happened in a step of a spawn."""

    ERRPIPE_CREATED = "errpipe_created"
    CHILD_FORKED = "child_forked"
    PARENT_CLOSED_WRITE_END = "parent_closed_write_end"
    READ_BEGAN = "read_began"
    READ_ENDED = "read_ended"
    PARENT_DIED = "parent_died"
    CHILD_CLOSED = "child_closed"
    CHILD_EXECED = "child_execed"
    CHILD_EXITED = "child_exited"
    HOLDER_FORKED = "holder_forked"
    HOLDER_CLOSED = "holder_closed"
    HOLDER_EXECED = "holder_execed"
    HOLDER_EXITED = "holder_exited"
    HOLDER_RELEASED = "holder_released"


ReleasedBy = Literal["close", "exec", "exit"]
"""How a process gave up its copy of the write end."""


@dataclass(frozen=True)
class Container:
    """A container by its full id; runtime and pod uid are None if its cgroup path does not name them.

    user: the uid in whose part of the cgroup tree it lies, as a rootless container does.  That user can
    create and name cgroups there, so the container is the user's own word.  None: root has created it.
    """

    id: str
    runtime: Optional[str]
    pod_uid: Optional[str]
    user: Optional[int] = None


@dataclass(frozen=True)
class Identity:
    """What ``/proc`` says about a process besides its comm.

    exe: of bounded length; None if we may not read it.  The process's own word, as its comm: a mount over the
    file changes the path.
    """

    exe: Optional[str]
    uid: int
    container: Optional[Container]


@dataclass(frozen=True)
class Frame:
    """One call of a stack; function and file are untrusted, line is None if unknown."""

    function: str
    file: Optional[str]
    line: Optional[int]


@dataclass(frozen=True)
class Stack:
    """The frames of a thread at one time, innermost first; by: what took them, "py-spy" or "kernel"."""

    by: str
    frames: tuple[Frame, ...]
    at: int


class Release(NamedTuple):
    """The release of a foreign holder's last copy, as the kernel side saw it.

    by: how it was released, None if unknown.
    execed: the holder had called exec since its fork.
    descendant: the holder was a descendant of the own child.
    expected: the holder was about to call exec: its parent was waiting for that, or it had tried to.
    parent, forker: the process and the thread that forked the holder.
    left: the number of foreign copies that the kernel still counted then, None if unknown.
    stack_id: the kernel side's key for the stack of the holder's fork, 0 if there is none.
    """

    at: int
    acquired: int
    pid: int
    parent: int
    forker: int
    comm: bytes
    fd: int
    by: Optional[ReleasedBy]
    execed: bool
    descendant: bool
    expected: bool
    left: Optional[int]
    stack_id: int = 0


@dataclass(frozen=True)
class Spawn:
    """One life of an errpipe, as the kernel side saw it; the time of an event that has not happened is None.

    pipe, place: the kernel side's identifier of the pipe, and the slot in which it keeps the spawn.
    held: the kernel counted a foreign copy after the own child, or the parent, had released its own.
    copy_lost: a copy exists that the kernel side cannot follow.
    read_cut: the parent died in its read.
    child_killed: a signal ended the own child before any exec.
    read_tid: the thread that reads; if is_socket, a guess, because that system call is not traced.
    elsewhere: the parent waits in poll, select or epoll, not in a blocking read.
    outcome: None while the spawn is in flight.
    releases: the last few by foreign holders since the own child's release, in order of time.
    exposures: the number of foreign processes that still had a copy when the own child had released its own,
    by cause.
    identity: of the parent, if it was looked up when the spawn ended (with exposures).
    """

    id: int
    inode: int
    pid: int
    tid: int
    comm: bytes
    child: int
    child_comm: bytes
    read_fd: int
    write_fd: int
    created: int
    forked: Optional[int]
    parent_closed: Optional[int]
    read_began: Optional[int]
    own_released: Optional[int]
    own_released_by: Optional[ReleasedBy]
    read_ended: Optional[int]
    outcome: Optional[Outcome]
    pipe: int = 0
    place: int = 0
    reading: bool = False
    held: bool = False
    copy_lost: bool = False
    read_cut: bool = False
    exec_error: int = 0
    child_killed: bool = False
    read_tid: int = 0
    is_socket: bool = False
    elsewhere: bool = False
    releases: tuple[Release, ...] = ()
    exposures: tuple[tuple[Cause, int], ...] = ()
    identity: Optional[Identity] = None


def stall_began(spawn: Spawn) -> Optional[int]:
    """The time from which only foreign holders can block the read; None if that has not come yet."""
    if spawn.own_released is None or spawn.read_began is None:
        return None
    return max(spawn.own_released, spawn.read_began)


class Holder(NamedTuple):
    """A foreign holder of a stall; pid is None for one that was not observed.

    parent, forker: the process and the thread that forked it.
    seen: when a scan of open files last found its copy, None if never.
    exiting: when it began to exit, if a scan then found it still exiting, with its copy.
    dumping: whether the last scan found that it had crashed and that the kernel was writing its core dump.
    stack_id: as in Release.
    fork_stack: of the forking thread, at the fork.
    own_stack: of the holder itself, while it held the copy and had not called exec.
    A stack is None if it was not requested or could not be captured.
    """

    pid: Optional[int]
    comm: bytes
    fds: tuple[int, ...]
    cause: Cause
    acquired: Optional[int]
    released: Optional[int]
    released_by: Optional[ReleasedBy] = None
    parent: Optional[int] = None
    forker: Optional[int] = None
    confirmation: Optional[Confirmation] = None
    seen: Optional[int] = None
    exiting: Optional[int] = None
    dumping: bool = False
    identity: Optional[Identity] = None
    stack_id: int = 0
    fork_stack: Optional[Stack] = None
    own_stack: Optional[Stack] = None


@dataclass(frozen=True)
class StuckExec:
    """A spawn whose own child has not called exec for long; wait: the JSON object of a look at ``/proc``."""

    spawn: Spawn
    wait: Mapping[str, Any]


class Step(NamedTuple):
    """One event of a spawn."""

    at: int
    pid: int
    tid: Optional[int]
    what: StepKind


@dataclass(frozen=True)
class Stall:
    """A spawn whose reader waited for foreign holders.

    ended: None while the stall is in progress.
    holders: first the one whose release ended the wait.
    late: nanoseconds from ended to the end of the read: the late wake-up of a reader that was stopped, frozen
    or starved of CPU time.
    identity: of the parent.
    thread: comm of the blocked thread, None if it was not read: a thread can have a name of its own.
    reader_stack: of the blocked thread.
    missing: for each missing stack a line that says why; None if no stacks were requested.
    """

    spawn: Spawn
    began: int
    ended: Optional[int]
    holders: tuple[Holder, ...]
    late: int = 0
    identity: Optional[Identity] = None
    thread: Optional[bytes] = None
    reader_stack: Optional[Stack] = None
    missing: Optional[tuple[str, ...]] = None

    @property
    def culprit(self) -> Holder:
        """The holder whose release ended the read or, while in progress, the first known one."""
        return self.holders[0]
