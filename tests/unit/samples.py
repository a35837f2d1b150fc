# SPDX-License-Identifier: Apache-2.0
"""Sample data for tests; a test names only the values that it is about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Optional

from agent.model import Cause, Frame, Holder, Outcome, Release, Spawn, Stack, Stall

MS = 1_000_000
SECOND = 1_000 * MS

CREATED = 5 * SECOND
"""Before the test began, even on a host that has just booted: a stall in progress lasts until now."""
BEGAN = CREATED + 5 * MS
"""The time from which the reader of ``spawn()`` waits only for foreign holders."""
ENDED = BEGAN + 500 * MS
"""When the read of ``spawn()`` ends."""

PARENT, SPAWNER, CHILD, HOLDER = 1000, 1007, 1010, 1020


def spawn(**changes: Any) -> Spawn:
    """A spawn whose own child calls exec 5 ms after the errpipe's creation; its read ends 500 ms later."""
    plain = Spawn(
        id=77,
        inode=4242,
        pid=PARENT,
        tid=SPAWNER,
        comm=b"parent",
        child=CHILD,
        child_comm=b"child",
        read_fd=5,
        write_fd=6,
        created=CREATED,
        forked=CREATED + 1 * MS,
        parent_closed=CREATED + 2 * MS,
        read_began=CREATED + 3 * MS,
        own_released=BEGAN,
        own_released_by="exec",
        read_ended=ENDED,
        outcome=Outcome.OK,
    )
    return dataclasses.replace(plain, **changes)


def waiting(**changes: Any) -> Spawn:
    """The same spawn while its reader is still blocked."""
    return spawn(**{"read_ended": None, "outcome": None, "reading": True, **changes})


def release(**changes: Any) -> Release:
    """The exit of a foreign process that held the last copy until the read ended."""
    plain = Release(
        at=ENDED,
        acquired=CREATED + MS // 2,
        pid=HOLDER,
        parent=PARENT,
        forker=SPAWNER + 1,
        comm=b"worker",
        fd=6,
        by="exit",
        execed=False,
        descendant=False,
        expected=False,
        left=0,
    )
    return plain._replace(**changes)


def holder(**changes: Any) -> Holder:
    """A forked holder that still has its copy."""
    plain = Holder(
        pid=HOLDER,
        comm=b"worker",
        fds=(6,),
        cause=Cause.FORKED,
        acquired=CREATED + MS // 2,
        released=None,
        parent=PARENT,
        forker=SPAWNER + 1,
    )
    return plain._replace(**changes)


UNSEEN = Holder(None, b"", (), Cause.UNKNOWN, None, None)


def python_stack(*functions: str) -> Stack:
    """A stack as py-spy takes it while ``stall()`` is in progress."""
    frames = tuple(Frame(name, f"/srv/{name}.py", place) for place, name in enumerate(functions, 1))
    return Stack("py-spy", frames, BEGAN + MS)


def with_stacks(plain: Stall) -> Stall:
    """The stall with every kind of stack, and a line about a missing one."""
    fork = Stack("kernel", (Frame("_Fork", "/lib/libc.so.6", None), Frame("0x2a", None, None)), CREATED)
    culprit = plain.culprit._replace(fork_stack=fork, own_stack=python_stack("sleep_on"))
    return dataclasses.replace(
        plain,
        holders=(culprit, *plain.holders[1:]),
        reader_stack=python_stack("_execute_child", "main"),
        missing=("holder 9: something",),
    )


def stall(
    *holders: Holder,
    began: int = BEGAN,
    ended: Optional[int] = ENDED,
    of: Optional[Spawn] = None,
    late: int = 0,
) -> Stall:
    """A stall by these holders, or by ``holder()`` if there are none."""
    return Stall(spawn() if of is None else of, began, ended, holders or (holder(),), late=late)


class FakeProc:
    """A folder that stands in for /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(self, pid: int, parent: int = 1, comm: bytes = b"x", tgid: Optional[int] = None) -> Path:
        """Add a process, or a thread if tgid differs from pid."""
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "fdinfo").mkdir()
        (folder / "comm").write_bytes(comm + b"\n")
        (folder / "stat").write_bytes(b"%d (%s) S %d 1 1 0 -1\n" % (pid, comm, parent))
        (folder / "status").write_text(f"Name:\tx\nTgid:\t{pid if tgid is None else tgid}\nPid:\t{pid}\n")
        return folder

    def fd(self, pid: int, fd: int, target: str, flags: Optional[str] = "0100001") -> None:
        """Add an open file; flags: as in fdinfo, None for no fdinfo."""
        (self.root / str(pid) / "fd" / str(fd)).symlink_to(target)
        if flags is not None:
            text = f"pos:\t0\nflags:\t{flags}\nmnt_id:\t14\nino:\t123\n"
            (self.root / str(pid) / "fdinfo" / str(fd)).write_text(text)
