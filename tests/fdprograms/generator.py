# SPDX-License-Identifier: Apache-2.0
"""Random valid fd programs, drawn and shrunk by hypothesis.

Hypothesis draws a list of plain choices; ``plan`` turns each one into steps that are possible at that point
of the model, or into nothing. So every list is a valid program, including those that shrinking tries.

Most choices are one step of a thread. "go_on" is the next step in the life of an errpipe. "pipes" creates
several pipes in one thread before a fork, "popen" creates a pipe and forks (several in a row are several
spawns in flight), and "worker" is a fork by another thread, whose child inherits copies. A pipe without
further steps is an idle pipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Optional

from hypothesis import strategies as st

from probes.records import MAX_NUMBERS
from tests.fdprograms.expected import LAST_FD, Kind, Model, Pipe, Process, Step, Thread

__all__ = ["Choice", "Limits", "choices", "plan"]

_Made = tuple[Kind, tuple[int, ...]]


@dataclass(frozen=True)
class Limits:
    """Bounds of a program, and what it may do.

    overflow: copies at more fds than are followed.
    ioctl: FIOCLEX and FIONCLEX.
    """

    steps: int = 40
    processes: int = 10
    threads: int = 7
    pipes: int = 16
    overflow: bool = False
    ioctl: bool = False


@dataclass(frozen=True)
class Choice:
    """One draw; the numbers select among the possibilities."""

    what: str
    who: int
    first: int
    second: int


_WEIGHTS = {
    "go_on": 36,
    "pipe": 3,
    "pipes": 2,
    "popen": 4,
    "worker": 5,
    "shuffle": 8,
    "dup": 3,
    "dup2": 4,
    "dup3": 2,
    "dupfd": 3,
    "setfd": 3,
    "close": 5,
    "close_range": 3,
    "fork": 6,
    "vfork": 3,
    "exec": 5,
    "exec_fail": 1,
    "exit": 2,
    "kill": 1,
    "thread": 5,
    "thread_exit": 1,
    "read": 2,
    "write": 1,
}
_NAMES = [name for name, weight in _WEIGHTS.items() for _ in range(weight)]
_SPOTS = (0, 1, 2, 10, 11, 64)


def choices(limits: Limits) -> st.SearchStrategy[list[Choice]]:
    """Lists of choices for ``plan``."""
    names = ["nothing", *_NAMES, *(["ioctl", "ioctl"] if limits.ioctl else [])]
    small = st.integers(0, 63)
    # A list has about twice min_size elements; "nothing" lets it shrink.
    return st.lists(
        st.builds(Choice, st.sampled_from(names), small, small, small), min_size=16, max_size=limits.steps
    )


def plan(drawn: Iterable[Choice], limits: Limits) -> list[Step]:
    """Return the program of the choices; at its end every process is killed, the youngest first."""
    model = Model()
    steps: list[Step] = []
    for choice in drawn:
        for _ in range(_times(choice)):
            step = _step(model, choice, limits)
            if step is None:
                break
            model.apply(step)
            steps.append(step)
            if choice.what == "popen":
                choice = replace(choice, what="own_fork", who=_place(model, step))
            elif choice.what == "pipes":
                choice = replace(choice, who=_place(model, step))
    for number in sorted(model.processes, reverse=True):
        step = Step(number, next(iter(model.processes[number].threads)), Kind.KILL)
        model.apply(step)
        steps.append(step)
    return steps


def _times(choice: Choice) -> int:
    """The number of steps of a choice."""
    if choice.what == "pipes":
        return 2 + choice.second % (MAX_NUMBERS + 1)
    return 2 if choice.what == "popen" else 1


def _place(model: Model, step: Step) -> int:
    """The index of a step's thread among the idle threads."""
    idle = [(process.number, thread.number) for process, thread in model.idle()]
    return idle.index((step.process, step.thread))


