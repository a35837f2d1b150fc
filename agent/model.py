"""What the rest of the agent speaks about: plain data, in the words of the architecture.

Times are CLOCK_MONOTONIC nanoseconds.  A comm is bytes, as the kernel has it: whoever shows it escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Optional

__all__ = [
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
    """Why a foreign holder had the write end and kept it."""

    FORKED = "forked"
    LEAKED = "leaked"
    LATE_EXEC = "late_exec"
    OWN_DESCENDANT = "own_descendant"
    PASSED = "passed"
    UNKNOWN = "unknown"


class Confirmation(_Word):
    """What a look at the open files of the host said of a holder."""

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
    """A container, by its cgroup: the full id; runtime and pod uid where the path tells them."""

    id: str
    runtime: Optional[str]
    pod_uid: Optional[str]


@dataclass(frozen=True)
class Identity:
    """What ``/proc`` says of a process beyond its comm.

    exe: bounded, and written by strangers; None: we are not allowed to see it.
    """

    exe: Optional[str]
    uid: int
    container: Optional[Container]


@dataclass(frozen=True)
class Frame:
    """One call; function and file are written by strangers. line None: not known."""

    function: str
    file: Optional[str]
    line: Optional[int]


@dataclass(frozen=True)
class Stack:
    """Where a thread was at a time, innermost first; by whom it was taken: "py-spy" or "kernel"."""

    by: str
    frames: tuple[Frame, ...]
    at: int


@dataclass(frozen=True)
class Release:
    """The end of a foreign holder's last copy, as the kernel side saw it.

    by: None if the kernel side does not know.  execed: the holder had called exec since its fork.
    descendant: of the own child.  expected: the holder was on its way to an exec (somebody waited for
    that, or it had tried).  parent, forker: the process and the thread that forked the holder.
    left: how many foreign copies the kernel still counted then, None: unknown.
    stack_id: where the kernel side keeps the stack of the holder's fork, 0: nowhere.
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
    """One life of an errpipe, as the kernel side saw it; times that have not come yet are None.

    pipe, place: what the kernel side calls the pipe, and where it keeps the spawn.
    held: the kernel counted a foreign copy when the own child had let go, or the parent.
    copy_lost: a copy exists that the kernel side cannot follow.
    read_cut: the parent died in its read.
    child_killed: a signal ended the own child before any exec.
    read_tid: the thread that reads; where is_socket, the one that is taken to: its system call is not traced.
    elsewhere: the parent waits in poll, select or epoll: a read has told it to.
    outcome is None while the spawn is in flight.
    releases: by foreign holders since the own child has let go, the latest few in the order of time.
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


def stall_began(spawn: Spawn) -> Optional[int]:
    """From when on only foreign holders can have kept the read waiting; None: not that far."""
    if spawn.own_released is None or spawn.read_began is None:
        return None
    return max(spawn.own_released, spawn.read_began)


@dataclass(frozen=True)
class Holder:
    """A foreign holder of a stall; pid None: somebody who was never seen.

    parent, forker: the process and the thread that forked it.
    seen: when a look last found its copy open, None: never.
    stack_id: as in Release. fork_stack: of the thread that forked it, then; own_stack: of its own, while it
    held and had not execed; None: not asked for, or not to be had.
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
    identity: Optional[Identity] = None
    stack_id: int = 0
    fork_stack: Optional[Stack] = None
    own_stack: Optional[Stack] = None


@dataclass(frozen=True)
class Step:
    """One thing that happened in a spawn."""

    at: int
    pid: int
    tid: Optional[int]
    what: StepKind


@dataclass(frozen=True)
class Stall:
    """A spawn whose reader waited for foreign holders; the one whose release ended the wait comes first.

    ended is None while it is going on.  late: nanoseconds from there to the end of the read, when nobody
    foreign had a copy any more: the reader was woken late (it was stopped, frozen or starved).
    identity is the parent's.
    reader_stack: of the thread that is blocked. missing: why which stacks are not here, a line each; None:
    stacks were not asked for.
    """

    spawn: Spawn
    began: int
    ended: Optional[int]
    holders: tuple[Holder, ...]
    steps: tuple[Step, ...] = field(default=())
    late: int = 0
    identity: Optional[Identity] = None
    reader_stack: Optional[Stack] = None
    missing: Optional[tuple[str, ...]] = None

    @property
    def culprit(self) -> Holder:
        """The holder whose release ended the read, or is waited for."""
        return self.holders[0]
