"""Drives player.c: one step after the other, each acknowledged and over before the next begins."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tests.fdprograms.model import Kind, Model, Step

__all__ = ["Player", "PlayerError", "Running", "build"]

_SOURCE = Path(__file__).parent / "player.c"
_COMMAND = struct.Struct("4i")
_ANSWER = struct.Struct("4i")
_TIMEOUT = 2.0
_names = itertools.count()


class PlayerError(Exception):
    """The player did not do what the model says: a bug in one of the two, not in the tracer."""


class _Op(IntEnum):
    """As enum op in player.c."""

    START = 0
    PIPE2 = 1
    PIPE = 2
    DUP = 3
    DUP2 = 4
    DUP3 = 5
    FCNTL = 6
    IOCTL = 7
    CLOSE = 8
    CLOSE_RANGE = 9
    FORK = 10
    VFORK = 11
    EXEC = 12
    EXEC_FAIL = 13
    EXIT = 14
    THREAD = 15
    THREAD_EXIT = 16
    READ = 17
    WRITE = 18


class _Said(IntEnum):
    """As enum kind in player.c."""

    HELLO = 0
    READING = 1
    DONE = 2


def build(folder: Path) -> Path:
    """Compiles player.c; static, so that an exec is quick and opens nothing."""
    binary = folder / "player"
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", str(binary), str(_SOURCE)], check=True)
    return binary


@dataclass(frozen=True)
class _Answer:
    kind: int
    result: int
    pid: int
    tid: int


class _Actor:
    """The connection to one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(_TIMEOUT)
        hello = self.answer(_Said.HELLO)
        self.pid = hello.pid
        self.tid = hello.tid

    def tell(self, op: _Op, a: int = 0, b: int = 0, c: int = 0) -> None:
        self._connection.sendall(_COMMAND.pack(op, a, b, c))

    def answer(self, kind: _Said) -> _Answer:
        try:
            data = self._connection.recv(_ANSWER.size, socket.MSG_WAITALL)
        except socket.timeout:
            raise PlayerError(f"no answer ({kind.name})") from None
        if len(data) != _ANSWER.size:
            raise PlayerError(f"ended instead of an answer ({kind.name})")
        answer = _Answer(*_ANSWER.unpack(data))
        if answer.kind != kind:
            raise PlayerError(f"answered {answer} instead of {kind.name}")
        return answer

    def ended(self) -> None:
        """Waits until the thread's connection ends."""
        try:
            with contextlib.suppress(ConnectionResetError):
                if self._connection.recv(1):
                    raise PlayerError("an answer instead of an end")
        except socket.timeout:
            raise PlayerError("does not end") from None
        self._connection.close()


