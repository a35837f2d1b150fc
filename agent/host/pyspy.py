# SPDX-License-Identifier: Apache-2.0
"""Capture the Python stacks of a stall in progress with py-spy.

py-spy (https://github.com/benfred/py-spy) is a separate program, and its target may be slow or hostile: it
runs beside the tracer, for one stall at a time, with a time limit and bounded output.  It reads the memory of
a running process.  Only if that does not identify the threads (Python before 3.11), it runs again and pauses
the process for a few milliseconds.
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
    "MAX_HOLDERS",
    "PythonStacks",
    "StackError",
    "Taken",
    "find_py_spy",
    "python_stack",
    "take_now",
    "with_python",
]

MAX_HOLDERS = 3
"""Holders of one stall whose stacks are captured."""

_TIMEOUT_SECONDS = 2.0
_MAX_BYTES = 4_000_000
_MAX_FRAMES = 64
_MAX_NAME = 200
_MAX_FILE = 256
_MAX_WAITING = 16
_NOT_INSTALLED = "no Python stacks: py-spy is not installed beside trace-popen or in PATH"
_SHOWS_ITS_FORK = (Cause.FORKED, Cause.LATE_EXEC)


class StackError(Exception):
    """A stack cannot be captured; one line says why."""


@dataclass(frozen=True)
class Taken:
    """The stacks that py-spy captured of a stall: the reader's, and holders' by pid; missing says why not."""

    reader: Optional[Stack] = None
    holders: Mapping[int, Stack] = dataclasses.field(default_factory=dict)
    missing: tuple[str, ...] = ()


def find_py_spy() -> Optional[str]:
    """The path of py-spy, beside this Python or in PATH; None if it is not installed."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.is_file() else shutil.which("py-spy")


def python_stack(py_spy: str, pid: int, tid: int) -> Stack:
    """Capture the stack of a thread of a Python process; raises StackError."""
    # A timeout raises here, so a process that is slow to read is never paused.
    for options in (("--nonblocking",), ()):
        threads = _threads(_dump(py_spy, pid, *options))
        mine = [thread for thread in threads if thread.get("os_thread_id") == tid]
        if not mine and len(threads) == 1:
            mine = threads
        if mine:
            return Stack("py-spy", _frames(mine[0]), time.monotonic_ns())
    raise StackError(f"py-spy does not find thread {tid} of pid {pid}: it does not run Python")


class PythonStacks:
    """Capture the stacks of stalls with py-spy in a background thread."""

    def __init__(self) -> None:
        self._py_spy = find_py_spy()
        self._worker = ThreadPoolExecutor(1, "py-spy")
        self._asked: list[Future[Taken]] = []
        self._closed = threading.Event()

    def ask(self, stall: Stall) -> Future[Taken]:
        """Request the stacks of a stall in progress."""
        self._asked = [asked for asked in self._asked if not asked.done()]
        if self._py_spy is None:
            return _nothing(_NOT_INSTALLED)
        if len(self._asked) >= _MAX_WAITING:
            return _nothing("no Python stacks: too many stalls at once for py-spy")
        spawn = stall.spawn
        holders = [(holder.pid, holder.cause) for holder in stall.holders]
        reader = spawn.read_tid or spawn.tid
        future = self._worker.submit(_take, self._py_spy, spawn.pid, reader, holders, self._closed)
        self._asked.append(future)
        return future

    def close(self) -> None:
        """Stop the thread after its current process."""
        self._closed.set()
        self._worker.shutdown(cancel_futures=True)


def take_now(pid: int, tid: int, holders: Sequence[tuple[Optional[int], Cause]]) -> Taken:
    """Capture the stacks of a blocked thread and of these holders now."""
    py_spy = find_py_spy()
    if py_spy is None:
        return Taken(missing=(_NOT_INSTALLED,))
    return _take(py_spy, pid, tid, holders, threading.Event())


def _take(
    py_spy: str, pid: int, tid: int, holders: Sequence[tuple[Optional[int], Cause]], stop: threading.Event
) -> Taken:
    missing: list[str] = []

    def capture(pid: int, tid: int, who: str) -> Optional[Stack]:
        if stop.is_set():
            return None
        try:
            return python_stack(py_spy, pid, tid)
        except StackError as error:
            missing.append(f"{who}: {error}")
            return None

    reader = capture(pid, tid, "reader")
    found = {}
    for holder, cause in holders[:MAX_HOLDERS]:
        if holder is None:
            continue
        if cause not in _SHOWS_ITS_FORK:
            missing.append(f"holder {holder}: its stack does not show the fork (cause {cause.value})")
            continue
        # A forked process starts with one thread, whose ID is the pid.
        stack = capture(holder, holder, f"holder {holder}")
        if stack is not None:
            found[holder] = stack
    return Taken(reader, found, tuple(missing))


