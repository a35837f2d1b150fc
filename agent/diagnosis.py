# SPDX-License-Identifier: Apache-2.0
"""Decides whether a spawn was stalled, by whom and why: pure functions of what the kernel side saw.

Nothing here reads the system.  If the evidence is insufficient, the answer is ``unknown``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from agent.model import (
    Cause,
    Confirmation,
    Holder,
    Outcome,
    Release,
    ReleasedBy,
    Spawn,
    Stall,
    Step,
    StepKind,
    stall_began,
)

__all__ = ["Judgement", "cause_of", "holder_of", "judge", "ongoing_stall", "spawn_steps", "stall_steps"]

_LATE_WAKE_NS = 20_000_000
"""A read that ends this soon after a release was ended by it, even if other copies were still counted."""

_EXIT_NS = 100_000_000
"""The time in which an exiting process closes its files, unless it has very much memory or a close blocks.

Looks find one that takes longer."""

_EXITING_NS = 20_000_000
"""How long an exiting process is taken to have its files open if another process can be the holder."""

_REST_SHARE = 10
"""A wait that continues after its holders exit, for more than this fraction (1/N) of the time until then, has
another holder."""

_BLIND_STALL_NS = 1_000_000_000
"""The shortest wait without a known holder that is called a stall if the kernel's count cannot be read; a
shorter one can be a late wake-up on a busy machine."""

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
    """Why a process holds, or held, the copy that it inherited.

    descendant: it is a descendant of the own child.
    execed: it has called exec since its fork and kept its copy.
    expected: it was about to call exec (its first, or another one that its parent waits for), or released its
    copy by exec.
    """
    if descendant:
        return Cause.OWN_DESCENDANT
    if expected:
        return Cause.LATE_EXEC
    return Cause.LEAKED if execed else Cause.FORKED


def holder_of(release: Release, calls_exec: bool = False) -> Holder:
    """The process that released a copy, with what the kernel side recorded of it.

    calls_exec: it called exec after it had released its copy by close.
    """
    return Holder(
        pid=release.pid,
        comm=release.comm,
        fds=(release.fd,) if release.fd >= 0 else (),
        cause=cause_of(
            descendant=release.descendant,
            execed=release.execed,
            expected=release.expected or (not release.execed and (release.by == "exec" or calls_exec)),
        ),
        acquired=release.acquired,
        released=None,
        parent=release.parent,
        forker=release.forker,
        stack_id=release.stack_id,
    )


class Judgement(NamedTuple):
    """The verdict on an ended spawn.

    late: the late wake-up: nanoseconds that the reader waited after the last foreign copy was released.
    """

    stall: Optional[Stall]
    late: int


def judge(
    spawn: Spawn,
    min_ns: int,
    counts_copies: bool,
    execed: Collection[int] = (),
    seen: Mapping[int, int] = {},
    holding: Sequence[Holder] = (),
) -> Judgement:
    """The stall of an ended spawn, None if no foreign holder blocked its reader for at least min_ns.

    counts_copies: whether ``Spawn.held`` is based on the kernel's own count.
    execed: pids that called exec after they had released their copy by close.
    seen: when a scan of open files last found a process's copy, by pid.
    holding: the holders that the last scan found.
    """
    began, ended = stall_began(spawn), spawn.read_ended
    if ended is None:
        ended = _let_go(spawn)
    if began is None or ended is None or ended - began < min_ns or _never_tried_to_exec(spawn):
        return Judgement(None, 0)
    scanned = {holder.pid: holder for holder in holding}
    releasers = {release.pid for release in spawn.releases}
    found = [holder for holder in holding if holder.pid not in releasers]
    closed = _closed_late(spawn.releases, scanned)
    latest = _latest_by_pid(_closing(release, seen, closed, ended) for release in spawn.releases)
    if latest and latest[0].left == 0:
        # They released theirs earlier: the release was dropped as too old, or could not be observed.
        found = [holder for holder in found if (holder.seen or 0) > latest[0].at]
    holders = [
        _released_holder(release, ended, execed, seen, closed, scanned)
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
        holders = [*([*found] or [_UNKNOWN]), *holders]  # others may have had a copy
    elif found or not _ended_the_wait(latest, spawn, began):
        holders = [*([*found] or [_UNKNOWN]), *holders]  # one held on after the last observed release
    else:
        released = _latest_release(latest[0], ended)
        if released - began < min_ns:
            return Judgement(None, ended - max(released, began))
        if ended - released > _LATE_WAKE_NS:
            until = released
    stall = Stall(spawn, began, until, tuple(holders), ended - until)
    return Judgement(stall, ended - until)


def ongoing_stall(
    spawn: Spawn, holders: Sequence[Holder], now: int, min_ns: int, counts_copies: bool
) -> Optional[Stall]:
    """The stall of a spawn whose parent is waiting, or None if it has not been stalled for min_ns.

    holders: the known foreign ones; without any, the stall has an unknown holder if there is evidence of one.
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
    return Stall(spawn, began, None, tuple(holders))


def spawn_steps(spawn: Spawn) -> list[Step]:
    """The steps of the parent and the own child, in order of time."""
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


