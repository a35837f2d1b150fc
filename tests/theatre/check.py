# SPDX-License-Identifier: Apache-2.0
"""Compare what the tracer reported with the truth.

A holder must have had its copy whenever a report says so: at its release, and when a search saw it.  These
comparisons need no tolerance, because the truth brackets each event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional

from agent.model import Cause, Holder, Spawn, Stall, stall_began
from tests.theatre.play import Kind
from tests.theatre.troupe import MIN_NS, Reports, Seen
from tests.theatre.truth import Did, Interval, Part, Pipe, Truth

__all__ = ["Result", "check", "told"]

_LATE_NS = 20_000_000
"""A read that ends this soon after a release was ended by it (diagnosis.py)."""
_EXIT_NS = 100_000_000
"""How long a process may take to close its files after its exit was recorded (diagnosis.py)."""
_EXITING_NS = 20_000_000
"""How long another process that exits is taken to have its copy (diagnosis.py)."""
_SLOW_NS = 3_000_000
"""A close or an exit that takes longer can be seen as the copy of another process that is left."""
_IDLE_NS = 300_000_000
"""When nobody holds a pipe for this long, no stall of it is in progress."""
_SETTLE_NS = 100_000_000
_ANCESTORS = 4
"""MAX_ANCESTORS: from a more distant own child, the copy looks like any other."""
_WAYS = {
    "close": (Kind.CLOSE, Kind.DUP_OVER),
    "exec": (Kind.EXEC,),
    "exit": (Kind.END,),
}


@dataclass
class Result:
    """faults: by play; counts: how often each thing happened."""

    faults: dict[int, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Result) -> None:
        """Add the result of other plays."""
        self.faults.update(other.faults)
        self.counts.update(other.counts)


def check(truths: Sequence[Truth], reports: Reports) -> Result:
    """Compare all reports with the truth."""
    result = Result()
    where = {pipe.inode: (truth, pipe) for truth in truths for pipe in truth.pipes}
    stalls: dict[int, list[Seen]] = {}
    spawns: dict[int, list[Spawn]] = {}
    for seen in reports.stalls:
        if seen.stall.spawn.inode not in where:
            result.faults.setdefault(-1, []).append(f"a stall of an unknown pipe: {seen.stall}")
        stalls.setdefault(seen.stall.spawn.inode, []).append(seen)
    for spawn in reports.spawns:
        spawns.setdefault(spawn.inode, []).append(spawn)
    for truth, pipe in where.values():
        result.counts["spawns"] += 1
        one = _Check(truth, pipe, reports, result.counts)
        faults = list(one.faults(stalls.get(pipe.inode, ()), spawns.get(pipe.inode, ())))
        if faults:
            result.faults.setdefault(truth.number, []).extend(
                f"pipe {pipe.number}: {fault}" for fault in faults
            )
    result.counts["plays"] += len(truths)
    result.counts["cut"] += sum(truth.was_cut for truth in truths)
    return result


class _Check:
    """The reports about one pipe."""

    def __init__(self, truth: Truth, pipe: Pipe, reports: Reports, counts: Counter[str]) -> None:
        self._truth, self._pipe, self._reports, self._counts = truth, pipe, reports, counts
        self._own = truth.parts.get(pipe.own)
        self._foreign = truth.foreign(pipe)
        self._all_inherited = not pipe.is_passed and not any(part.took(pipe.number) for part in self._foreign)

    def faults(self, stalls: Sequence[Seen], spawns: Sequence[Spawn]) -> Iterator[str]:
        ended = [seen.stall for seen in stalls if seen.stall.ended is not None]
        if len(ended) > 1:
            yield f"reported {len(ended)} times"
        for seen in stalls:
            state = "in progress" if seen.stall.ended is None else "ended"
            self._counts[f"stalls {state}"] += 1
            for fault in self._faults_of_stall(seen):
                yield f"{fault} ({state}: {self._told(seen.stall)})"
        if self._is_plain():
            yield from self._missing(ended, spawns)

    def _is_plain(self) -> bool:
        """Whether it is an errpipe as Popen makes it: the own child has tried to exec, the read has ended."""
        own = self._own
        if own is None or self._pipe.parent_killed or self._truth.was_cut or not self._pipe.read_after:
            return False
        return any(did.kind in (Kind.EXEC, Kind.EXEC_FAIL) for did in own.did) and not own.killed

    # -- one report --

    def _faults_of_stall(self, seen: Seen) -> Iterator[str]:
        stall, pipe = seen.stall, self._pipe
        if stall.spawn.pid != pipe.parent_pid:
            yield f"the parent is {pipe.parent_pid}"
        if self._own is not None and self._is_plain() and stall.spawn.child != self._own.pid:
            yield f"the own child is {self._own.pid}"
        if stall.ended is not None and pipe.read_after and stall.ended > pipe.read_after:
            yield "ended after the read"
        if stall.began < pipe.made:
            yield "began before the pipe was made"
        for holder in stall.holders:
            if holder.pid is None:
                continue
            part = self._truth.by_pid.get(holder.pid)
            if part is None or part not in self._foreign:
                yield f"{holder.pid} never had a copy"
                continue
            yield from self._faults_of_holder(stall, holder, part)
        if stall.culprit.pid is None:
            yield from self._faults_of_unknown(seen)
        elif stall.ended is not None:
            yield from self._faults_of_blame(stall, stall.ended)

    def _faults_of_holder(self, stall: Stall, holder: Holder, part: Part) -> Iterator[str]:
        had = part.may_have(self._pipe.number)
        self._counts[f"named {holder.cause}"] += 1
        searched = None if holder.seen is None else self._reports.turn_of(holder.seen)
        if searched is not None and not _meets(had, searched):
            yield f"{part.pid} had no copy when a search saw it"
        if holder.released is not None:
            # One that exits for long is named until the reader has woken up.
            if not _meets(had, (holder.exiting or holder.released, holder.released)):
                yield f"{part.pid} had no copy when it released it"
            elif stall.ended is not None and holder.released > stall.ended:
                yield f"{part.pid} released its copy after the end"
            elif holder.released_by is not None and not self._could_release(part, holder):
                yield f"{part.pid} did not release its copy by {holder.released_by} then"
        elif holder.exiting is not None:
            if not _meets(had, (holder.exiting, holder.exiting)):
                yield f"{part.pid} had no copy when it began to exit"
        elif searched is None:
            yield f"{part.pid} is named, but neither was a release seen nor a copy"
        if holder.acquired is not None and not (
            part.born.before <= holder.acquired <= (part.born.after or part.ended)
        ):
            yield f"{part.pid} was forked at another time"
        causes = self._causes(stall, holder, part, searched)
        if holder.cause not in causes:
            yield f"{part.pid} has cause {holder.cause}, not {' or '.join(sorted(causes))}"

    def _could_release(self, part: Part, holder: Holder) -> bool:
        assert holder.released is not None and holder.released_by is not None
        began = holder.exiting or holder.released
        if holder.released_by == "exit" and part.killed is not None and began >= part.killed:
            return True
        return any(did.kind in _WAYS[holder.released_by] for did in part.at(began))

    def _faults_of_blame(self, stall: Stall, ended: int) -> Iterator[str]:
        """The first holder is blamed until the end: nearly all of that time it must have had a copy."""
        culprit = stall.culprit
        assert culprit.pid is not None
        part = self._truth.by_pid.get(culprit.pid)
        if part is None or part not in self._foreign:
            return
        last = part.may_have(self._pipe.number)[-1][1]
        if culprit.released is None:
            # Only searches see the release of a copy that was passed on.
            self._counts["blamed past its unseen release"] += last < ended
            return
        allowed = _LATE_NS + (_EXIT_NS if culprit.released_by == "exit" else 0)
        if ended > last + allowed:
            yield f"{part.pid} is blamed for {(ended - last) / 1e6:.1f} ms after its release"
        others = [must for other in self._foreign for must in other.must_have(self._pipe.number)]
        if culprit.released_by == "exit":
            # Nobody sees a copy that is made while the process exits and then closes its own.
            exit_began = culprit.exiting or culprit.released
            hidden = [must for must in others if exit_began <= must[0] <= part.ended]
            self._counts["hidden behind an exit"] += bool(hidden)
            others = [must for must in others if must not in hidden]
        if any(must[0] < ended - _LATE_NS and must[1] > last + _LATE_NS for must in others):
            yield f"{part.pid} is blamed for {(ended - last) / 1e6:.1f} ms in which another had a copy"

    def _faults_of_unknown(self, seen: Seen) -> Iterator[str]:
        self._counts["unknown"] += 1
        stall, began = seen.stall, self._reports.turns[min(seen.turn, len(self._reports.turns) - 1)][0]
        last = self._last_possible()
        if stall.ended is None and last is not None and began > last + _IDLE_NS:
            yield f"in progress although nobody has had a copy for {(began - last) / 1e6:.0f} ms"

    def _last_possible(self) -> Optional[int]:
        """When the last copy had certainly gone; None: it may be in a socket."""
        if self._pipe.is_passed:
            return None
        ends = [part.may_have(self._pipe.number)[-1][1] for part in self._foreign]
        own = self._own.may_have(self._pipe.number) if self._own is not None else []
        return max([*ends, *(last for _, last in own), self._pipe.read_before])

    # -- causes --

    def _causes(self, stall: Stall, holder: Holder, part: Part, searched: Optional[Interval]) -> set[Cause]:
        """The causes that are right for this holder."""
        pipe, truth = self._pipe, self._truth
        if stall.spawn.copy_lost:
            return set(Cause)
        inherited = part.inherited(pipe.number)
        causes = {Cause.PASSED} if self._may_be_passed(part) else set()
        if causes and any(did.kind in _WAYS["close"] for did in part.did):
            causes.add(Cause.UNKNOWN)  # for a second after a close, it may not have finished
        if searched is not None and any(_in_between(did, searched) for did in part.did):
            causes.add(Cause.UNKNOWN)
        if inherited is False:
            return causes
        ancestors = truth.ancestors(part.role)
        if pipe.own in ancestors[:_ANCESTORS]:
            return causes | {Cause.OWN_DESCENDANT}
        if pipe.own in ancestors:
            causes.add(Cause.OWN_DESCENDANT)
        if holder.released is not None:
            causes |= self._causes_at(part, (holder.released, holder.released), holder)
        elif searched is not None:
            causes |= self._causes_at(part, searched, holder)
        elif holder.exiting is not None:
            causes |= self._causes_at(part, (holder.exiting, holder.exiting), holder)
        return causes

    def _causes_at(self, part: Part, when: Interval, holder: Holder) -> set[Cause]:
        """The cause depends on what the process has done until then, and on what it does next."""
        bit = 1 << self._pipe.number
        judged = max(when[1], self._pipe.read_after or 0) + _SETTLE_NS * 3
        failed = execed = may_fail = may_exec = execs = False
        for did in part.did:
            is_over = did.after is not None and did.after < when[0]
            if did.before > when[1]:
                seen = did.before < judged
                execs |= did.kind is Kind.EXEC and seen and holder.released_by in (None, "close")
            elif did.kind is Kind.EXEC:
                keeps = did.has & bit if did.after else did.had & bit
                if is_over:
                    execed, failed = True, False
                elif not keeps and holder.released_by == "exec":
                    return {Cause.LATE_EXEC} if failed or not execed else {Cause.LEAKED}
                else:
                    may_exec = True
            elif did.kind is Kind.EXEC_FAIL:
                failed |= is_over
                may_fail |= not is_over
        causes = set()
        if failed or may_fail or may_exec or self._is_expected(part) or (execs and not execed):
            causes.add(Cause.LATE_EXEC)
        if execed or may_exec:
            causes.add(Cause.LEAKED)
        if not execed and not failed:
            causes.add(Cause.FORKED)
        return causes

    def _is_expected(self, part: Part) -> bool:
        """Whether the parent may wait for its exec, in vfork or as it is an own child of another pipe.

        So is a child of an own child that exits without an exec, as GLib forks twice.
        """
        owns = {pipe.own for pipe in self._truth.pipes} | self._truth.vforked
        return part.role in owns or self._truth.forker.get(part.role) in owns

    # -- what is not reported --

    def _missing(self, ended: Sequence[Stall], spawns: Sequence[Spawn]) -> Iterator[str]:
        if len(spawns) != 1:
            yield f"the spawn was reported {len(spawns)} times"
            return
        yield from self._wrong_times(spawns[0])
        covered = self._covered(spawns[0])
        # A release that was seen is taken for the end of the wait if the read ends soon after it.
        least = MIN_NS + (_LATE_NS if spawns[0].releases and not self._all_inherited else 0)
        if covered is None or covered[1] - covered[0] < least:
            return
        self._counts["certain stalls"] += 1
        if not ended:
            yield (
                f"no stall of {(covered[1] - covered[0]) / 1e6:.0f} ms was reported "
                f"({self._told_spawn(spawns[0])})"
            )
            return
        [stall, *_] = ended
        assert stall.ended is not None
        if stall.ended < covered[1] and not self._is_behind_exit(stall):
            yield f"ended {(covered[1] - stall.ended) / 1e6:.1f} ms too early ({self._told(stall)})"
        if self._all_inherited and not stall.spawn.copy_lost:
            yield from self._wrong_culprit(stall)

    def _is_behind_exit(self, stall: Stall) -> bool:
        """A copy that was passed on can be taken for that of a process that exits (LIMITS.md)."""
        last = max((release.at for release in stall.spawn.releases), default=0)
        exited = any(
            release.by == "exit" and release.at > last - _EXITING_NS for release in stall.spawn.releases
        )
        hidden = exited and not self._all_inherited
        self._counts["hidden behind an exit"] += hidden
        return hidden

    def _wrong_culprit(self, stall: Stall) -> Iterator[str]:
        """Every holder has inherited its copy: then the kernel side has seen every release."""
        last = {part.pid: part.may_have(self._pipe.number)[-1][1] for part in self._foreign}
        sure = max(
            (must[-1][1] for part in self._foreign if (must := part.must_have(self._pipe.number))), default=0
        )
        if stall.culprit.pid is None:
            if not any(map(_releases_slowly, self._foreign)):
                yield f"the culprit is unknown ({self._told(stall)})"
        elif last.get(stall.culprit.pid, 0) < sure:
            yield f"another process had a copy longer ({self._told(stall)})"

    def _covered(self, spawn: Spawn) -> Optional[Interval]:
        """The wait during which foreign processes certainly had copies, without a gap since it began.

        None if the kernel side need not have noticed it (LIMITS.md): at the own child's exec and the parent's
        close, no foreign process had a copy other than a reopened one.
        """
        pipe, began = self._pipe, stall_began(spawn)
        if began is None:
            return None
        released = spawn.own_released or began
        if not any(
            self._has_first_file(part)
            and any(
                first <= min(released, pipe.closed_before) and last >= began
                for first, last in part.must_have(pipe.number)
            )
            for part in self._foreign
        ):
            return None
        until = began
        for first, last in sorted(
            interval for part in self._foreign for interval in part.must_have(self._pipe.number)
        ):
            if first <= until:
                until = max(until, last)
        return began, until

    def _may_be_passed(self, part: Part) -> bool:
        """Whether it may have got a copy other than by fork, or inherited one from such a process."""
        parts = self._truth.parts
        family = [part, *(parts[role] for role in self._truth.ancestors(part.role) if role in parts)]
        return any(one.took(self._pipe.number) for one in family)

    def _has_first_file(self, part: Part) -> bool:
        """Whether its copies are certainly of the parent's open file, not of a reopened one."""
        if not self._may_be_passed(part):
            return True
        number = self._pipe.number
        return not any(
            did.kind is Kind.REOPEN and did.has >> number & 1 for one in self._foreign for did in one.did
        )

    def _wrong_times(self, spawn: Spawn) -> Iterator[str]:
        pipe, own = self._pipe, self._own
        assert own is not None
        brackets = {
            "created": (pipe.made, own.born.before),
            "forked": (own.born.before, own.born.after or own.ended),
            "parent_closed": (pipe.closed_before, pipe.closed_after),
            # Of a parent in poll, the wait is taken to begin with the close.
            "read_began": (pipe.closed_before if pipe.polls else pipe.read_before, pipe.read_after),
            "read_ended": (pipe.read_before, pipe.read_after),
        }
        for name, (first, last) in brackets.items():
            value = getattr(spawn, name)
            if value is None or not first <= value <= last:
                yield f"{name} is {self._ms(value)}, not between {self._ms(first)} and {self._ms(last)}"
        ways = [did for did in own.did if did.kind is Kind.EXEC or did.kind is Kind.END]
        first, last = ways[0].before, ways[0].after or own.ended
        # The tracepoint of an exec comes after its closes: then the end of the read is taken.
        if spawn.own_released is None or not min(first, pipe.read_before) <= spawn.own_released <= last:
            yield f"own_released is {self._ms(spawn.own_released)}, not {self._ms(first)} to {self._ms(last)}"

    # -- words --

    def _told(self, stall: Stall) -> str:
        """A report as text, in milliseconds since the beginning of the play."""
        holders = ", ".join(
            f"{self._role(holder.pid)} {holder.cause} acquired {self._ms(holder.acquired)} "
            f"released {self._ms(holder.released)} by {holder.released_by} seen {self._ms(holder.seen)}"
            for holder in stall.holders
        )
        return (
            f"began {self._ms(stall.began)}, ended {self._ms(stall.ended)}, late {stall.late / 1e6:.1f}, "
            f"holders: {holders}; {self._told_spawn(stall.spawn)}"
        )

    def _told_spawn(self, spawn: Spawn) -> str:
        return (
            f"read {self._ms(spawn.read_began)} to {self._ms(spawn.read_ended)}, own {spawn.child} "
            f"{spawn.own_released_by} {self._ms(spawn.own_released)}, held {spawn.held}, "
            f"copy_lost {spawn.copy_lost}, releases: "
            + ", ".join(f"{self._role(r.pid)} {self._ms(r.at)} {r.by} left {r.left}" for r in spawn.releases)
        )

    def _role(self, pid: Optional[int]) -> str:
        part = None if pid is None else self._truth.by_pid.get(pid)
        return f"role {part.role} (pid {pid})" if part is not None else f"pid {pid}"

    def _ms(self, time: Optional[int]) -> str:
        return "-" if time is None else f"{(time - self._truth.began) / 1e6:.1f}"