def _step(model: Model, choice: Choice, limits: Limits) -> Optional[Step]:
    last = len(model.processes) == 1
    if choice.what == "nothing" or (last and choice.what in ("exit", "kill")):
        return None
    if choice.what == "kill":
        process = list(model.processes.values())[choice.who % len(model.processes)]
        if _spared(model, process, choice):
            return None
        return Step(process.number, next(iter(process.threads)), Kind.KILL)
    if choice.what in ("go_on", "worker"):
        step = _go_on(model, choice, limits) if choice.what == "go_on" else _worker(model, choice, limits)
        if step is not None:
            return step
        choice = replace(choice, what="pipe" if choice.what == "go_on" else "thread")
    idle = model.idle()
    if not idle:
        return None
    process, thread = idle[choice.who % len(idle)]
    made = _Actor(model, process, thread, choice, limits).step()
    return made and Step(process.number, thread.number, made[0], made[1])


def _spared(model: Model, process: Process, choice: Choice) -> bool:
    """Whether this exit is skipped: most makers live on, because with them their spawns end."""
    makes = any(pipe.followed and pipe.maker == process.number for pipe in model.pipes)
    return makes and choice.second % 4 != 3


def _go_on(model: Model, choice: Choice, limits: Limits) -> Optional[Step]:
    """The next step in the life of an errpipe: fork, the maker's close and read, or a step of a holder."""
    followed = [pipe for pipe in model.pipes if pipe.followed]
    begun = [pipe for pipe in followed if pipe.own is not None]
    if begun and choice.who % 8:
        followed = begun
    if not followed:
        return None
    pipe = followed[choice.first % len(followed)]
    if pipe.own is None:
        return _fork_for(model, pipe, choice, limits)
    ways = [_maker_goes_on, _holder_goes_on]
    for way in ways if choice.who % 3 else reversed(ways):
        step = way(model, pipe, choice, limits)
        if step is not None:
            return step
    return None


def _fork_for(model: Model, pipe: Pipe, choice: Choice, limits: Limits) -> Optional[Step]:
    maker = model.processes.get(pipe.maker)
    if maker is None or maker.in_vfork or model.next_process >= limits.processes:
        return None
    spawner = maker.threads.get(pipe.spawner)
    if spawner is None or not spawner.idle:
        return None
    vfork = choice.second % 8 == 7
    return Step(maker.number, spawner.number, Kind.VFORK if vfork else Kind.FORK)


def _maker_goes_on(model: Model, pipe: Pipe, choice: Choice, limits: Limits) -> Optional[Step]:
    maker = model.processes.get(pipe.maker)
    idle = [thread.number for thread in maker.threads.values() if thread.idle] if maker else []
    if maker is None or not idle:
        return None
    actor = pipe.spawner if pipe.spawner in idle else idle[0]
    if copies := maker.table.copies(pipe.number):
        return Step(maker.number, actor, Kind.CLOSE, (copies[0],))
    has_read_end = pipe.read_fd in maker.table.fds and maker.table.fds[pipe.read_fd].pipe == pipe.number
    if pipe.ended or not has_read_end or any(True for _ in model.readers(pipe.number)):
        return None
    return Step(maker.number, actor, Kind.READ, (pipe.read_fd,))