def stall_steps(stall: Stall) -> list[Step]:
    """The steps of the spawn and of the holders, in order of time; none for a stall found in ``/proc``."""
    if stall_began(stall.spawn) is None:
        return []
    steps = spawn_steps(stall.spawn)
    for holder in stall.holders:
        if holder.pid is None:
            continue
        if holder.acquired:
            steps.append(Step(holder.acquired, holder.pid, None, StepKind.HOLDER_FORKED))
        if holder.released is not None:
            what = _HOLDER_DID.get(holder.released_by, StepKind.HOLDER_RELEASED)
            steps.append(Step(holder.released, holder.pid, None, what))
    return sorted(steps, key=lambda step: (step.at, step.what is StepKind.READ_ENDED))


def _never_tried_to_exec(spawn: Spawn) -> bool:
    """Whether the pipe more likely served another purpose: a daemon's readiness, a worker's result."""
    return spawn.own_released_by == "exit" and not spawn.exec_error and not spawn.child_killed


def _let_go(spawn: Spawn) -> Optional[int]:
    """When the last copy was released, if the end of the read was not seen (its map was full); else None."""
    if spawn.outcome is not Outcome.ABANDONED or not spawn.releases:
        return None
    last = max(spawn.releases, key=lambda release: release.at)
    return last.at if last.left == 0 else None


def _released_holder(
    release: Release,
    read_ended: int,
    execed: Collection[int],
    seen: Mapping[int, int],
    closed_late: Mapping[int, int],
    scanned: Mapping[Optional[int], Holder],
) -> Holder:
    # An exec and a dup2 are recorded after they closed the copy: the read may have returned already.
    released = min(release.at, read_ended)
    return holder_of(release, release.pid in execed)._replace(
        released=released,
        released_by=release.by,
        confirmation=Confirmation.CONFIRMED if release.pid in seen else None,
        seen=seen.get(release.pid),
        exiting=closed_late.get(release.pid),
        dumping=release.pid in scanned and scanned[release.pid].dumping,
    )


def _closed_late(releases: Sequence[Release], scanned: Mapping[Optional[int], Holder]) -> dict[int, int]:
    """When the processes began to exit that had not closed their copies at the last scan, by pid.

    A later release that left no copy shows that such a process closed its copy before.
    """
    return {
        release.pid: release.at
        for release in releases
        if release.by == "exit"
        and release.pid in scanned
        and scanned[release.pid].exiting
        and all(other.left for other in releases if other.at > release.at)
    }


def _closing(
    release: Release, seen: Mapping[int, int], closed_late: Collection[int], read_ended: int
) -> Release:
    """The release at the time of the close: an exit is recorded before files are closed."""
    if release.by != "exit":
        return release
    last_seen = read_ended if release.pid in closed_late else min(seen.get(release.pid, 0), read_ended)
    return release._replace(at=max(release.at, last_seen))


def _ended_the_wait(latest: Sequence[Release], spawn: Spawn, began: int) -> bool:
    """Whether the last observed release can be the one that ended the wait, which began then.

    It can if the kernel then counted no copies except those of processes that were exiting as well, and had
    counted no others before; or if the read ended right after it.  The latter proves nothing if the parent
    died in its read.  What was counted can also be a copy that was made meanwhile, so the exits must explain
    nearly all of the wait.
    """
    last = latest[0]
    read_ended = spawn.read_ended or last.at
    if not spawn.read_cut and read_ended - last.at <= _LATE_WAKE_NS:
        return True
    if not last.left:
        return last.left == 0
    if any(_unexplained(number, latest, spawn.own_released) > 0 for number in range(1, len(latest))):
        return False
    exiting = sum(_was_exiting(release, last.at) for release in latest[1:])
    return last.left <= exiting and (read_ended - last.at) * _REST_SHARE <= last.at - began


def _unexplained(number: int, latest: Sequence[Release], own_released: Optional[int]) -> int:
    """How many of the copies that a release left were not those of the other processes in the list.

    Each later release by one of them took one away, and those that had begun to exit before it may not have
    closed theirs.  The count is without the own child's copy, which its exec may have closed shortly before
    it was recorded: then it is one too low.
    """
    release = latest[number]
    later = sum(each.acquired < release.at for each in latest[:number])
    unseen = sum(_was_exiting(each, release.at) for each in latest[number + 1 :])
    own = own_released is not None and 0 < own_released - release.at <= _EXITING_NS
    return (release.left or 0) + own - later - unseen


def _was_exiting(release: Release, at: int) -> bool:
    """Whether a process that had begun to exit most likely still had its files open at this time."""
    return release.by == "exit" and release.at <= at <= release.at + _EXITING_NS


def _latest_release(release: Release, read_ended: int) -> int:
    """The latest time at which the copy can have been closed.

    An exit is recorded before the process's memory is freed, which can take milliseconds, and its files are
    closed; an exec and a dup2 are recorded afterwards.
    """
    return min(release.at + (_EXIT_NS if release.by == "exit" else 0), read_ended)


def _latest_by_pid(releases: Iterable[Release]) -> list[Release]:
    """The last release of each process, the latest first."""
    latest: dict[int, Release] = {}
    for release in sorted(releases, key=lambda release: release.at):
        latest[release.pid] = release
    return sorted(latest.values(), key=lambda release: release.at, reverse=True)
