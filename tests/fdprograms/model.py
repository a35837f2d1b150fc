"""What a program of fd steps does to its processes, and what the tracer has to make of it.

The model is exact: the kernel gives the lowest free fd, every step is over before the next begins, and nobody
but the steps touches an fd below 500. So each step's result is known beforehand, and is checked when it runs.

Which pipes the tracer must follow (``Pipe.followed``), and when it must have dropped one:

1. A pipe is followed from its creation.  Its maker is the process, its spawner the thread that made it.
2. Its own child is the first process that the spawner forks while that pipe is the last it made and the maker
   still has the read end that pipe() gave; the child must get a copy of the write end. All other processes
   that get one are foreign. If there is none when the maker closes its last copy, the pipe's stray is the own
   child, with all that it has done: the first process that got a copy by a vfork in another thread of the
   maker which had no pipe of its own to fork for. (If it has released, it has been told as foreign.)
3. It is dropped when the spawner makes another pipe before there is an own child;
4. when the maker lets go of the read end (the very fd) by close, dup2 over it, exec or exit before there is
   an own child, or while the maker still has a copy of the write end, or in the same moment;
5. when the own child's last copy is closed (or replaced) rather than ended by exec or exit; or ended by exit
   after a copy had survived an exec; or when it puts a copy over fd 0 to 2, or one survives an exec there.
   (A close or an exit after an exec that failed is the end of a failed spawn.)
6. It has ended when a read of that read end in the maker, begun when there was an own child and the maker had
   no copy left, returns end-of-file; or when the maker lets go of the read end later than 4 says. When it has
   ended and the own child has released (exec or exit), it is done: told in a record, and dropped.

While a pipe is followed, the open copies of its write end are known, with their close-on-exec bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from probes.records import COPIES, How, Outcome

__all__ = ["LAST_FD", "End", "Kind", "Model", "Pipe", "Process", "Step", "Table", "Thread"]

LAST_FD = 499
"""Fds above are the player's own."""

_ENOENT = 2


class Kind(Enum):
    """What a step does; its arguments are those of the system call."""

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
    """One step of one thread. Processes and threads are numbered in the order in which they begin."""

    process: int
    thread: int
    kind: Kind
    args: tuple[int, ...] = ()

    @classmethod
    def parse(cls, line: str) -> Step:
        """The step that ``str`` has written."""
        who, kind, *args = line.split()
        process, thread = map(int, who.split("."))
        return cls(process, thread, Kind(kind), tuple(map(int, args)))

    def __str__(self) -> str:
        return " ".join([f"{self.process}.{self.thread}", self.kind.value, *map(str, self.args)])


@dataclass(frozen=True)
class End:
    """What an fd is: a pipe's end, or something else (pipe -1)."""

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
        """The fds of a pipe's write end."""
        return [fd for fd, end in self.fds.items() if end.pipe == pipe and end.write]

    def write_pipes(self) -> set[int]:
        return {end.pipe for end in self.fds.values() if end.pipe >= 0 and end.write}


@dataclass
class Thread:
    """reads: the pipe in whose read it is blocked; vforked: the child for which it waits."""

    number: int
    last_made: Optional[int] = None
    reads: Optional[int] = None
    noticed: bool = False
    vforked: Optional[int] = None

    @property
    def idle(self) -> bool:
        return self.reads is None and self.vforked is None


@dataclass
class Process:
    """A process; in_vfork: it runs in its parent's memory."""

    number: int
    table: Table
    threads: dict[int, Thread]
    next_thread: int = 1
    in_vfork: bool = False


@dataclass
class Stray:
    """A process that may turn out to be a pipe's own child."""

    number: int
    cloexec: Optional[bool]
    exec_error: int = 0
    execed: bool = False
    how: Optional[How] = None


@dataclass
class Pipe:
    """A pipe, and the tracer's due knowledge of it."""

    number: int
    maker: int
    spawner: int
    read_fd: int
    write_fd: int
    followed: bool = True
    why_dropped: str = ""
    own: Optional[int] = None
    own_cloexec: Optional[bool] = None  # its copies at the fork; None: some were, some not
    maker_closed: bool = False
    read_ended: bool = False
    ended: bool = False
    own_how: Optional[How] = None
    own_execed: bool = False
    stray: Optional[Stray] = None
    exec_error: int = 0
    outcome: Optional[Outcome] = None
    data: bool = False
    lost: bool = False
    foreign: set[int] = field(default_factory=set)
    releases: list[tuple[int, How]] = field(default_factory=list)

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
        elif self.read_ended and self.exec_error:
            self.outcome = Outcome.EXEC_FAILED
        self.drop("done")


