# SPDX-License-Identifier: Apache-2.0
"""The model: what a program of fd steps does to its processes, and what the tracer has to know of it.

The model is exact: the kernel returns the lowest free fd, every step is finished before the next begins, and
only the steps touch fds below 500. So the result of each step is known in advance, and is checked when it
runs.

Which pipes the tracer must follow (``Pipe.followed``), and what it must know of them:

1. A pipe is followed from its creation on. Its maker is the process, its spawner the thread that creates it.
   A thread keeps its latest four pipes; when it creates another one, the oldest is dropped, unless it has an
   own child or a stray.
2. A child may hold each pipe whose write end it inherits a copy of. It is the own child of those that the
   forking thread has created and that have no own child. A plain fork (no vfork) also replaces an earlier own
   child, and what is known of that one (release, failed exec, heir, holders and their releases) is forgotten.
3. While a pipe has no own child: the first vfork child of another thread of the maker is its stray, until it
   closes its last copy, has one after an exec, or the spawner forks (no vfork). If another thread of the
   maker forks (no vfork), or another process than the maker has a copy after an exec, the pipe is doubtful
   until it gets an own child. When the maker closes its last copy, a stray counts if the pipe has no own
   child or if the closing thread is not the spawner. Then a doubtful pipe is dropped, unless the closing
   thread has forked the stray. Otherwise the stray becomes the own child, with its release so far: by exec,
   or by an exit after a failed exec or by a signal. If it has exited in another way, the pipe has no own
   child.
4. The latest child of the own child that gets a copy is the heir, until it releases its copy other than by
   exec. When the own child closes its last copy or exits, has called no exec (successful or not) since its
   fork, and is not killed, the heir becomes the own child. If the heir has released its copy by exec, that is
   the release.
5. Copies are found at four fds, the same ones in all processes: the one that pipe() returns, and those that
   dups return. A pipe with copies at more fds is lost: what the tracer knows of it may be wrong, and
   copy_lost is set.
6. A pipe is dropped when the maker releases the read end (the original fd) by close, dup2 over it, exec or
   exit before there is an own child, while the maker has a copy of the write end, or at the same moment;
7. when another process than the maker puts a copy on fd 0 to 2, or has one there after its exec; when a child
   of the spawner that was forked after the own child has a copy after its exec. (If the own child is an heir
   that had released its copy before, the child that it replaced counts.)
8. when the own child closes (or replaces) its last copy, or exits after a copy has survived an exec, and no
   heir takes its place, unless it is killed. (A close or an exit after a failed exec is the end of a failed
   spawn.)
9. It is dropped when the maker reads data after the own child's release by exec. Data that was in the pipe at
   that release can be the own child's, so the first read after it drops nothing.
10. It ends when a read of the read end in the maker, begun when there is an own child and the maker has no
    copy left, returns end-of-file; or when the maker releases the read end later than 6 says. When it has
    ended and the own child has released (by exec or exit), it is done: it is sent in a record, and dropped.
    (An abandoned one that was not close-on-exec at the fork is not sent.)
11. It is held if another process than the maker has a copy when the own child releases, or when the maker
    closes its last copy after that, unless it has ended. From then on it records who else releases a last
    copy, how, and how many copies are left outside the maker (one less if there is an own child that has not
    released): the latest four. An exit is recorded before that, too. When it is done and its own child has
    exited without having tried to exec, it is not held any more: the copies are no race.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Optional

from probes.records import MAX_NUMBERS, How, Outcome

__all__ = [
    "LAST_FD",
    "MAX_PENDING",
    "End",
    "Kind",
    "Model",
    "Pipe",
    "Process",
    "Release",
    "Step",
    "Table",
    "Thread",
]

LAST_FD = 499
"""The player's own fds are above."""

MAX_PENDING = 4
"""Pipes of a thread that can become the errpipe of its next fork."""

_ENOENT = 2


class Kind(Enum):
    """What a step does; comments name the arguments."""

    PIPE2 = "pipe2"  # cloexec
    PIPE = "pipe"
    DUP = "dup"  # fd
    DUP2 = "dup2"  # old, new
    DUP3 = "dup3"  # old, new, cloexec
    DUPFD = "dupfd"  # fd, least, cloexec
    SETFD = "setfd"  # fd, cloexec
    IOCTL = "ioctl"  # fd, cloexec
    CLOSE = "close"  # fd
    CLOSE_RANGE = "close_range"  # first, last, cloexec
    FORK = "fork"
    VFORK = "vfork"
    EXEC = "exec"
    EXEC_FAIL = "exec_fail"
    EXIT = "exit"
    KILL = "kill"
    THREAD = "thread"
    THREAD_EXIT = "thread_exit"
    READ = "read"  # fd
    WRITE = "write"  # fd