def told(truth: Truth) -> str:
    """The truth of a play as text, in milliseconds since its beginning."""

    def ms(time: Optional[int]) -> str:
        return "-" if not time else f"{(time - truth.began) / 1e6:.1f}"

    def one(did: Did) -> str:
        return f"{did.kind.name.lower()} {ms(did.before)}-{ms(did.after)} has {did.has:b}"

    lines = [
        f"  pipe {pipe.number}: own {pipe.own}, made {ms(pipe.made)}, closed {ms(pipe.closed_before)}, "
        f"read {ms(pipe.read_before)} to {ms(pipe.read_after)}"
        for pipe in truth.pipes
    ]
    lines += [
        f"  role {part.role} (pid {part.pid}): "
        + ", ".join(map(one, part.did))
        + f"; killed {ms(part.killed)}, ended {ms(part.ended)}"
        for part in truth.parts.values()
    ]
    lines += [f"  halted {ms(before)} to {ms(after)}" for before, after in truth.halts]
    return "\n".join(lines)


def _releases_slowly(part: Part) -> bool:
    """Whether one of its closes, or its exit, took so long that its copy can be taken for another's."""
    ways = (*_WAYS["close"], *_WAYS["exit"])
    durations = [(did.after or part.ended) - did.before for did in part.did if did.kind in ways]
    if part.killed is not None:
        durations.append(part.ended - part.killed)
    return max(durations, default=0) > _SLOW_NS


def _in_between(did: Did, searched: Interval) -> bool:
    """Whether a search can have seen the copy before the tracer saw the fork, or during a close."""
    return (
        did.kind in (Kind.BORN, *_WAYS["close"])
        and did.before <= searched[1]
        and (did.after is None or searched[0] <= did.after)
    )


def _meets(intervals: Sequence[Interval], other: Interval) -> bool:
    return any(first <= other[1] and other[0] <= last for first, last in intervals)