class Model:
    """All processes of one program; ``apply`` plays one step."""

    def __init__(self) -> None:
        other = End(-1, False, False)
        first = Process(0, Table({fd: other for fd in range(3)}), {0: Thread(0)})
        self.processes: dict[int, Process] = {0: first}
        self.pipes: list[Pipe] = []
        self.next_process = 1

    def idle(self) -> list[tuple[Process, Thread]]:
        """The threads that can take a step."""
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
        """The threads that are blocked in a read of a pipe."""
        for process in self.processes.values():
            for thread in process.threads.values():
                if thread.reads == pipe:
                    yield process, thread

    def apply(self, step: Step) -> int:
        """Plays a step; returns what the system call must return (for READ, 0 also when it blocks)."""
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
            self._put(process, result, fds[args[0]].with_cloexec(kind is Kind.DUPFD and bool(args[2])))
        elif kind in (Kind.DUP2, Kind.DUP3):
            result = args[1]
            if args[0] != args[1]:
                self._put(
                    process, result, fds[args[0]].with_cloexec(kind is Kind.DUP3 and bool(args[2])), True
                )
        elif kind in (Kind.SETFD, Kind.IOCTL):
            fds[args[0]] = fds[args[0]].with_cloexec(bool(args[1]))
        elif kind is Kind.CLOSE:
            self._let_go(process, {args[0]}, How.CLOSE)
        elif kind is Kind.CLOSE_RANGE:
            covered = {fd for fd in fds if args[0] <= fd <= args[1]}
            if args[2]:
                fds.update({fd: fds[fd].with_cloexec(True) for fd in covered})
            else:
                self._let_go(process, covered, How.CLOSE)
        elif kind in (Kind.FORK, Kind.VFORK):
            result = self._fork(process, thread, kind is Kind.VFORK)
        elif kind is Kind.EXEC:
            self._exec(process)
        elif kind is Kind.EXEC_FAIL:
            for pipe in self.pipes:
                if not pipe.followed or not process.table.copies(pipe.number):
                    continue
                if pipe.own == process.number:
                    pipe.exec_error = _ENOENT
                if pipe.stray and pipe.stray.number == process.number:
                    pipe.stray.exec_error = _ENOENT
            result = -_ENOENT
        elif kind in (Kind.EXIT, Kind.KILL):
            self._exit(process)
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
        if thread.last_made is not None:
            previous = self.pipes[thread.last_made]
            if previous.own is None:
                previous.drop("its spawner made another pipe before it forked")
        read_fd = process.table.free()
        process.table.fds[read_fd] = End(number, False, cloexec)
        write_fd = process.table.free()
        process.table.fds[write_fd] = End(number, True, cloexec)
        self.pipes.append(Pipe(number, process.number, thread.number, read_fd, write_fd))
        thread.last_made = number
        return read_fd | write_fd << 16

    def _put(self, process: Process, fd: int, end: End, replaces: bool = False) -> None:
        before = process.table.fds.get(fd)
        same = before is not None and before.pipe == end.pipe and before.write and end.write
        if before is not None and not same:
            self._let_go(process, {fd}, How.CLOSE)
        process.table.fds[fd] = end
        if replaces and fd <= 2 and end.pipe >= 0 and end.write:
            pipe = self.pipes[end.pipe]
            if pipe.own == process.number:
                pipe.drop("a standard stream of its own child")
        if end.pipe >= 0 and end.write and len(process.table.copies(end.pipe)) > COPIES:
            self.pipes[end.pipe].lost = True

    def _let_go(self, process: Process, fds: set[int], how: How) -> None:
        """Ends fds of a process in one moment."""
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
            elif pipe.number in gone:
                self._released(pipe, process.number, how)

    def _read_end_gone(self, pipe: Pipe, how: How) -> None:
        if pipe.ended:
            return
        if pipe.own is None or not pipe.maker_closed:
            pipe.drop("its maker let go of the read end too early")
            return
        if how is How.EXIT and any(thread.noticed for _, thread in self.readers(pipe.number)):
            pipe.read_ended = True
        for _, thread in self.readers(pipe.number):
            thread.noticed = False
        pipe.ended = True
        pipe.finish()

    def _released(self, pipe: Pipe, process: int, how: How) -> None:
        if process == pipe.maker:
            pipe.maker_closed = True
            if pipe.own is None and pipe.stray:
                pipe.own = pipe.stray.number
                pipe.own_cloexec = pipe.stray.cloexec
                pipe.exec_error = pipe.stray.exec_error
                pipe.own_execed = pipe.stray.execed
                if pipe.stray.how:
                    self._released(pipe, pipe.own, pipe.stray.how)
        elif process == pipe.own:
            pipe.foreign.discard(process)
            if not pipe.exec_error and (how is How.CLOSE or (how is How.EXIT and pipe.own_execed)):
                pipe.drop("its own child let go without an exec, or kept it through one")
            else:
                pipe.own_how = how
                pipe.finish()
        else:
            pipe.foreign.discard(process)
            pipe.releases.append((process, how))
            if pipe.stray and pipe.stray.number == process:
                pipe.stray.how = how

    def _fork(self, process: Process, thread: Thread, vfork: bool) -> int:
        number = self.next_process
        self.next_process += 1
        child = Process(number, Table(dict(process.table.fds)), {0: Thread(0)}, in_vfork=vfork)
        self.processes[number] = child
        candidate = None if thread.last_made is None else self.pipes[thread.last_made]
        may_stray = vfork and not (candidate and candidate.followed and candidate.own is None)
        for pipe in self.pipes:
            if not pipe.followed or not child.table.copies(pipe.number):
                continue
            is_spawner = (pipe.maker, pipe.spawner) == (process.number, thread.number)
            bits = {child.table.fds[fd].cloexec for fd in child.table.copies(pipe.number)}
            cloexec = bits.pop() if len(bits) == 1 else None
            if is_spawner and pipe.own is None and thread.last_made == pipe.number and not pipe.ended:
                pipe.own = number
                pipe.own_cloexec = cloexec
                continue
            pipe.foreign.add(number)
            if may_stray and pipe.maker == process.number and pipe.own is None and not pipe.stray:
                pipe.stray = Stray(number, cloexec)
        if vfork:
            thread.vforked = number
        return number

    def _exec(self, process: Process) -> None:
        self._leave_vfork(process)
        # What reads on in its other threads does not live to see the end of it.
        for thread in process.threads.values():
            thread.reads = None
        process.threads = {0: Thread(0)}
        process.next_thread = 1
        for pipe in self.pipes:
            if pipe.own == process.number and process.table.copies(pipe.number):
                pipe.exec_error = 0
        gone = {fd for fd, end in process.table.fds.items() if end.cloexec}
        self._let_go(process, gone, How.EXEC)
        for pipe in self.pipes:
            left = process.table.copies(pipe.number)
            if left and pipe.stray and pipe.stray.number == process.number:
                pipe.stray.execed = True
            if pipe.followed and pipe.own == process.number and left:
                pipe.own_execed = True
                if min(left) <= 2:
                    pipe.drop("a standard stream of its own child")

    def _exit(self, process: Process) -> None:
        self._leave_vfork(process)
        self._let_go(process, set(process.table.fds), How.EXIT)
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
            and fd == pipe.read_fd
            and pipe.own is not None
            and pipe.maker_closed
            and not pipe.ended
        )
        if pipe.data:
            pipe.data = False
            if thread.noticed:
                pipe.read_ended = True
            thread.noticed = False
            return 4
        thread.reads = pipe.number
        return 0

    def _write(self, number: int) -> int:
        pipe = self.pipes[number]
        for _, thread in self.readers(number):
            thread.reads = None
            if thread.noticed:
                thread.noticed = False
                pipe.read_ended = True
            return 4
        pipe.data = True
        return 4

    def _end_reads(self) -> None:
        """End-of-file for who reads a pipe that has no write end any more."""
        for pipe in self.pipes:
            if self.has_writers(pipe.number):
                continue
            for _, thread in list(self.readers(pipe.number)):
                thread.reads = None
                if thread.noticed:
                    thread.noticed = False
                    pipe.ended = pipe.read_ended = True
                    pipe.finish()
