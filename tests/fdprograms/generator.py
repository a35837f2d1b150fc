"""Random valid fd programs, drawn and shrunk by hypothesis.

Hypothesis draws a list of plain choices; ``plan`` turns each into a step that is possible at that point of
the model, or into nothing. So every list is a valid program, and so is each one that shrinking tries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Optional

from hypothesis import strategies as st

from probes.records import COPIES
from tests.fdprograms.model import LAST_FD, Kind, Model, Process, Step, Thread

__all__ = ["Choice", "Limits", "choices", "plan"]

_Made = tuple[Kind, tuple[int, ...]]


@dataclass(frozen=True)
class Limits:
    """What programs may do.

    overflow: more copies in one table than are followed.
    ioctl: FIOCLEX and FIONCLEX.
    """

    steps: int = 40
    processes: int = 7
    threads: int = 3
    pipes: int = 6
    overflow: bool = False
    ioctl: bool = False


@dataclass(frozen=True)
class Choice:
    """One draw; the numbers select among what is possible."""

    what: str
    who: int
    first: int
    second: int


_WEIGHTS = {
    "go_on": 24,
    "pipe": 3,
    "shuffle": 14,
    "dup": 3,
    "dup2": 4,
    "dup3": 2,
    "dupfd": 3,
    "setfd": 3,
    "close": 6,
    "close_range": 3,
    "fork": 6,
    "vfork": 3,
    "exec": 5,
    "exec_fail": 1,
    "exit": 2,
    "kill": 1,
    "thread": 4,
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
    # A list is about twice as long as its least; it shrinks through "nothing".
    return st.lists(
        st.builds(Choice, st.sampled_from(names), small, small, small), min_size=12, max_size=limits.steps
    )


def plan(drawn: Iterable[Choice], limits: Limits) -> list[Step]:
    """The program that the choices stand for; at its end every process exits, the youngest first."""
    model = Model()
    steps: list[Step] = []
    for choice in drawn:
        step = _step(model, choice, limits)
        if step is not None:
            model.apply(step)
            steps.append(step)
    for number in sorted(model.processes, reverse=True):
        step = Step(number, next(iter(model.processes[number].threads)), Kind.KILL)
        model.apply(step)
        steps.append(step)
    return steps


def _step(model: Model, choice: Choice, limits: Limits) -> Optional[Step]:
    last = len(model.processes) == 1
    if choice.what == "nothing" or (last and choice.what in ("exit", "kill")):
        return None
    if choice.what == "kill":
        process = list(model.processes.values())[choice.who % len(model.processes)]
        if _spared(model, process, choice):
            return None
        return Step(process.number, next(iter(process.threads)), Kind.KILL)
    if choice.what == "go_on":
        step = _go_on(model, choice, limits)
        if step is not None:
            return step
        choice = replace(choice, what="pipe")
    idle = model.idle()
    if not idle:
        return None
    process, thread = idle[choice.who % len(idle)]
    made = _Actor(model, process, thread, choice, limits).step()
    return made and Step(process.number, thread.number, made[0], made[1])


def _spared(model: Model, process: Process, choice: Choice) -> bool:
    """Most makers live on: with them ends what is told of their pipes."""
    makes = any(pipe.followed and pipe.maker == process.number for pipe in model.pipes)
    return makes and choice.second % 4 != 3


def _go_on(model: Model, choice: Choice, limits: Limits) -> Optional[Step]:
    """The next step in a life of an errpipe: fork, the maker's close, its read, the own child's exec."""
    followed = [pipe for pipe in model.pipes if pipe.followed]
    if not followed:
        return None
    pipe = followed[choice.first % len(followed)]
    maker = model.processes.get(pipe.maker)
    idle = [thread.number for thread in maker.threads.values() if thread.idle] if maker else []
    if maker and pipe.own is None:
        possible = model.next_process < limits.processes and not maker.in_vfork
        if possible and pipe.spawner in idle:
            kind = Kind.VFORK if choice.second % 8 == 7 else Kind.FORK
            return Step(pipe.maker, pipe.spawner, kind)
        return None
    if maker and idle:
        actor = pipe.spawner if pipe.spawner in idle else idle[0]
        copies = maker.table.copies(pipe.number)
        if copies:
            return Step(pipe.maker, actor, Kind.CLOSE, (copies[0],))
        if not pipe.ended and not any(True for _ in model.readers(pipe.number)):
            return Step(pipe.maker, actor, Kind.READ, (pipe.read_fd,))
    own = model.processes.get(-1 if pipe.own is None else pipe.own)
    idle = [thread.number for thread in own.threads.values() if thread.idle] if own else []
    if own and idle and own.table.copies(pipe.number):
        return Step(own.number, idle[choice.second % len(idle)], Kind.EXEC)
    return None


class _Actor:
    """The thread that is to take the next step."""

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
        """The kind and arguments of what the choice stands for, None: not possible now."""
        what = self._choice.what
        if what in ("fork", "vfork", "thread", "thread_exit") and self._process.in_vfork:
            return None
        maker: Callable[[], Optional[_Made]] = getattr(self, f"_{what}")
        return maker()

    # -- what is there to choose --

    def _pick(self, items: Iterable[int], number: int) -> Optional[int]:
        found = list(items)
        return found[number % len(found)] if found else None

    def _write_ends(self) -> list[int]:
        return [fd for fd, end in sorted(self._table.fds.items()) if end.pipe >= 0 and end.write]

    def _pipe_ends(self) -> list[int]:
        """Write ends more than once: they are what it is about."""
        ends = [fd for fd, end in sorted(self._table.fds.items()) if end.pipe >= 0]
        return self._write_ends() * 2 + ends

    def _may_add(self, fd: int, replaced: int = -1) -> bool:
        end = self._table.fds[fd]
        if self._limits.overflow or not end.write:
            return True
        return len([copy for copy in self._table.copies(end.pipe) if copy != replaced]) < COPIES

    def _source(self) -> Optional[int]:
        fd = self._pick(self._pipe_ends(), self._choice.first)
        return fd if fd is not None and self._may_add(fd) else None

    # -- one method for each kind of choice --

    def _pipe(self) -> Optional[_Made]:
        made = self._caller.last_made
        waits = made is not None and self._model.pipes[made].followed and self._model.pipes[made].own is None
        if len(self._model.pipes) >= self._limits.pipes or (waits and self._choice.second % 4 != 3):
            return None
        if self._choice.first % 4 == 3:
            return Kind.PIPE, ()
        return Kind.PIPE2, (int(self._choice.first % 4 != 2),)

    def _shuffle(self) -> Optional[_Made]:
        """Copies of one write end come and go, but never the last."""
        fd = self._pick(self._write_ends(), self._choice.first)
        if fd is None:
            return None
        copies = self._table.copies(self._table.fds[fd].pipe)
        free = [number for number in (4, *_SPOTS[3:]) if number not in self._table.fds]
        if len(copies) == COPIES or (len(copies) > 1 and self._choice.second % 2) or not free:
            return (Kind.CLOSE, (fd,)) if len(copies) > 1 else None
        new = free[self._choice.second // 2 % len(free)]
        return Kind.DUP3, (fd, new, self._choice.second // 16 % 2)

    def _dup(self) -> Optional[_Made]:
        fd = self._source()
        return None if fd is None else (Kind.DUP, (fd,))

    def _dup_over(self, kind: Kind) -> Optional[_Made]:
        fd = self._pick(self._pipe_ends(), self._choice.first)
        new = self._pick([*self._pipe_ends(), *_SPOTS], self._choice.second)
        if fd is None or new is None or fd == new or not self._may_add(fd, new):
            return None
        return (kind, (fd, new)) if kind is Kind.DUP2 else (kind, (fd, new, self._choice.second % 2))

    def _dup2(self) -> Optional[_Made]:
        return self._dup_over(Kind.DUP2)

    def _dup3(self) -> Optional[_Made]:
        return self._dup_over(Kind.DUP3)

    def _dupfd(self) -> Optional[_Made]:
        fd = self._source()
        least = _SPOTS[self._choice.second % len(_SPOTS)]
        return None if fd is None else (Kind.DUPFD, (fd, least, self._choice.second // 8 % 2))

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