def with_python(stall: Stall, taken: Optional[Taken], until: int) -> Stall:
    """The stall with the Python stacks that were captured while it was in progress.

    until: when it was last known to be in progress (CLOCK_MONOTONIC ns).  taken: None if py-spy has not run.
    """
    if taken is None:
        why = "py-spy has not finished" if stall.ended is None else "the stall ended before py-spy finished"
        taken = Taken(missing=(f"no Python stacks: {why}",))
    missing = [*(stall.missing or ()), *taken.missing]
    reader = _before(taken.reader, until)
    if taken.reader is not None and reader is None:
        missing.append("reader: the stall ended before py-spy captured its stack")
    holders = tuple(_with_own(holder, taken, until, missing) for holder in stall.holders)
    return dataclasses.replace(stall, reader_stack=reader, holders=holders, missing=tuple(missing))


def _with_own(holder: Holder, taken: Taken, until: int, missing: list[str]) -> Holder:
    stack = taken.holders.get(holder.pid or 0)
    if stack is None or holder.cause not in _SHOWS_ITS_FORK:
        return holder
    own = _before(stack, until if holder.released is None else holder.released)
    if own is None:
        missing.append(f"holder {holder.pid}: it released its copy before py-spy captured its stack")
    return holder._replace(own_stack=own)


def _before(stack: Optional[Stack], until: int) -> Optional[Stack]:
    return stack if stack is not None and stack.at <= until else None


def _nothing(why: str) -> Future[Taken]:
    future: Future[Taken] = Future()
    future.set_result(Taken(missing=(why,)))
    return future


def _dump(py_spy: str, pid: int, *options: str) -> bytes:
    """Run py-spy on a process and return its output; raises StackError."""
    command = [py_spy, "dump", "--json", *options, "--pid", str(pid)]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise StackError(f"{py_spy}: {error.strerror}") from error
    assert process.stdout is not None
    assert process.stderr is not None
    timed_out = threading.Event()

    def stop() -> None:
        timed_out.set()
        process.kill()

    timer = threading.Timer(_TIMEOUT_SECONDS, stop)
    timer.start()
    with process:
        output = process.stdout.read(_MAX_BYTES + 1)
        if len(output) > _MAX_BYTES:
            process.kill()
        stderr = process.stderr.read(4096).decode(errors="backslashreplace")
        process.wait()
    timer.cancel()
    if timed_out.is_set():
        raise StackError(f"py-spy took longer than {_TIMEOUT_SECONDS:g} s for pid {pid}")
    if len(output) > _MAX_BYTES:
        raise StackError(f"the output of py-spy for pid {pid} is too long")
    if process.returncode != 0:
        raise StackError(_why(stderr, pid))
    return output


def _why(stderr: str, pid: int) -> str:
    """One line for an error message of py-spy."""
    if "Failed to find python version" in stderr:
        return f"pid {pid} does not run a Python version that py-spy supports"
    if "Permission denied" in stderr or "Operation not permitted" in stderr:
        return f"py-spy lacks permission to read pid {pid} (CAP_SYS_PTRACE)"
    if "No such file" in stderr or "No such process" in stderr:
        return f"pid {pid} exited before py-spy read it"
    lines = stderr.strip().splitlines() or ["no reason given"]
    return f"py-spy failed for pid {pid}: {lines[0][:_MAX_NAME]}"


def _threads(output: bytes) -> list[dict[str, Any]]:
    try:
        threads = json.loads(output)
    except ValueError as error:
        raise StackError("the output of py-spy is not JSON") from error
    if not isinstance(threads, list) or not all(isinstance(thread, dict) for thread in threads):
        raise StackError("the output of py-spy is not a list of threads")
    return threads


def _frames(thread: Mapping[str, Any]) -> tuple[Frame, ...]:
    """The innermost frames; their names are untrusted."""
    try:
        return tuple(
            Frame(
                str(frame["name"])[:_MAX_NAME],
                str(frame["filename"])[:_MAX_FILE],
                int(frame["line"]) or None,
            )
            for frame in thread["frames"][:_MAX_FRAMES]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StackError("the output of py-spy has malformed frames") from error
