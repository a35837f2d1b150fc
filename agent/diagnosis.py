"""Decides what a spawn was, who stalled it, and why: pure functions of what the kernel side saw.

Nothing here looks at the system.  Where the evidence does not reach, the answer is ``unknown``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from agent.model import (
    Cause,
    Confirmation,
    Holder,
    Release,
    ReleasedBy,
    Spawn,
    Stall,
    Step,
    StepKind,
    stall_began,
)

__all__ = ["Judgement", "cause_of", "judge", "ongoing_stall", "spawn_steps"]

_LATE_WAKE_NS = 20_000_000
"""A read that ends this soon after a release was ended by it, even if other copies were counted then."""

_EXIT_NS = 100_000_000
"""A process that began to exit is done with closing its files after so long."""

_BLIND_STALL_NS = 1_000_000_000
"""Where the kernel's count cannot be read, a wait without a known holder is called a stall from here on;
less can be a busy machine that woke the reader late."""

_CHILD_DID: Mapping[Optional[ReleasedBy], StepKind] = {
    "close": StepKind.CHILD_CLOSED,
    "exec": StepKind.CHILD_EXECED,
    "exit": StepKind.CHILD_EXITED,
}
_HOLDER_DID: Mapping[Optional[ReleasedBy], StepKind] = {
    "close": StepKind.HOLDER_CLOSED,
    "exec": StepKind.HOLDER_EXECED,
    "exit": StepKind.HOLDER_EXITED,
}
_UNKNOWN = Holder(None, b"", (), Cause.UNKNOWN, None, None)


def cause_of(*, descendant: bool, execed: bool, expected: bool) -> Cause:
    """Why a process that inherited its copy has it, or had it until it let go.

    descendant: of the own child.  execed: it has called exec with its copy since its fork.  expected: it was
    on its way to an exec (the first, or another one that its parent waits for), or has let go by one.
    """
    if descendant:
        return Cause.OWN_DESCENDANT
    if expected:
        return Cause.LATE_EXEC
    return Cause.LEAKED if execed else Cause.FORKED


class Judgement(NamedTuple):
    """What a spawn that has ended was.

    late: nanoseconds for which its reader was kept although nobody foreign had a copy any more.
    """

    stall: Optional[Stall]
    late: int


def judge(
    spawn: Spawn,
    min_ns: int,
    counts_copies: bool,
    execed: Collection[int] = (),
    seen: Mapping[int, int] = {},
    found: Sequence[Holder] = (),
) -> Judgement:
    """The stall of a spawn that has ended, None when nobody foreign kept its reader waiting for min_ns.

    counts_copies: whether ``Spawn.held`` comes from the kernel's own count.
    execed: pids that called exec after they had let go by close.
    seen: when a look last found a process's copy open, by pid.
    found: holders that the last look found, and whose release was not seen.
    """
    began, ended = stall_began(spawn), spawn.read_ended
    if began is None or ended is None or ended - began < min_ns or _never_tried_to_exec(spawn):
        return Judgement(None, 0)
    latest = _latest_by_pid(_still_seen(release, seen, ended) for release in spawn.releases)
    if latest and latest[0].left == 0:
        # They let go before that: of more releases than are remembered, or as nobody could see.
        found = [holder for holder in found if (holder.seen or 0) > latest[0].at]
    holders = [
        _released_holder(release, ended, execed, seen)
        for release in latest
        if min(release.at, ended) > began or (spawn.held and _was_exiting(release, ended))
    ]
    until = ended
    if not holders:
        suspected = (spawn.held and counts_copies) or spawn.copy_lost or bool(found)
        if not suspected and counts_copies:
            return Judgement(None, ended - began)
        if not suspected and ended - began < _BLIND_STALL_NS:
            return Judgement(None, 0)
        holders = [*found] or [_UNKNOWN]
    elif spawn.copy_lost and holders[0].confirmation is not Confirmation.CONFIRMED:
        holders = [*([*found] or [_UNKNOWN]), *holders]  # who else had a copy is not known
    elif found or not _ended_the_wait(latest, spawn):
        holders = [*([*found] or [_UNKNOWN]), *holders]  # somebody else held on after the last release
    else:
        let_go = _let_go(latest[0], ended)
        if let_go - began < min_ns:
            return Judgement(None, ended - max(let_go, began))
        if ended - let_go > _LATE_WAKE_NS:
            until = let_go
    stall = Stall(spawn, began, until, tuple(holders), _steps(spawn, holders), ended - until)
    return Judgement(stall, ended - until)


def ongoing_stall(
    spawn: Spawn, holders: Sequence[Holder], now: int, min_ns: int, counts_copies: bool
) -> Optional[Stall]:
    """The stall of a spawn whose parent waits now, or None if it has not been stalled for min_ns.

    holders: the foreign ones that are known; a wait without any has an unknown holder, if it has one.
    """
    began = stall_began(spawn)
    if began is None or not spawn.reading or spawn.outcome is not None or now - began < min_ns:
        return None
    if _never_tried_to_exec(spawn):
        return None
    if not holders:
        held = spawn.copy_lost or (spawn.held and counts_copies)
        if not held and (counts_copies or now - began < _BLIND_STALL_NS):
            return None
        holders = [_UNKNOWN]
    return Stall(spawn, began, None, tuple(holders), _steps(spawn, holders))


def spawn_steps(spawn: Spawn) -> list[Step]:
    """The steps of the parent and the own child, in the order of time."""
    parent, tid = spawn.pid, spawn.tid
    read_ended = StepKind.PARENT_DIED if spawn.read_cut else StepKind.READ_ENDED
    known = (
        (spawn.created, parent, tid, StepKind.ERRPIPE_CREATED),
        (spawn.forked, parent, tid, StepKind.CHILD_FORKED),
        (spawn.parent_closed, parent, tid, StepKind.PARENT_CLOSED_WRITE_END),
        (spawn.read_began, parent, tid, StepKind.READ_BEGAN),
        (spawn.own_released, spawn.child, None, _CHILD_DID.get(spawn.own_released_by)),
        (spawn.read_ended, parent, tid, read_ended),
    )
    steps = [Step(at, pid, tid, what) for at, pid, tid, what in known if at is not None and what is not None]
    return sorted(steps, key=lambda step: step.at)


def _never_tried_to_exec(spawn: Spawn) -> bool:
    """More likely another use of a pipe: a daemon says that it is ready, a worker sends its result."""
    return spawn.own_released_by == "exit" and not spawn.exec_error and not spawn.child_killed


def _released_holder(
    release: Release, read_ended: int, execed: Collection[int], seen: Mapping[int, int]
) -> Holder:
    # An exec and a dup2 are seen after their closes: the reader may have returned before.
    released = min(release.at, read_ended)
    return Holder(
        pid=release.pid,
        comm=release.comm,
        fds=(release.fd,) if release.fd >= 0 else (),
        cause=cause_of(
            descendant=release.descendant,
            execed=release.execed,
            expected=release.expected
            or (not release.execed and (release.by == "exec" or release.pid in execed)),
        ),
        acquired=release.acquired,
        released=released,
        released_by=release.by,
        parent=release.parent,
        forker=release.forker,
        confirmation=Confirmation.CONFIRMED if release.pid in seen else None,
        seen=seen.get(release.pid),
        stack_id=release.stack_id,
    )


def _still_seen(release: Release, seen: Mapping[int, int], read_ended: int) -> Release:
    """An exit closes files when the process's memory is gone: a look can find them open later."""
    if release.by != "exit":
        return release
    return dataclasses.replace(release, at=max(release.at, min(seen.get(release.pid, 0), read_ended)))