def _holder_goes_on(model: Model, pipe: Pipe, choice: Choice, limits: Limits) -> Optional[Step]:
    """A step of the own child while it has a copy, then of another holder."""
    holders = [
        process
        for process in model.processes.values()
        if process.number != pipe.maker and process.table.copies(pipe.number)
    ]
    own = [process for process in holders if process.number == pipe.own]
    if not holders:
        return None
    process = own[0] if own else holders[choice.second // 16 % len(holders)]
    idle = [thread.number for thread in process.threads.values() if thread.idle]
    if not idle:
        return None
    actor = idle[choice.who % len(idle)]
    way = choice.second % 16
    if way == 11 and not process.in_vfork and model.next_process < limits.processes:
        return Step(process.number, actor, Kind.FORK)
    if way == 12:
        return Step(process.number, actor, Kind.EXEC_FAIL)
    if way == 13 or (way > 8 and not own):
        return Step(process.number, actor, Kind.CLOSE, (process.table.copies(pipe.number)[0],))
    if way not in (14, 15):
        return Step(process.number, actor, Kind.EXEC)
    if len(model.processes) == 1 or _spared(model, process, choice):
        return None
    return Step(process.number, actor, Kind.EXIT if way == 14 else Kind.KILL)


def _worker(model: Model, choice: Choice, limits: Limits) -> Optional[Step]:
    """A fork that copies a write end, by a thread that has not created the pipe."""
    forkers = [
        (process, thread)
        for process, thread in model.idle()
        if not process.in_vfork
        and any(
            pipe.followed
            and process.table.copies(pipe.number)
            and (pipe.maker, pipe.spawner) != (process.number, thread.number)
            for pipe in model.pipes
        )
    ]
    if not forkers or model.next_process >= limits.processes:
        return None
    process, thread = forkers[choice.who % len(forkers)]
    vfork = choice.second % 4 > 1
    return Step(process.number, thread.number, Kind.VFORK if vfork else Kind.FORK)


class _Actor:
    """The thread that takes the next step."""

    def __init__(
        self, model: Model, process: Process, thread: Thread, choice: Choice, limits: Limits
    ) -> None:
        self._model = model
        self._process = process
        self._caller = thread
        self._choice = choice
        self._limits = limits
        self._table = process.table

    def step(self) -> Optional[_Made]:
        """Return kind and arguments of the choice's step; None if it is not possible now."""
        what = self._choice.what
        if what in ("fork", "own_fork", "vfork", "thread", "thread_exit") and self._process.in_vfork:
            return None
        maker: Callable[[], Optional[_Made]] = getattr(self, f"_{what}")
        return maker()

    # -- possibilities --

    def _pick(self, items: Iterable[int], number: int) -> Optional[int]:
        found = list(items)
        return found[number % len(found)] if found else None

    def _write_ends(self) -> list[int]:
        return [fd for fd, end in sorted(self._table.fds.items()) if end.pipe >= 0 and end.write]

    def _pipe_ends(self) -> list[int]:
        """Fds of pipes, write ends three times, to be chosen more often."""
        ends = [fd for fd, end in sorted(self._table.fds.items()) if end.pipe >= 0]
        return self._write_ends() * 2 + ends

    def _may_copy(self, fd: int, new: int) -> bool:
        end = self._table.fds[fd]
        if self._limits.overflow or not end.write or end.pipe < 0:
            return True
        return self._pipe_of(end.pipe).may_copy_to(new)

    def _pipe_of(self, number: int) -> Pipe:
        return self._model.pipes[number]

    # -- one method per kind of choice --

    def _pipe(self) -> Optional[_Made]:
        waits = any(self._pipe_of(made).waits for made in self._caller.pending)
        if waits and self._choice.second % 4 < 2:
            return None
        return self._pipes()

    def _pipes(self) -> Optional[_Made]:
        if len(self._model.pipes) >= self._limits.pipes:
            return None
        if self._choice.first % 4 == 3:
            return Kind.PIPE, ()
        return Kind.PIPE2, (int(self._choice.first % 4 != 2),)

    def _popen(self) -> Optional[_Made]:
        return self._pipes()

    def _own_fork(self) -> Optional[_Made]:
        return self._vfork() if self._choice.second % 8 == 7 else self._fork()

    def _shuffle(self) -> Optional[_Made]:
        """Create or close a copy of a write end, but never close the last one."""
        fd = self._pick(self._write_ends(), self._choice.first)
        if fd is None:
            return None
        copies = self._table.copies(self._table.fds[fd].pipe)
        free = [
            number
            for number in sorted({4, *_SPOTS[3:], *self._pipe_of(self._table.fds[fd].pipe).numbers})
            if number not in self._table.fds and self._may_copy(fd, number)
        ]
        if len(copies) == MAX_NUMBERS or (len(copies) > 1 and self._choice.second % 2) or not free:
            return (Kind.CLOSE, (fd,)) if len(copies) > 1 else None
        new = free[self._choice.second // 2 % len(free)]
        return Kind.DUP3, (fd, new, self._choice.second // 16 % 2)

    def _dup(self) -> Optional[_Made]:
        fd = self._pick(self._pipe_ends(), self._choice.first)
        possible = fd is not None and self._may_copy(fd, self._table.free())
        return (Kind.DUP, (fd,)) if fd is not None and possible else None

    def _dup_over(self, kind: Kind) -> Optional[_Made]:
        fd = self._pick(self._pipe_ends(), self._choice.first)
        new = self._pick([*self._pipe_ends(), *_SPOTS], self._choice.second)
        if fd is None or new is None or fd == new or not self._may_copy(fd, new):
            return None
        return (kind, (fd, new)) if kind is Kind.DUP2 else (kind, (fd, new, self._choice.second % 2))

    def _dup2(self) -> Optional[_Made]:
        return self._dup_over(Kind.DUP2)

    def _dup3(self) -> Optional[_Made]:
        return self._dup_over(Kind.DUP3)

    def _dupfd(self) -> Optional[_Made]:
        fd = self._pick(self._pipe_ends(), self._choice.first)
        least = _SPOTS[self._choice.second % len(_SPOTS)]
        if fd is None or not self._may_copy(fd, self._table.free(least)):
            return None
        return Kind.DUPFD, (fd, least, self._choice.second // 8 % 2)

    def _set_cloexec(self, kind: Kind) -> Optional[_Made]:
        fd = self._pick(self._pipe_ends(), self._choice.first)
        return None if fd is None else (kind, (fd, self._choice.second % 2))

    def _setfd(self) -> Optional[_Made]:
        return self._set_cloexec(Kind.SETFD)

    def _ioctl(self) -> Optional[_Made]:
        return self._set_cloexec(Kind.IOCTL)

    def _close(self) -> Optional[_Made]:
        fd = self._pick(
            [*self._pipe_ends(), *(fd for fd in range(3) if fd in self._table.fds)], self._choice.first
        )
        return None if fd is None else (Kind.CLOSE, (fd,))

    def _close_range(self) -> Optional[_Made]:
        ends = sorted({3, *self._pipe_ends()})
        first = ends[self._choice.first % len(ends)]
        lasts = [first, LAST_FD, first + 1, *(fd for fd in ends if fd > first)]
        return Kind.CLOSE_RANGE, (
            first,
            lasts[self._choice.second % len(lasts)],
            self._choice.second // 16 % 2,
        )

    def _fork(self) -> Optional[_Made]:
        room = self._model.next_process < self._limits.processes and not self._process.in_vfork
        return (Kind.FORK, ()) if room else None

    def _vfork(self) -> Optional[_Made]:
        return (Kind.VFORK, ()) if self._fork() else None

    def _exec(self) -> Optional[_Made]:
        return None if _spared(self._model, self._process, self._choice) else (Kind.EXEC, ())

    def _exec_fail(self) -> Optional[_Made]:
        return Kind.EXEC_FAIL, ()

    def _exit(self) -> Optional[_Made]:
        return None if _spared(self._model, self._process, self._choice) else (Kind.EXIT, ())

    def _thread(self) -> Optional[_Made]:
        return (Kind.THREAD, ()) if self._process.next_thread < self._limits.threads else None

    def _thread_exit(self) -> Optional[_Made]:
        return (Kind.THREAD_EXIT, ()) if len(self._process.threads) > 1 else None

    def _read_of(self, fd: int) -> Optional[_Made]:
        end = self._table.fds[fd]
        busy = any(True for _ in self._model.readers(end.pipe))
        return None if busy or end.pipe < 0 or end.write else (Kind.READ, (fd,))

    def _read(self) -> Optional[_Made]:
        reads = [fd for fd, end in sorted(self._table.fds.items()) if end.pipe >= 0 and not end.write]
        fd = self._pick(reads, self._choice.first)
        return None if fd is None else self._read_of(fd)

    def _write(self) -> Optional[_Made]:
        fd = self._pick(self._write_ends(), self._choice.first)
        if fd is None:
            return None
        pipe = self._table.fds[fd].pipe
        ready = self._model.has_readers(pipe) and not self._model.pipes[pipe].data
        return (Kind.WRITE, (fd,)) if ready else None