class Player:
    """The root of the tree, which starts a process for each program."""

    def __init__(self, binary: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        name = f"fdprograms-{os.getpid()}-{next(_names)}"
        self._listener.bind(f"\0{name}")
        self._listener.listen(16)
        self._listener.settimeout(_TIMEOUT)
        self._process = subprocess.Popen([binary, name])
        self._root = self.accept()

    @property
    def pid(self) -> int:
        """Whose descendants are to be traced."""
        return self._process.pid

    def close(self) -> None:
        """Ends the root."""
        self._process.kill()
        self._process.wait()
        self._listener.close()

    def accept(self) -> _Actor:
        """The thread that connects now."""
        try:
            return _Actor(self._listener.accept()[0])
        except socket.timeout:
            raise PlayerError("a new thread does not come") from None

    def start(self) -> _Actor:
        """A new process with nothing open but /dev/null on 0 to 2."""
        self._root.tell(_Op.START)
        first = self.accept()
        if self._root.answer(_Said.DONE).result != first.pid:
            raise PlayerError("a stranger connected")
        return first


class Running:
    """One program while it runs; ``model`` is what it has become so far."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self.model = Model()
        first = player.start()
        self._actors: dict[tuple[int, int], _Actor] = {(0, 0): first}
        self.pids = {0: first.pid}
        self.inodes: list[int] = []

    def task_folder(self, process: int) -> Path:
        """/proc's folder of a process's first living thread: a dead leader's shows no fds."""
        actor = next(actor for (number, _), actor in self._actors.items() if number == process)
        return Path(f"/proc/{actor.pid}/task/{actor.tid}")

    def play(self, step: Step) -> None:
        """Plays one step and waits for all that it causes."""
        actor = self._actors[step.process, step.thread]
        waiting = {key: self._actors[key] for key in self._blocked()}
        suspended = {key: (self._actors[key], child) for key, child in self._suspended().items()}
        expected = self.model.apply(step)
        _TELL[step.kind](actor, step.args)
        if step.kind in (Kind.EXIT, Kind.KILL, Kind.EXEC):
            for key in [key for key in self._actors if key[0] == step.process]:
                self._actors.pop(key).ended()
            if step.kind is Kind.EXEC:
                self._actors[step.process, 0] = self._player.accept()
            else:
                _wait_until(lambda: not _has_files(actor.pid), "is not gone")
        elif step.kind is Kind.THREAD_EXIT:
            self._actors.pop((step.process, step.thread)).ended()
            _wait_until(lambda: not _lives(actor.pid, actor.tid), "is not gone")
        else:
            self._finish(step, actor, expected)
        # What the step has set free; an exec has put another thread in a dead one's place.
        for key, other in waiting.items():
            if self._actors.get(key) is other and key not in self._blocked():
                other.answer(_Said.DONE)
        for key, (other, child) in suspended.items():
            if self._actors.get(key) is other and key not in self._suspended():
                result = other.answer(_Said.DONE).result
                if result != self.pids[child]:
                    raise PlayerError(f"vfork returned {result}")

    def _finish(self, step: Step, actor: _Actor, expected: int) -> None:
        """Waits for the end of a step that leaves its thread alive."""
        if step.kind is Kind.READ:
            actor.answer(_Said.READING)
            if (step.process, step.thread) in self._blocked():
                _wait_until(lambda: _is_in_read(actor), "does not read")
                return
        if step.kind is Kind.VFORK:
            self._child(expected)
            return
        answer = actor.answer(_Said.DONE)
        if step.kind is Kind.FORK:
            self._child(expected)
            expected = self.pids[expected]
        elif step.kind is Kind.THREAD:
            number = self.model.processes[step.process].next_thread - 1
            self._actors[step.process, number] = self._player.accept()
        elif step.kind in (Kind.PIPE, Kind.PIPE2):
            # The kernel's number, as the tracer has it.
            self.inodes.append(Path(f"/proc/{actor.pid}/task/{actor.tid}/fd/{expected >> 16}").stat().st_ino)
        if answer.result != expected:
            raise PlayerError(f"{step}: {answer.result} instead of {expected}")

    def _child(self, number: int) -> None:
        child = self._player.accept()
        self._actors[number, 0] = child
        self.pids[number] = child.pid

    def _blocked(self) -> set[tuple[int, int]]:
        return {
            (process.number, thread.number)
            for process in self.model.processes.values()
            for thread in process.threads.values()
            if thread.reads is not None
        }

    def _suspended(self) -> dict[tuple[int, int], int]:
        return {
            (process.number, thread.number): thread.vforked
            for process in self.model.processes.values()
            for thread in process.threads.values()
            if thread.vforked is not None
        }

    def abort(self) -> None:
        """Ends what is left of a program that went wrong."""
        for number in list(self.model.processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pids[number], signal.SIGKILL)


def _wait_until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise PlayerError(complaint)


def _state(pid: int, tid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/task/{tid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return text.rsplit(") ", 1)[1][0]


def _lives(pid: int, tid: int) -> bool:
    return _state(pid, tid) not in ("gone", "Z", "X")


def _has_files(pid: int) -> bool:
    return _lives(pid, pid)


def _is_in_read(actor: _Actor) -> bool:
    return Path(f"/proc/{actor.pid}/task/{actor.tid}/syscall").read_text().startswith("0 ")


def _cloexec(number: int) -> int:
    return os.O_CLOEXEC if number else 0


_Args = tuple[int, ...]
_TELL: dict[Kind, Callable[[_Actor, _Args], None]] = {
    Kind.PIPE2: lambda actor, args: actor.tell(_Op.PIPE2, _cloexec(args[0])),
    Kind.PIPE: lambda actor, args: actor.tell(_Op.PIPE),
    Kind.DUP: lambda actor, args: actor.tell(_Op.DUP, args[0]),
    Kind.DUP2: lambda actor, args: actor.tell(_Op.DUP2, args[0], args[1]),
    Kind.DUP3: lambda actor, args: actor.tell(_Op.DUP3, args[0], args[1], _cloexec(args[2])),
    Kind.DUPFD: lambda actor, args: actor.tell(
        _Op.FCNTL, args[0], fcntl.F_DUPFD_CLOEXEC if args[2] else fcntl.F_DUPFD, args[1]
    ),
    Kind.SETFD: lambda actor, args: actor.tell(
        _Op.FCNTL, args[0], fcntl.F_SETFD, fcntl.FD_CLOEXEC if args[1] else 0
    ),
    Kind.IOCTL: lambda actor, args: actor.tell(_Op.IOCTL, args[0], args[1]),
    Kind.CLOSE: lambda actor, args: actor.tell(_Op.CLOSE, args[0]),
    Kind.CLOSE_RANGE: lambda actor, args: actor.tell(_Op.CLOSE_RANGE, args[0], args[1], 4 if args[2] else 0),
    Kind.FORK: lambda actor, args: actor.tell(_Op.FORK),
    Kind.VFORK: lambda actor, args: actor.tell(_Op.VFORK),
    Kind.EXEC: lambda actor, args: actor.tell(_Op.EXEC),
    Kind.EXEC_FAIL: lambda actor, args: actor.tell(_Op.EXEC_FAIL),
    Kind.EXIT: lambda actor, args: actor.tell(_Op.EXIT),
    Kind.KILL: lambda actor, args: os.kill(actor.pid, signal.SIGKILL),
    Kind.THREAD: lambda actor, args: actor.tell(_Op.THREAD),
    Kind.THREAD_EXIT: lambda actor, args: actor.tell(_Op.THREAD_EXIT),
    Kind.READ: lambda actor, args: actor.tell(_Op.READ, args[0]),
    Kind.WRITE: lambda actor, args: actor.tell(_Op.WRITE, args[0]),
}
