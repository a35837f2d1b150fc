"""Where in the code: Python stacks of the processes of a stall that is going on, by py-spy.

py-spy is a program of its own (https://github.com/benfred/py-spy), and a target can be slow or strange: it is
asked beside the tracer, one stall after the other, with a time limit and bounded output.  It reads the memory
of a running process.  Only where that does not tell which thread is which (Python before 3.11) it is asked
again, and stops the process for the few milliseconds that it takes.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from agent.model import Cause, Frame, Holder, Stack, Stall

__all__ = [
    "MOST_HOLDERS",
    "PythonStacks",
    "StackError",
    "Taken",
    "find_py_spy",
    "python_stack",
    "take_now",
    "with_python",
]

MOST_HOLDERS = 3
"""Holders of one stall whose stacks are taken."""

_TIMEOUT_SECONDS = 2.0
_MOST_BYTES = 4_000_000
_MOST_FRAMES = 64
_NAME_LENGTH = 200
_FILE_LENGTH = 256
_MOST_WAITING = 16
_NOT_INSTALLED = "py-spy is not installed beside trace-popen or in PATH: no Python stacks"
_SHOWS_ITS_FORK = (Cause.FORKED, Cause.LATE_EXEC)


class StackError(Exception):
    """A stack is not to be had: one line that says why."""


@dataclass(frozen=True)
class Taken:
    """What py-spy said of a stall: the stack of the reader, and of holders by pid; else why not."""

    reader: Optional[Stack] = None
    holders: Mapping[int, Stack] = dataclasses.field(default_factory=dict)
    missing: tuple[str, ...] = ()


def find_py_spy() -> Optional[str]:
    """The path of py-spy: beside this Python, else in PATH; None: it is not installed."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.is_file() else shutil.which("py-spy")


def python_stack(py_spy: str, pid: int, tid: int) -> Stack:
    """Where a thread of a Python process is now; raises StackError."""
    # What does not answer in time is not asked again, and so never stopped.
    for options in (("--nonblocking",), ()):
        threads = _threads(_dump(py_spy, pid, *options))
        mine = [thread for thread in threads if thread.get("os_thread_id") == tid]
        if not mine and len(threads) == 1:
            mine = threads
        if mine:
            return Stack("py-spy", _frames(mine[0]), time.monotonic_ns())
    raise StackError(f"py-spy does not see thread {tid} of pid {pid}: it runs no Python")


class PythonStacks:
    """Asks py-spy for the stacks of stalls, in a thread of its own."""

    def __init__(self) -> None:
        self._py_spy = find_py_spy()
        self._worker = ThreadPoolExecutor(1, "py-spy")
        self._asked: list[Future[Taken]] = []
        self._closed = threading.Event()

    def ask(self, stall: Stall) -> Future[Taken]:
        """Has the stacks of a stall that is going on taken as soon as may be."""
        self._asked = [asked for asked in self._asked if not asked.done()]
        if self._py_spy is None:
            return _nothing(_NOT_INSTALLED)
        if len(self._asked) >= _MOST_WAITING:
            return _nothing("too many stalls at once for py-spy: no Python stacks")
        spawn = stall.spawn
        holders = [(holder.pid, holder.cause) for holder in stall.holders]
        reader = spawn.read_tid or spawn.tid
        future = self._worker.submit(_take, self._py_spy, spawn.pid, reader, holders, self._closed)
        self._asked.append(future)
        return future

    def close(self) -> None:
        """Ends the thread, after the process that it looks at now."""
        self._closed.set()
        self._worker.shutdown(cancel_futures=True)


def take_now(pid: int, tid: int, holders: Sequence[tuple[Optional[int], Cause]]) -> Taken:
    """The stacks of a blocked thread, and of these holders, as they are now."""
    py_spy = find_py_spy()
    if py_spy is None:
        return Taken(missing=(_NOT_INSTALLED,))
    return _take(py_spy, pid, tid, holders, threading.Event())


def _take(
    py_spy: str, pid: int, tid: int, holders: Sequence[tuple[Optional[int], Cause]], stop: threading.Event
) -> Taken:
    missing: list[str] = []

    def one(pid: int, tid: int, who: str) -> Optional[Stack]:
        if stop.is_set():
            return None
        try:
            return python_stack(py_spy, pid, tid)
        except StackError as error:
            missing.append(f"{who}: {error}")
            return None

    reader = one(pid, tid, "reader")
    found = {}
    for holder, cause in holders[:MOST_HOLDERS]:
        if holder is None:
            continue
        if cause not in _SHOWS_ITS_FORK:
            missing.append(f"holder {holder}: its own stack does not show the fork (cause {cause.value})")
            continue
        # A process that was forked begins with one thread, which has the pid for its id.
        stack = one(holder, holder, f"holder {holder}")
        if stack is not None:
            found[holder] = stack
    return Taken(reader, found, tuple(missing))


