# SPDX-License-Identifier: Apache-2.0
"""Random plays: the same for a seed and a number.

Acts have planned times.  On a busy machine they happen later, and some then fail (a copy is already closed);
the truth says what really happened.
"""

from __future__ import annotations

import random

from tests.theatre.play import ACTS, PARENT, PIPES, ROLES, THREADS, Act, Kind, Play, fill

__all__ = ["make_play"]

_LENGTHS_US = (80_000, 200_000, 500_000)
_SIDE_THREADS = (2, 3)
"""They fork workers.  The threads 0 and 1 make the errpipes and fork the own children."""
_MAY_BE_SLOW = (Kind.PIPE, Kind.FORK, Kind.VFORK, Kind.READ, Kind.CLOSE, Kind.EXEC, Kind.END)
_SLOW = 0.15
_POLLS = 0.3


def make_play(seed: int, number: int) -> Play:
    """Plan one play."""
    return _Plan(random.Random(f"{seed} {number}"), number).play()


class _Plan:
    def __init__(self, chance: random.Random, number: int) -> None:
        self._chance = chance
        self._number = number
        self._length = chance.choices(_LENGTHS_US, (5, 4, 1))[0]
        self._acts: list[list[Act]] = [[] for _ in range(ROLES)]
        self._director: list[Act] = []
        self._free = list(range(THREADS, ROLES))
        self._pipes = chance.choices((1, 2, 3), (6, 3, 2))[0]
        self._made = self._pipes  # with those of other processes than the parent
        self._open: list[tuple[int, int]] = []
        self._workers: list[int] = []
        self._strangers: list[int] = []

    def play(self) -> Play:
        self._cast_strangers()
        for pipe in range(self._pipes):
            self._spawn_in_parent(pipe)
        for _ in range(self._chance.choices((0, 1, 2, 3, 4), (1, 4, 4, 2, 1))[0]):
            if self._free:
                self._fork_worker(self._chance.choice(_SIDE_THREADS), self._while_open())
        for stranger in self._strangers:
            self._take(stranger)
        self._halt()
        if self._chance.random() < 0.03:
            self._director.append(Act(self._when(0.1, 1), Kind.KILL, PARENT))
        self._slow_down()
        made = Play(number=self._number, strangers=sum(1 << role for role in self._strangers))
        for role, acts in enumerate(self._acts):
            # What a process does stays in its order; that of side threads is sorted.
            fill(
                made.acts[role], sorted(acts, key=lambda act: int(act.at)) if role in _SIDE_THREADS else acts
            )
        halts = [act for act in self._director if act.kind != Kind.KILL]
        kills = [act for act in self._director if act.kind == Kind.KILL][: ACTS - 1 - len(halts)]
        fill(made.director, sorted(halts + kills, key=lambda act: int(act.at)))
        return made

    def _when(self, first: float, last: float) -> int:
        """A time within this part of the play."""
        return int(self._chance.uniform(first, last) * self._length)

    def _while_open(self) -> int:
        """A time at which the parent most likely has a write end."""
        if self._open and self._chance.random() < 0.8:
            return self._chance.randint(*self._chance.choice(self._open))
        return self._when(0, 0.3)

    def _a_fork(self, vforks: float = 0.5) -> Kind:
        return Kind.VFORK if self._chance.random() < vforks else Kind.FORK

    def _slow_down(self) -> None:
        for acts in self._acts:
            for act in acts:
                act.slow = act.kind in _MAY_BE_SLOW and self._chance.random() < _SLOW

    def _cast_strangers(self) -> None:
        for _ in range(self._chance.choices((0, 1, 2, 3), (4, 4, 2, 1))[0]):
            self._strangers.append(self._free.pop())

    def _spawn_in_parent(self, pipe: int) -> None:
        thread = self._chance.choice((0, 1))
        acts = self._acts[thread]
        at = (int(acts[-1].at) if acts else 0) + self._chance.randrange(12_000)
        self._spawn(pipe, thread, at)

    def _spawn(self, pipe: int, role: int, at: int) -> None:
        """What Popen does."""
        chance, acts = self._chance, self._acts[role]
        if len(acts) + 5 > ACTS or not self._free:
            return
        own = self._free.pop(0)
        made = at
        acts.append(Act(at, Kind.PIPE, pipe))
        at += chance.choice((0, 200, chance.randrange(8_000)))
        acts.append(Act(at, self._a_fork(), own))
        close = at + chance.choice((0, 300, chance.randrange(4_000)))
        acts += [Act(close, Kind.CLOSE, pipe), Act(close, Kind.READ, pipe, chance.random() < _POLLS)]
        if role < THREADS:
            self._open.append((made, close))
        self._be_own_child(own, pipe, at)

    def _be_own_child(self, own: int, pipe: int, at: int) -> None:
        chance, acts = self._chance, self._acts[own]
        at += chance.choice((0, chance.randrange(4_000), chance.randrange(25_000)))
        if self._free and chance.random() < 0.25:
            child = self._free.pop(0)
            acts.append(Act(at, Kind.FORK, child))
            self._live(child, at, self._workers)
        way = chance.choices(("exec", "fail", "killed", "never"), (16, 1, 1, 1))[0]
        if way == "killed":
            self._director.append(Act(at + chance.randrange(3_000), Kind.KILL, own))
            at += 30_000
        elif way == "exec":
            acts += [Act(at, Kind.EXEC_FAIL)] * chance.choices((0, 1, 2), (8, 1, 1))[0]
            acts.append(Act(at, Kind.EXEC))
            at += chance.randrange(20_000)
        elif way == "fail":
            acts += [Act(at, Kind.EXEC_FAIL), Act(at, Kind.COMPLAIN, pipe)]
        acts.append(Act(at, Kind.END))

    def _fork_worker(self, thread: int, at: int) -> None:
        if len(self._acts[thread]) == ACTS - 1:
            return
        role = self._free.pop(0)
        self._acts[thread].append(Act(at, self._a_fork(0.25), role))
        self._live(role, at, self._workers)

    def _live(self, role: int, at: int, group: list[int]) -> None:
        """A holder: some acts, then its end."""
        chance, acts = self._chance, self._acts[role]
        group.append(role)
        end = at + min(int(chance.expovariate(2 / self._length)), self._length)
        for when in sorted(
            chance.randint(at, end) for _ in range(chance.choices((0, 1, 2, 3), (4, 4, 2, 1))[0])
        ):
            pipe = chance.randrange(self._made)
            what = chance.choices(
                ("close", "dup over", "dup", "exec", "fail", "leak", "send", "fork", "spawn"),
                (4, 2, 3, 3, 2, 6, 4, 2, 4),
            )[0]
            if what == "close":
                acts.append(Act(when, Kind.CLOSE, pipe))
            elif what == "dup over":
                acts.append(Act(when, Kind.DUP_OVER, pipe))
            elif what == "dup":
                acts.append(Act(when, Kind.DUP, pipe))
            elif what == "exec":
                acts.append(Act(when, Kind.EXEC))
            elif what == "fail":
                acts.append(Act(when, Kind.EXEC_FAIL))
            elif what == "leak":
                acts += [Act(when, Kind.KEEP, pipe), Act(when, Kind.EXEC)]
            elif what == "send" and self._strangers:
                # (A process that waits for its own errpipe must not get a copy of it.)
                acts.append(Act(when, Kind.SEND, pipe % self._pipes, chance.choice(self._strangers)))
            elif what == "fork" and self._free:
                child = self._free.pop(0)
                acts.append(Act(when, Kind.FORK, child))
                self._live(child, when, group)
            elif what == "spawn" and self._made < PIPES and self._free:
                self._made += 1
                self._spawn(self._made - 1, role, when)
        acts.append(Act(end, Kind.END))
        if chance.random() < 0.2:
            self._director.append(Act(chance.randint(at, end), Kind.KILL, role))

    def _take(self, role: int) -> None:
        """A stranger takes a copy, and is then a holder as any other."""
        chance, acts = self._chance, self._acts[role]
        pipe, at = chance.randrange(self._pipes), self._when(0, 0.4)
        way = chance.choice(("reopen", "getfd", "receive"))
        if way == "receive":
            thread = chance.choice(_SIDE_THREADS)
            if chance.random() < 0.6 and len(self._acts[thread]) < ACTS - 1:
                self._acts[thread].append(Act(self._while_open(), Kind.SEND, pipe, role))
            acts.append(Act(at + chance.choice((0, self._when(0, 0.5))), Kind.RECEIVE))
        else:
            if self._workers and chance.random() < 0.5:
                other = chance.choice(self._workers)
            else:
                other = PARENT
                at = self._while_open()
            acts.append(Act(at, Kind.REOPEN if way == "reopen" else Kind.GETFD, pipe, other))
        self._live(role, int(acts[-1].at), self._workers)

    def _halt(self) -> None:
        """Stop or freeze the parent."""
        at = 0
        for _ in range(self._chance.choices((0, 1, 2), (6, 3, 1))[0]):
            at += self._when(0, 0.8)
            stop, go = self._chance.choice(((Kind.STOP, Kind.CONTINUE), (Kind.FREEZE, Kind.THAW)))
            self._director.append(Act(at, stop))
            at += 3_000 + self._when(0, 0.7)
            self._director.append(Act(at, go))