def _ended_the_wait(latest: Sequence[Release], spawn: Spawn) -> bool:
    """Whether the last release that was seen can be the one that ended the wait.

    The kernel's count tells: no copies were left but those of processes that were exiting just then too.
    A parent that died in its read was released by nobody, if it was not about to be.
    """
    last = latest[0]
    read_ended = spawn.read_ended or last.at
    if not spawn.read_cut and read_ended - last.at <= _LATE_WAKE_NS:
        return True
    exiting = sum(1 for release in latest[1:] if _was_exiting(release, last.at))
    return last.left is not None and last.left <= exiting


def _was_exiting(release: Release, at: int) -> bool:
    """Whether a process that had begun to exit can still have had its files open."""
    return release.by == "exit" and release.at <= at <= release.at + _EXIT_NS


def _let_go(release: Release, read_ended: int) -> int:
    """The latest time at which the copy can have ended: an exit is seen before the process' memory is torn
    down and its files are closed (12 ms for 200 MB); an exec and a dup2 are seen after."""
    return min(release.at + (_EXIT_NS if release.by == "exit" else 0), read_ended)


def _latest_by_pid(releases: Iterable[Release]) -> list[Release]:
    """One release a process, the latest first."""
    latest: dict[int, Release] = {}
    for release in sorted(releases, key=lambda release: release.at):
        latest[release.pid] = release
    return sorted(latest.values(), key=lambda release: release.at, reverse=True)


def _steps(spawn: Spawn, holders: Iterable[Holder]) -> tuple[Step, ...]:
    steps = spawn_steps(spawn)
    for holder in holders:
        if holder.pid is None:
            continue
        if holder.acquired:
            steps.append(Step(holder.acquired, holder.pid, None, StepKind.HOLDER_FORKED))
        if holder.released is not None:
            what = _HOLDER_DID.get(holder.released_by, StepKind.HOLDER_RELEASED)
            steps.append(Step(holder.released, holder.pid, None, what))
    steps.sort(key=lambda step: (step.at, step.what is StepKind.READ_ENDED))
    return tuple(steps)