@dataclass(frozen=True)
class Step:
    """One step of one thread.  Processes and threads are numbered in the order of their start."""

    process: int
    thread: int
    kind: Kind
    args: tuple[int, ...] = ()

    @classmethod
    def parse(cls, line: str) -> Step:
        """Return the step from its ``str``."""
        who, kind, *args = line.split()
        process, thread = map(int, who.split("."))
        return cls(process, thread, Kind(kind), tuple(map(int, args)))

    def __str__(self) -> str:
        return " ".join([f"{self.process}.{self.thread}", self.kind.value, *map(str, self.args)])


@dataclass(frozen=True)
class End:
    """An open fd: an end of a pipe, or something else (pipe -1)."""

    pipe: int
    write: bool
    cloexec: bool

    def with_cloexec(self, cloexec: bool) -> End:
        return End(self.pipe, self.write, cloexec)


class Table:
    """A file descriptor table."""

    def __init__(self, fds: dict[int, End]) -> None:
        self.fds = fds

    def free(self, least: int = 0) -> int:
        while least in self.fds:
            least += 1
        return least

    def copies(self, pipe: int) -> list[int]:
        """Return the fds of a pipe's write end."""
        return [fd for fd, end in self.fds.items() if end.pipe == pipe and end.write]

    def write_pipes(self) -> set[int]:
        return {end.pipe for end in self.fds.values() if end.pipe >= 0 and end.write}


@dataclass
class Thread:
    """A thread.

    made: all its pipes; reads: the pipe in whose read it is blocked; noticed: the tracer follows that read;
    vforked: the child for which it waits.
    """

    number: int
    made: list[int] = field(default_factory=list)
    reads: Optional[int] = None
    noticed: bool = False
    vforked: Optional[int] = None

    @property
    def idle(self) -> bool:
        return self.reads is None and self.vforked is None

    @property
    def pending(self) -> list[int]:
        """Its pipes that can become the errpipe of its next fork."""
        return self.made[-MAX_PENDING:]


@dataclass
class Process:
    """A process.

    in_vfork: it runs in its parent's memory; forker: process and thread that forked it;
    execed, exec_failed: it has called exec with success; an exec has failed since.
    """

    number: int
    table: Table
    threads: dict[int, Thread]
    next_thread: int = 1
    in_vfork: bool = False
    forker: tuple[int, int] = (-1, -1)
    execed: bool = False
    exec_failed: bool = False


class Release(NamedTuple):
    """A process other than the maker and the own child has released its last copy."""

    process: int
    how: How
    left: int


@dataclass
class Pipe:
    """A pipe, and what the tracer has to know of it."""

    number: int
    maker: int
    spawner: int
    read_fd: int
    numbers: list[int]
    followed: bool = True
    why_dropped: str = ""
    own: Optional[int] = None
    own_cloexec: Optional[bool] = None  # its copies at the fork; None: only some
    own_how: Optional[How] = None
    stray: Optional[int] = None
    stray_forker: Optional[int] = None  # a thread of the maker
    stray_how: Optional[How] = None  # by exec, or by an exit after a failed exec or a signal
    stray_exec_failed: bool = False
    doubtful: bool = False
    heir: Optional[int] = None
    heir_execed: bool = False
    own_since: int = 0  # the child whose fork counts as the own child's
    exec_failed: bool = False
    own_killed: bool = False
    maker_closed: bool = False
    read_ended: bool = False
    ended: bool = False
    held: bool = False
    releases: list[Release] = field(default_factory=list)
    outcome: Optional[Outcome] = None
    data: bool = False
    unread: bool = False  # there was data when the own child released
    lost: bool = False

    @property
    def waits(self) -> bool:
        """Whether its spawner has not forked yet."""
        return self.followed and self.own is None

    def may_copy_to(self, fd: int) -> bool:
        """Return whether a copy at that fd can be followed."""
        return fd in self.numbers or len(self.numbers) < MAX_NUMBERS

    def learn(self, fd: int) -> None:
        """Note a copy at that fd."""
        if not self.may_copy_to(fd):
            self.lost = True
        elif fd not in self.numbers:
            self.numbers.append(fd)

    def adopt(self, child: int, cloexec: Optional[bool]) -> None:
        """Make the child the own child."""
        if self.own is not None:
            self.releases.clear()
        self.own = self.own_since = child
        self.own_cloexec = cloexec
        self.own_how = None
        self.heir = None
        self.heir_execed = False
        self.exec_failed = self.own_killed = False
        self.held = False

    def drop(self, why: str) -> None:
        if self.followed:
            self.followed = False
            self.why_dropped = why

    def finish(self) -> None:
        if not (self.followed and self.ended and self.own_how):
            return
        self.outcome = Outcome.ABANDONED
        if self.read_ended and self.own_how is How.EXEC:
            self.outcome = Outcome.OK
        elif self.read_ended and self.exec_failed:
            self.outcome = Outcome.EXEC_FAILED
        elif self.own_cloexec is False:
            self.outcome = None
        if self.own_how is How.EXIT and not self.exec_failed and not self.own_killed:
            self.held = False
        self.drop("done")


