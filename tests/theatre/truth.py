# SPDX-License-Identifier: Apache-2.0
"""Who had a copy of which pipe, and when: intervals that contain the real ones, and intervals inside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tests.theatre.play import PIPES, ROLES, THREADS, Kind, Play, RawTruth

__all__ = ["Did", "Interval", "Part", "Pipe", "Truth"]

Interval = tuple[int, int]
_TAKES = (Kind.RECEIVE, Kind.REOPEN, Kind.GETFD)


@dataclass(frozen=True)
class Did:
    """An act that a process began; after: None if it did not return, because the process ended in it.

    had, has: the pipes whose copies it had before it and has after it, as bits.
    """

    kind: Kind
    before: int
    after: Optional[int]
    had: int
    has: int


class Part:
    """What one process did.

    ended: when it had certainly ended; killed: not before that, if the director killed it.
    """

    def __init__(self, role: int, raw: RawTruth) -> None:
        mine = raw.roles[role]
        self.role = role
        self.pid = int(mine.pid)
        self.ended = int(mine.ended)
        self.killed: Optional[int] = int(mine.killed) or None
        self.did: list[Did] = []
        had = 0
        for entry in mine.log[: mine.entries]:
            has = int(entry.has) if entry.after else 0
            self.did.append(Did(Kind(entry.kind), int(entry.before), int(entry.after) or None, had, has))
            had = has

    @property
    def born(self) -> Did:
        """Its fork: before it began, and when the child had looked at its fds."""
        return self.did[0]

    def may_have(self, pipe: int) -> list[Interval]:
        """When it may have had a copy: at no other time."""
        bit, found = 1 << pipe, []
        for number, did in enumerate(self.did):
            if did.after is None:
                unknown = did.kind in (*_TAKES, Kind.BORN)
                if unknown or did.had & bit:
                    found.append((did.before, self.ended))
                break
            if (did.had | did.has) & bit:
                found.append((did.before, did.after))
            if did.has & bit:
                later = self.did[number + 1].before if number + 1 < len(self.did) else self.ended
                found.append((did.after, later))
        return _joined(found)

    def must_have(self, pipe: int) -> list[Interval]:
        """When it certainly had a copy."""
        bit, found = 1 << pipe, []
        for number, did in enumerate(self.did):
            if did.after is None:
                break
            if did.had & did.has & bit:
                found.append((did.before, did.after))
            if did.has & bit:
                later = self.did[number + 1].before if number + 1 < len(self.did) else self.ended
                found.append((did.after, later))
        if self.killed is not None:
            found = [(first, min(last, self.killed)) for first, last in found if first < self.killed]
        return _joined(found)

    def inherited(self, pipe: int) -> Optional[bool]:
        """Whether it got a copy at its fork; None: it was killed before that was known."""
        return None if self.born.after is None else bool(self.born.has >> pipe & 1)

    def took(self, pipe: int) -> bool:
        """Whether it may have got a copy later."""
        return any(
            did.kind in _TAKES
            and (did.after is None or did.has & ~did.had >> pipe & 1 or did.has >> pipe & 1)
            for did in self.did
        )

    def at(self, time: int) -> list[Did]:
        """The acts in which it may have been at this time."""
        return [did for did in self.did if did.before <= time <= (did.after or self.ended)]


@dataclass(frozen=True)
class Pipe:
    """An errpipe.

    own: the role of the own child; maker: of the parent; is_passed: somebody may have sent a copy over a
    socket; polls: the parent waits in poll.

    read_after: 0 if the read did not return.
    """

    number: int
    inode: int
    made: int
    closed_before: int
    closed_after: int
    read_before: int
    read_after: int
    own: int
    is_passed: bool
    polls: bool
    maker: int
    parent_pid: int
    parent_killed: bool


class Truth:
    """One play."""

    def __init__(self, play: Play, raw: RawTruth) -> None:
        self.number = int(raw.number)
        self.was_cut = bool(raw.was_cut)
        self.began = int(raw.began)
        self.parts = {role: Part(role, raw) for role in range(THREADS, ROLES) if raw.roles[role].pid}
        self.by_pid = {part.pid: part for part in self.parts.values()}
        forks = [
            (role, act)
            for role in range(ROLES)
            for act in play.acts[role]
            if act.kind in (Kind.FORK, Kind.VFORK)
        ]
        self.forker = {int(act.a): role for role, act in forks}
        self.vforked = {int(act.a) for _, act in forks if act.kind == Kind.VFORK}
        self.halts = [(int(halt.before), int(halt.after)) for halt in raw.halts if halt.before]
        self.pipes = [
            self._pipe(play, raw, number, int(acts[place + 1].a))
            for acts in play.acts
            for place, act in enumerate(acts)
            if act.kind == Kind.PIPE and raw.pipes[number := int(act.a)].inode
        ]

    def _pipe(self, play: Play, raw: RawTruth, number: int, own: int) -> Pipe:
        mine = raw.pipes[number]
        parent = raw.roles[mine.maker]
        return Pipe(
            number=number,
            inode=int(mine.inode),
            made=int(mine.made),
            closed_before=int(mine.closed_before),
            closed_after=int(mine.closed_after),
            read_before=int(mine.read_before),
            read_after=int(mine.read_after),
            own=own,
            is_passed=any(act.kind == Kind.SEND and act.a == number for acts in play.acts for act in acts),
            polls=any(
                act.kind == Kind.READ and act.a == number and act.b for acts in play.acts for act in acts
            ),
            maker=int(mine.maker),
            parent_pid=int(parent.pid),
            parent_killed=bool(parent.killed),
        )

    def ancestors(self, role: int) -> list[int]:
        """The roles that forked it, its parent first."""
        found = []
        while role in self.forker:
            role = self.forker[role]
            found.append(role)
        return found

    def foreign(self, pipe: Pipe) -> list[Part]:
        """The processes that may have had a copy at any time, without the parent and the own child."""
        family = (pipe.own, pipe.maker)
        return [
            part for part in self.parts.values() if part.role not in family and part.may_have(pipe.number)
        ]


def _joined(intervals: list[Interval]) -> list[Interval]:
    """The intervals in order, without gaps between neighbours."""
    found: list[Interval] = []
    for first, last in intervals:
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        elif last > first:
            found.append((first, last))
    return found


assert PIPES <= 8  # bits of an entry
