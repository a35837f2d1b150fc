"""Decides what a spawn was, who stalled it, and why: pure functions of what the kernel side saw.

Nothing here looks at the system.  Where the evidence does not reach, the answer is ``unknown``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Optional

from agent.model import (
    Cause,
    Confirmation,
    Holder,
    Release,
    Spawn,
    Stall,
    Step,
    stall_began,
)

__all__ = ["confirm", "ended_stall", "ongoing_stall", "spawn_steps"]

_LATE_WAKE_NS = 20_000_000
"""A read that ends this soon after a release was ended by it, even if other copies were counted then."""

_EXIT_NS = 100_000_000
"""A process that began to exit is done with closing its files after so long."""

_BLIND_STALL_NS = 1_000_000_000
"""Where the kernel's count cannot be read, a wait without a known holder is called a stall from here on;
less can be a busy machine that woke the reader late."""

_UNKNOWN = Holder(None, b"", (), Cause.UNKNOWN, None, None)


def ended_stall(
    spawn: Spawn,
    releases: Iterable[Release],
    execed: Collection[int],
    confirmations: Mapping[int, Confirmation],
    min_ns: int,
    counts_copies: bool,
    found: Sequence[Holder] = (),
    records_lost: bool = False,
) -> Optional[Stall]:
    """The stall of a spawn that has ended, or None when nobody foreign kept its reader waiting for min_ns.

    releases: by foreign holders of this spawn, in any order, with repetitions.
    execed: pids that execed after they had let go.
    confirmations: what /proc said of holders while the stall was going on, by pid.
    counts_copies: whether ``Spawn.held`` comes from the kernel's own count (BTF).
    found: holders that /proc showed at the last look, and of which no release is known.
    records_lost: since the spawn began; so whether a holder that closed its copy execed then is not known.
    """
    unseen = list(found) or [_UNKNOWN]
    began = stall_began(spawn)
    ended = spawn.read_ended
    if began is None or ended is None or ended - began < min_ns or _never_tried_to_exec(spawn):
        return None
    latest: list[Release] = []
    candidates: list[Release] = []  # nothing confirmed them: they are nobody's name
    for release in _latest_by_pid(releases):
        confirmed = confirmations.get(release.pid) is Confirmation.CONFIRMED
        (latest if release.sure or confirmed else candidates).append(release)
    holders = [
        _released_holder(release, ended, _cause(release, execed, records_lost), confirmations)
        for release in latest
        if min(release.at, ended) > began or (spawn.held and _was_exiting(release, ended))
    ]
    if not holders:
        held = spawn.held or spawn.copy_lost or found
        doubtful = ended - began >= _BLIND_STALL_NS or any(each.at > began for each in candidates)
        if not held and (counts_copies or not doubtful):
            return None
        holders = unseen
    elif not _ended_the_read(latest, spawn):
        holders = unseen + holders  # somebody else held on after the last release that was seen
    elif spawn.copy_lost and holders[0].confirmation is not Confirmation.CONFIRMED:
        holders = unseen + holders  # who else had a copy is not known
    elif _let_go(latest[0], ended) - began < min_ns:
        return None  # they let go in time; the machine was slow to wake the reader
    return Stall(spawn, began, ended, tuple(holders), _steps(spawn, holders))


def ongoing_stall(
    spawn: Spawn, holders: Sequence[Holder], now: int, min_ns: int, counts_copies: bool
) -> Optional[Stall]:
    """The stall of a spawn whose reader is blocked now, or None when it is no stall of at least min_ns.

    holders: the foreign ones that are known; a wait without any has an unknown holder, if it has one.
    """
    began = stall_began(spawn)
    if began is None or not spawn.reading or spawn.read_ended is not None or now - began < min_ns:
        return None
    if _never_tried_to_exec(spawn):
        return None
    if not holders:
        held = spawn.held or spawn.copy_lost
        if not held and (counts_copies or now - began < _BLIND_STALL_NS):
            return None
        holders = [_UNKNOWN]
    return Stall(spawn, began, None, tuple(holders), _steps(spawn, holders))


def confirm(holder: Holder, confirmation: Optional[Confirmation]) -> Holder:
    """The holder with what /proc said of it; a mismatch makes the cause unknown."""
    if confirmation is Confirmation.MISMATCH:
        return dataclasses.replace(holder, cause=Cause.UNKNOWN, confirmation=confirmation)
    return dataclasses.replace(holder, confirmation=confirmation)


def spawn_steps(spawn: Spawn) -> list[Step]:
    """The steps of the parent and the own child, in the order of time."""
    child_did = {"close": "child_closed", "exec": "child_execed", "exit": "child_exited"}
    known = (
        (spawn.created, spawn.pid, spawn.tid, "errpipe_created"),
        (spawn.forked, spawn.pid, spawn.tid, "child_forked"),
        (spawn.parent_closed, spawn.pid, spawn.tid, "parent_closed_write_end"),
        (spawn.read_began, spawn.pid, spawn.tid, "read_began"),
        (spawn.own_released, spawn.child, None, child_did.get(spawn.own_released_by or "", "")),
        (spawn.read_ended, spawn.pid, spawn.tid, "parent_died" if spawn.read_cut else "read_ended"),
    )
    steps = [Step(at, pid, tid, what) for at, pid, tid, what in known if at is not None]
    return sorted(steps, key=lambda step: step.at)


def _never_tried_to_exec(spawn: Spawn) -> bool:
    """More likely another use of a pipe: a daemon says that it is ready, a worker sends its result."""
    return spawn.own_released_by == "exit" and not spawn.exec_error and not spawn.child_killed


def _released_holder(
    release: Release,
    read_ended: int,
    cause: Cause,
    confirmations: Mapping[int, Confirmation],
) -> Holder:
    # An exec and a dup2 are seen after their closes: the reader may have returned before.
    released = min(release.at, read_ended)
    holder = Holder(
        pid=release.pid,
        comm=release.comm,
        fds=(release.fd,),
        cause=cause,
        acquired=release.acquired,
        released=released,
        released_by=release.by,
        parent=release.parent,
        forker=release.forker,
        stack_id=release.stack_id,
    )
    confirmation = confirmations.get(release.pid)
    if confirmation is not None:
        return confirm(holder, confirmation)
    return holder


def _ended_the_read(latest: Sequence[Release], spawn: Spawn) -> bool:
    """Whether the last release that was seen can be the one that ended the read.

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
    return read_ended if release.by == "exit" else min(release.at, read_ended)


