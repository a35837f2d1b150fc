# SPDX-License-Identifier: Apache-2.0
"""Drive tests/programs/stepped.py, one step of a spawn at a time, beside a tracer in this process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Optional

from agent.host import procfs
from agent.model import Spawn, Stall
from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from tests.live.lab import Lab

__all__ = ["STEPS", "Observer", "Stepped"]

STEPS = ("pipe", "hold", "fork", "close", "read", "exec")
"""The steps of a spawn with a foreign holder; after the last there is a stall."""

_DEADLINE_SECONDS = 30


class Observer:
    """A tracer of what this process starts, and all its reports; a context manager."""

    def __init__(self) -> None:
        self.ended: list[Stall] = []
        self.ongoing: list[Stall] = []
        self.spawns: list[Spawn] = []
        options = TracerOptions(targets=(os.getpid(),), every=True)
        self.tracer = Tracer(options, self._stall, self.spawns.append)

    def __enter__(self) -> Observer:
        wrong = self.tracer.start()
        assert wrong is None, wrong
        return self

    def __exit__(self, *_exception: object) -> None:
        self.tracer.close()

    def forget(self) -> None:
        """Drop all reports so far."""
        for reports in (self.ended, self.ongoing, self.spawns):
            reports.clear()

    def watch(self, seconds: float) -> None:
        """Trace for some seconds."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.tracer.run_once(0.05)

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Trace until a condition holds."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"timeout waiting for {what}"
            self.tracer.run_once(0.05)

    def left(self) -> dict[str, object]:
        """Return what the maps and the tracer still contain."""
        probes = self.tracer._probes
        targets = [int.from_bytes(key, sys.byteorder) for key, _ in probes._compiled.maps["targets"].items()]
        left = {
            "spawns": [spawn.id for spawn in probes.spawns()],
            "watched": [spawn.id for spawn in probes.watched()],
            "processes": [pid for pid, _process in probes.processes() if pid in targets],
            "ongoing": [stall.spawn.id for stall in self.tracer.ongoing],
            "targets": [pid for pid in targets if not procfs.is_alive(pid)],
        }
        return {name: value for name, value in left.items() if value}

    def until_nothing_is_left(self) -> None:
        """Trace until every map is empty and no stall is in progress."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while left := self.left():
            assert time.monotonic() < deadline, left
            self.tracer.run_once(0.05)
        self.tracer.drain()

    def _stall(self, stall: Stall) -> None:
        (self.ongoing if stall.ended is None else self.ended).append(stall)


class Stepped:
    """The program; a context manager that kills its processes."""

    def __init__(self, lab: Lab, observer: Observer) -> None:
        self._observer = observer
        orders = [os.pipe(), os.pipe()]
        reads = [read for read, _write in orders]
        self._orders = dict(zip(("child", "holder"), (write for _read, write in orders)))
        self._program = subprocess.Popen(
            lab.program("stepped.py", *map(str, reads)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=reads,
        )
        assert self._program.stdout is not None
        os.set_blocking(self._program.stdout.fileno(), False)
        self._said = b""
        self.pids = {"parent": self._program.pid}
        for read in reads:
            os.close(read)
        self._answer("start")

    def __enter__(self) -> Stepped:
        return self

    def __exit__(
        self,
        _kind: Optional[type[BaseException]],
        _error: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> None:
        for who in self.pids:
            self.signal(who, signal.SIGKILL)
        self.finish()

    def step(self, name: str) -> None:
        """Take one of STEPS, and wait until it is done."""
        if name == "exec":
            self.order("child", b"e")
            self._observer.until(lambda: procfs.comm_of(self.pids["child"]) == b"cat", "the exec")
            return
        assert self._program.stdin is not None
        self._program.stdin.write(f"{name}\n".encode())
        self._program.stdin.flush()
        answer = self._answer("reading" if name == "read" else name)
        if name in ("hold", "fork"):
            self.pids["holder" if name == "hold" else "child"] = answer["pid"]
        if name == "read":
            self._observer.until(
                lambda: any(
                    spawn.reading and spawn.pid == self._program.pid
                    for spawn in self._observer.tracer._probes.spawns()
                ),
                "the read",
            )

    def steps(self, last: str) -> None:
        """Take all steps up to one."""
        for name in STEPS[: STEPS.index(last) + 1]:
            self.step(name)

    def order(self, who: str, order: bytes) -> None:
        """Send own child or holder an order, even if it no longer exists."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders[who], order)

    def signal(self, who: str, number: int) -> None:
        """Send a signal to parent, child or holder, if it exists."""
        if who in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pids[who], number)

    def read_seconds(self) -> float:
        """Return how long the parent's read took, once it has returned."""
        return float(self._answer("read")["seconds"])

    def finish(self) -> None:
        """End the remaining processes: own child and holder by end-of-file, and thereby the parent."""
        for orders in self._orders.values():
            os.close(orders)
        self._orders = {}
        assert self._program.stdin is not None and self._program.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._program.stdin.close()
        self._observer.until(lambda: self._program.poll() is not None, "the parent's end")
        self._program.stdout.close()

    def _answer(self, did: str) -> dict[str, Any]:
        lines: list[bytes] = []

        def answered() -> bool:
            assert self._program.stdout is not None
            self._said += self._program.stdout.read() or b""
            lines[:] = self._said.splitlines(keepends=True)
            return bool(lines) and lines[0].endswith(b"\n")

        self._observer.until(answered, did)
        self._said = b"".join(lines[1:])
        answer: dict[str, Any] = json.loads(lines[0])
        assert answer["did"] == did
        return answer