def with_python(stall: Stall, taken: Optional[Taken], until: int) -> Stall:
    """The stall with those of its Python stacks that were taken while it was going on.

    until: when it was last known to go on (CLOCK_MONOTONIC ns). taken None: there has been no time for it.
    """
    if taken is None:
        why = "has not looked yet" if stall.ended is None else "had no time to look"
        taken = Taken(missing=(f"py-spy {why}: no Python stacks",))
    missing = [*(stall.missing or ()), *taken.missing]
    reader = _before(taken.reader, until)
    if taken.reader is not None and reader is None:
        missing.append("reader: the stall ended before py-spy had looked")
    holders = tuple(_with_own(holder, taken, until, missing) for holder in stall.holders)
    return dataclasses.replace(stall, reader_stack=reader, holders=holders, missing=tuple(missing))


def _with_own(holder: Holder, taken: Taken, until: int, missing: list[str]) -> Holder:
    stack = taken.holders.get(holder.pid or 0)
    if stack is None or holder.cause not in _SHOWS_ITS_FORK:
        return holder
    own = _before(stack, until if holder.released is None else holder.released)
    if own is None:
        missing.append(f"holder {holder.pid}: it let go before py-spy had looked")
    return dataclasses.replace(holder, own_stack=own)


def _before(stack: Optional[Stack], until: int) -> Optional[Stack]:
    return stack if stack is not None and stack.at <= until else None


def _nothing(why: str) -> Future[Taken]:
    future: Future[Taken] = Future()
    future.set_result(Taken(missing=(why,)))
    return future


def _dump(py_spy: str, pid: int, *options: str) -> bytes:
    """What py-spy prints of a process; raises StackError."""
    command = [py_spy, "dump", "--json", *options, "--pid", str(pid)]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise StackError(f"{py_spy}: {error.strerror}") from error
    assert process.stdout is not None
    assert process.stderr is not None
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(_TIMEOUT_SECONDS, stop)
    timer.start()
    with process:
        said = process.stdout.read(_MOST_BYTES + 1)
        if len(said) > _MOST_BYTES:
            process.kill()
        complaint = process.stderr.read(4096).decode(errors="backslashreplace")
        process.wait()
    timer.cancel()
    if late.is_set():
        raise StackError(f"py-spy took longer than {_TIMEOUT_SECONDS:g} s for pid {pid}")
    if len(said) > _MOST_BYTES:
        raise StackError(f"py-spy had too much to say of pid {pid}")
    if process.returncode != 0:
        raise StackError(_why(complaint, pid))
    return said


def _why(complaint: str, pid: int) -> str:
    """One line of what py-spy complains of."""
    if "Failed to find python version" in complaint:
        return f"pid {pid} runs no Python that py-spy knows"
    if "Permission denied" in complaint or "Operation not permitted" in complaint:
        return f"py-spy may not look at pid {pid} (CAP_SYS_PTRACE)"
    if "No such file" in complaint or "No such process" in complaint:
        return f"pid {pid} ended before py-spy had looked"
    lines = complaint.strip().splitlines() or ["no reason given"]
    return f"py-spy failed for pid {pid}: {lines[0][:_NAME_LENGTH]}"


def _threads(said: bytes) -> list[dict[str, Any]]:
    try:
        threads = json.loads(said)
    except ValueError as error:
        raise StackError("py-spy did not answer in JSON") from error
    if not isinstance(threads, list) or not all(isinstance(thread, dict) for thread in threads):
        raise StackError("py-spy answered something else than threads")
    return threads


def _frames(thread: Mapping[str, Any]) -> tuple[Frame, ...]:
    """The innermost frames; what a name is was chosen by strangers."""
    try:
        return tuple(
            Frame(
                str(frame["name"])[:_NAME_LENGTH],
                str(frame["filename"])[:_FILE_LENGTH],
                int(frame["line"]) or None,
            )
            for frame in thread["frames"][:_MOST_FRAMES]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StackError("py-spy answered frames of another kind") from error