def _cause(release: Release, execed: Collection[int], records_lost: bool) -> Cause:
    if release.descendant:
        return Cause.OWN_DESCENDANT
    if release.execed:
        return Cause.LEAKED
    if release.by == "exec" or release.pid in execed:
        return Cause.LATE_EXEC
    if release.by == "close" and records_lost:
        return Cause.UNKNOWN
    return Cause.FORKED


def _latest_by_pid(releases: Iterable[Release]) -> list[Release]:
    """One release a process, the latest first."""
    latest: dict[int, Release] = {}
    for release in sorted(releases, key=lambda release: release.at):
        latest[release.pid] = release
    return sorted(latest.values(), key=lambda release: release.at, reverse=True)


def _steps(spawn: Spawn, holders: Iterable[Holder]) -> tuple[Step, ...]:
    released = {"close": "holder_closed", "exec": "holder_execed", "exit": "holder_exited"}
    steps = spawn_steps(spawn)
    for holder in holders:
        if holder.pid is None:
            continue
        if holder.acquired:
            steps.append(Step(holder.acquired, holder.pid, None, "holder_forked"))
        if holder.released is not None:
            what = released.get(holder.released_by or "", "holder_released")
            steps.append(Step(holder.released, holder.pid, None, what))
    steps.sort(key=lambda step: (step.at, step.what == "read_ended"))
    return tuple(steps)