class Model:
    """All processes of one program; ``apply`` makes one step."""

    def __init__(self) -> None:
        other = End(-1, False, False)
        first = Process(0, Table({fd: other for fd in range(3)}), {0: Thread(0)})
        self.processes: dict[int, Process] = {0: first}
        self.pipes: list[Pipe] = []
        self.next_process = 1

    def idle(self) -> list[tuple[Process, Thread]]:
        """Return the threads that can take a step."""
        return [
            (process, thread)
            for process in self.processes.values()
            for thread in process.threads.values()
            if thread.idle
        ]

    def has_writers(self, pipe: int) -> bool:
        return any(pipe in process.table.write_pipes() for process in self.processes.values())

    def has_readers(self, pipe: int) -> bool:
        return any(
            end.pipe == pipe and not end.write
            for process in self.processes.values()
            for end in process.table.fds.values()
        )

    def readers(self, pipe: int) -> Iterator[tuple[Process, Thread]]:
        """Yield the threads that are blocked in a read of a pipe."""
        for process in self.processes.values():
            for thread in process.threads.values():
                if thread.reads == pipe:
                    yield process, thread

    def apply(self, step: Step) -> int:
        """Make a step; return the result of the system call (for READ, 0 also if it blocks)."""
        process = self.processes[step.process]
        thread = process.threads[step.thread]
        args = step.args
        fds = process.table.fds
        kind = step.kind
        result = 0
        if kind in (Kind.PIPE, Kind.PIPE2):
            result = self._make_pipe(process, thread, bool(args and args[0]))
        elif kind in (Kind.DUP, Kind.DUPFD):
            result = process.table.free(args[1] if kind is Kind.DUPFD else 0)
            self._put(
                process, thread, result, fds[args[0]].with_cloexec(kind is Kind.DUPFD and bool(args[2]))
            )
        elif kind in (Kind.DUP2, Kind.DUP3):
            result = args[1]
            if args[0] != args[1]:
                self._put(
                    process, thread, result, fds[args[0]].with_cloexec(kind is Kind.DUP3 and bool(args[2]))
                )
        elif kind in (Kind.SETFD, Kind.IOCTL):
            fds[args[0]] = fds[args[0]].with_cloexec(bool(args[1]))
        elif kind is Kind.CLOSE:
            self._let_go(process, thread, {args[0]}, How.CLOSE)
        elif kind is Kind.CLOSE_RANGE:
            covered = {fd for fd in fds if args[0] <= fd <= args[1]}
            if args[2]:
                fds.update({fd: fds[fd].with_cloexec(True) for fd in covered})
            else:
                self._let_go(process, thread, covered, How.CLOSE)
        elif kind in (Kind.FORK, Kind.VFORK):
            result = self._fork(process, thread, kind is Kind.VFORK)
        elif kind is Kind.EXEC:
            self._exec(process)
        elif kind is Kind.EXEC_FAIL:
            process.exec_failed = True
            result = -_ENOENT
        elif kind in (Kind.EXIT, Kind.KILL):
            self._exit(process, thread, kind is Kind.KILL)
        elif kind is Kind.THREAD:
            process.threads[process.next_thread] = Thread(process.next_thread)
            process.next_thread += 1
        elif kind is Kind.THREAD_EXIT:
            del process.threads[thread.number]
        elif kind is Kind.READ:
            result = self._read(process, thread, args[0])
        elif kind is Kind.WRITE:
            result = self._write(fds[args[0]].pipe)
        self._end_reads()
        return result

    def _make_pipe(self, process: Process, thread: Thread, cloexec: bool) -> int:
        number = len(self.pipes)
        read_fd = process.table.free()
        process.table.fds[read_fd] = End(number, False, cloexec)
        write_fd = process.table.free()
        process.table.fds[write_fd] = End(number, True, cloexec)
        self.pipes.append(Pipe(number, process.number, thread.number, read_fd, [write_fd]))
        if len(thread.made) >= MAX_PENDING:
            oldest = self.pipes[thread.made[-MAX_PENDING]]
            if oldest.own is None and oldest.stray is None:
                oldest.drop("its spawner created four others before it forked")
        thread.made.append(number)
        return read_fd | write_fd << 16

    def _put(self, process: Process, thread: Thread, fd: int, end: End) -> None:
        before = process.table.fds.get(fd)
        same = before is not None and (before.pipe, before.write) == (end.pipe, end.write)
        if end.pipe >= 0 and end.write and not same:
            pipe = self.pipes[end.pipe]
            pipe.learn(fd)
            if fd <= 2 and pipe.maker != process.number:
                pipe.drop("a standard stream of another process than its maker")
        if before is not None and not same:
            self._let_go(process, thread, {fd}, How.CLOSE)
        process.table.fds[fd] = end

    def _let_go(
        self, process: Process, thread: Thread, fds: set[int], how: How, killed: bool = False
    ) -> None:
        """Close fds of a process at the same moment."""
        table = process.table
        before = table.write_pipes()
        for fd in fds:
            del table.fds[fd]
        gone = before - table.write_pipes()
        for pipe in self.pipes:
            if not pipe.followed:
                continue
            is_maker = pipe.maker == process.number
            if is_maker and (how is not How.CLOSE or pipe.read_fd in fds):
                self._read_end_gone(pipe, how)
            elif is_maker and pipe.number in gone:
                self._maker_closed(pipe, thread)
            elif pipe.number in gone:
                self._released(pipe, process, how, killed)

    def _read_end_gone(self, pipe: Pipe, how: How) -> None:
        if pipe.ended:
            return
        if pipe.own is None or not pipe.maker_closed:
            pipe.drop("its maker released the read end too early")
            return
        if how is How.EXIT and any(thread.noticed for _, thread in self.readers(pipe.number)):
            pipe.read_ended = True
        for _, thread in self.readers(pipe.number):
            thread.noticed = False
        pipe.ended = True
        pipe.finish()

    def _released(self, pipe: Pipe, process: Process, how: How, killed: bool) -> None:
        """A process other than the maker has released its last copy."""
        if pipe.stray == process.number:
            if how is How.CLOSE:
                pipe.stray = None
            elif how is How.EXEC or process.exec_failed or killed:
                pipe.stray_how = how
                pipe.stray_exec_failed = how is not How.EXEC and process.exec_failed
        if process.number != pipe.own:
            self._foreign_released(pipe, process.number, how)
        elif how is How.EXEC:
            self._own_released(pipe, how)
        elif process.exec_failed or killed:
            pipe.exec_failed, pipe.own_killed = process.exec_failed, killed
            self._own_released(pipe, how)
        elif pipe.heir is not None and not process.execed:
            pipe.own, pipe.heir = pipe.heir, None
            if pipe.heir_execed:
                self._own_released(pipe, How.EXEC)
            else:
                pipe.own_since = pipe.own
        elif how is How.CLOSE or process.execed:
            pipe.drop("its own child released it without an exec, or kept it through one")
        else:
            self._own_released(pipe, how)

    def _maker_closed(self, pipe: Pipe, thread: Thread) -> None:
        if pipe.stray is not None and (pipe.own is None or pipe.spawner != thread.number):
            if pipe.doubtful and pipe.stray_forker != thread.number:
                pipe.drop("nothing shows for which child it was created")
                return
            pipe.adopt(pipe.stray, None)
            if pipe.stray_how:
                pipe.own_how = pipe.stray_how
                pipe.exec_failed = pipe.stray_exec_failed
                pipe.own_killed = pipe.stray_how is How.EXIT and not pipe.exec_failed
                pipe.unread = pipe.data
            elif pipe.stray not in self.processes:
                pipe.own = None
        pipe.maker_closed = True
        if pipe.own_how:
            self._ask_who_holds(pipe)

    def _own_released(self, pipe: Pipe, how: How) -> None:
        pipe.own_how = how
        pipe.unread = pipe.data
        self._ask_who_holds(pipe)
        pipe.finish()

    def _foreign_released(self, pipe: Pipe, process: int, how: How) -> None:
        if pipe.heir == process:
            if how is How.EXEC:
                pipe.heir_execed = True
            else:
                pipe.heir = None
        if pipe.held or how is How.EXIT:
            left = self._copies_of_others(pipe)
            if left and pipe.own is not None and pipe.own_how is None:
                left -= 1  # that of the own child
            pipe.releases.append(Release(process, how, left))

    def _ask_who_holds(self, pipe: Pipe) -> None:
        if not pipe.ended and self._copies_of_others(pipe):
            pipe.held = True

    def _copies_of_others(self, pipe: Pipe) -> int:
        """Count the copies outside the maker."""
        others = [process for process in self.processes.values() if process.number != pipe.maker]
        return sum(len(process.table.copies(pipe.number)) for process in others)

    def _fork(self, process: Process, thread: Thread, vfork: bool) -> int:
        number = self.next_process
        self.next_process += 1
        forker = (process.number, thread.number)
        child = Process(number, Table(dict(process.table.fds)), {0: Thread(0)}, in_vfork=vfork, forker=forker)
        self.processes[number] = child
        for pipe in self.pipes:
            copies = child.table.copies(pipe.number)
            if not pipe.followed or not copies:
                continue
            if pipe.maker == process.number:
                if pipe.spawner == thread.number and (pipe.own is None or not vfork):
                    bits = {child.table.fds[fd].cloexec for fd in copies}
                    pipe.adopt(number, bits.pop() if len(bits) == 1 else None)
                    pipe.doubtful = False
                    if not vfork:
                        pipe.stray = None
                elif pipe.own is None and not vfork:
                    pipe.doubtful = True
                elif pipe.own is None and pipe.stray is None:
                    pipe.stray, pipe.stray_forker, pipe.stray_how = number, thread.number, None
            elif pipe.own == process.number:
                pipe.heir = number
                pipe.heir_execed = False
        if vfork:
            thread.vforked = number
        return number

    def _exec(self, process: Process) -> None:
        self._leave_vfork(process)
        # Its other threads die, even in a read.
        for thread in process.threads.values():
            thread.reads = None
        process.threads = {0: Thread(0)}
        process.next_thread = 1
        gone = {fd for fd, end in process.table.fds.items() if end.cloexec}
        self._let_go(process, process.threads[0], gone, How.EXEC)
        process.execed = True
        process.exec_failed = False
        for pipe in self.pipes:
            copies = process.table.copies(pipe.number)
            if pipe.maker == process.number or not copies:
                continue
            if any(fd <= 2 for fd in copies):
                pipe.drop("a standard stream of a new program")
            elif pipe.own is None:
                pipe.doubtful = True
                if pipe.stray == process.number:
                    pipe.stray = None
            elif process.forker == (pipe.maker, pipe.spawner) and process.number > pipe.own_since:
                pipe.drop("kept through its exec by a later child of its spawner")
            elif pipe.stray == process.number != pipe.own:
                pipe.stray = None

    def _exit(self, process: Process, thread: Thread, killed: bool) -> None:
        self._leave_vfork(process)
        self._let_go(process, thread, set(process.table.fds), How.EXIT, killed)
        del self.processes[process.number]

    def _leave_vfork(self, process: Process) -> None:
        process.in_vfork = False
        for other in self.processes.values():
            for thread in other.threads.values():
                if thread.vforked == process.number:
                    thread.vforked = None

    def _read(self, process: Process, thread: Thread, fd: int) -> int:
        pipe = self.pipes[process.table.fds[fd].pipe]
        thread.noticed = bool(
            pipe.followed
            and process.number == pipe.maker
            and pipe.own is not None
            and pipe.maker_closed
            and not pipe.ended
        )
        if pipe.data:
            pipe.data = False
            self._data_read(pipe, thread)
            return 4
        thread.reads = pipe.number
        return 0

    def _write(self, number: int) -> int:
        pipe = self.pipes[number]
        for _, thread in self.readers(number):
            thread.reads = None
            self._data_read(pipe, thread)
            return 4
        pipe.data = True
        return 4

    def _data_read(self, pipe: Pipe, thread: Thread) -> None:
        if thread.noticed and pipe.own_how is How.EXEC and not pipe.unread:
            pipe.drop("data came after its own child's exec")
        elif thread.noticed:
            pipe.read_ended = True
            pipe.unread = False
        thread.noticed = False

    def _end_reads(self) -> None:
        """Return end-of-file from reads of pipes without a write end."""
        for pipe in self.pipes:
            if self.has_writers(pipe.number):
                continue
            for _, thread in list(self.readers(pipe.number)):
                thread.reads = None
                if thread.noticed:
                    thread.noticed = False
                    pipe.ended = pipe.read_ended = True
                    pipe.finish()
