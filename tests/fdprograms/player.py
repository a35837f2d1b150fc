# SPDX-License-Identifier: Apache-2.0
"""Drive player.c, one step at a time: each is acknowledged and finished before the next begins."""

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

from tests.fdprograms.expected import Kind, Model, Step

__all__ = ["Player", "PlayerError", "Running", "build"]

_SOURCE = Path(__file__).parent / "player.c"
_COMMAND = struct.Struct("4i")
_ANSWER = struct.Struct("4i")
_TIMEOUT = 2.0
_names = itertools.count()


class PlayerError(Exception):
    """The player did not do what the model predicts: a bug in one of these two, not in the tracer."""


class _Op(IntEnum):
    """enum op in player.c."""

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


class _AnswerKind(IntEnum):
    """enum kind in player.c."""

    HELLO = 0
    READING = 1
    DONE = 2


def build(folder: Path) -> Path:
    """Compile player.c, statically, so that an exec is fast and opens no files."""
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
        hello = self.answer(_AnswerKind.HELLO)
        self.pid = hello.pid
        self.tid = hello.tid

    def tell(self, op: _Op, a: int = 0, b: int = 0, c: int = 0) -> None:
        self._connection.sendall(_COMMAND.pack(op, a, b, c))

    def answer(self, kind: _AnswerKind) -> _Answer:
        try:
            data = self._connection.recv(_ANSWER.size, socket.MSG_WAITALL)
        except socket.timeout:
            raise PlayerError(f"no answer ({kind.name})") from None
        if len(data) != _ANSWER.size:
            raise PlayerError(f"connection closed instead of an answer ({kind.name})")
        answer = _Answer(*_ANSWER.unpack(data))
        if answer.kind != kind:
            raise PlayerError(f"answered {answer} instead of {kind.name}")
        return answer

    def ended(self) -> None:
        """Wait until the thread closes its connection."""
        try:
            with contextlib.suppress(ConnectionResetError):
                if self._connection.recv(1):
                    raise PlayerError("an answer instead of a closed connection")
        except socket.timeout:
            raise PlayerError("the thread does not end") from None
        self._connection.close()


class Player:
    """The root process, which starts a process for each program."""

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
        """The process whose descendants have to be traced."""
        return self._process.pid

    def close(self) -> None:
        """Kill the root process."""
        self._process.kill()
        self._process.wait()
        self._listener.close()

    def accept(self) -> _Actor:
        """Wait for a new thread to connect."""
        try:
            return _Actor(self._listener.accept()[0])
        except socket.timeout:
            raise PlayerError("no new thread connected") from None

    def start(self) -> _Actor:
        """Start a process with nothing open except /dev/null on fd 0 to 2."""
        self._root.tell(_Op.START)
        first = self.accept()
        if self._root.answer(_AnswerKind.DONE).result != first.pid:
            raise PlayerError("another process connected")
        return first


class Running:
    """A running program; ``model`` is its state so far."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self.model = Model()
        first = player.start()
        self._actors: dict[tuple[int, int], _Actor] = {(0, 0): first}
        self.pids = {0: first.pid}
        self.inodes: list[int] = []

    def task_folder(self, process: int) -> Path:
        """The /proc folder of a process's first living thread; that of an exited thread has no fds."""
        actor = next(actor for (number, _), actor in self._actors.items() if number == process)
        return Path(f"/proc/{actor.pid}/task/{actor.tid}")

    def play(self, step: Step) -> None:
        """Run one step and wait for everything that it causes."""
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
                _wait_until(lambda: not _has_files(actor.pid), "the process does not exit")
        elif step.kind is Kind.THREAD_EXIT:
            self._actors.pop((step.process, step.thread)).ended()
            _wait_until(lambda: not _lives(actor.pid, actor.tid), "the thread does not exit")
        else:
            self._finish(step, actor, expected)
        # Threads that the step has unblocked. (After an exec another thread can have the same number.)
        for key, other in waiting.items():
            if self._actors.get(key) is other and key not in self._blocked():
                other.answer(_AnswerKind.DONE)
        for key, (other, child) in suspended.items():
            if self._actors.get(key) is other and key not in self._suspended():
                result = other.answer(_AnswerKind.DONE).result
                if result != self.pids[child]:
                    raise PlayerError(f"vfork returned {result}")

    def _finish(self, step: Step, actor: _Actor, expected: int) -> None:
        """Wait for the end of a step that leaves its thread alive."""
        if step.kind is Kind.READ:
            actor.answer(_AnswerKind.READING)
            if (step.process, step.thread) in self._blocked():
                _wait_until(lambda: _is_in_read(actor), "the thread does not block in read")
                return
        if step.kind is Kind.VFORK:
            self._child(expected)
            return
        answer = actor.answer(_AnswerKind.DONE)
        if step.kind is Kind.FORK:
            self._child(expected)
            expected = self.pids[expected]
        elif step.kind is Kind.THREAD:
            number = self.model.processes[step.process].next_thread - 1
            self._actors[step.process, number] = self._player.accept()
        elif step.kind in (Kind.PIPE, Kind.PIPE2):
            # Spawn.inode.
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
        """Kill what is left of a program that has failed."""
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
