# SPDX-License-Identifier: Apache-2.0
"""Play plays beside a tracer, and keep what it reports."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from agent.model import Spawn, Stall
from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from tests.live.delays import COMM, delayed
from tests.theatre.play import Play, RawTruth
from tests.theatre.truth import Truth

__all__ = ["MIN_NS", "Reports", "Seen", "Troupe"]

MIN_NS = 5_000_000
_ONGOING_NS = 60_000_000
_REST_SECONDS = 0.4
_SOURCE = Path(__file__).parent / "player.c"
_COMPILE = ["gcc", "-O2", "-static", "-pthread", "-Wall", "-Wextra", "-Werror", f'-DSLOW="{COMM}"']
"""Statically, so that an exec is fast and opens no files."""
_SEEN_LATE = (
    "task:task_newtask",
    "syscalls:sys_exit_pipe2",
    "syscalls:sys_exit_read",
    "sched:sched_process_exec",
)
"""In a slow act, the tracer sees these events some milliseconds after the kernel's work."""
_DONE_LATE = ("syscalls:sys_enter_close", "sched:sched_process_exit")
"""In a slow act, the kernel's work follows these events some milliseconds later."""


@dataclass(frozen=True)
class Seen:
    """A stall as it was reported, or shown as in progress, during a turn of the tracer's loop.

    A search of that turn happened between its beginning and its end.
    """

    stall: Stall
    turn: int


@dataclass
class Reports:
    """Everything that the tracer said; turns: when each turn of its loop began and ended."""

    turns: list[tuple[int, int]] = field(default_factory=list)
    stalls: list[Seen] = field(default_factory=list)
    spawns: list[Spawn] = field(default_factory=list)

    def turn_of(self, time_ns: int) -> tuple[int, int]:
        """The turn during which the tracer read this time from its clock."""
        return next(turn for turn in reversed(self.turns) if turn[0] <= time_ns)


class Troupe:
    """Processes that play, and a tracer that follows only them.  A context manager."""

    def __init__(self, folder: Path, stages: int) -> None:
        self._folder = folder
        self._stages = stages
        self._reports = Reports()
        self._shown: dict[int, Stall] = {}

    def __enter__(self) -> Troupe:
        with contextlib.ExitStack() as stack:
            binary = self._folder / "player"
            subprocess.run([*_COMPILE, "-o", str(binary), str(_SOURCE)], check=True)
            (self._folder / COMM).symlink_to(binary)  # for a slow exec
            cgroup = stack.enter_context(_cgroup(self._folder))
            self._player = subprocess.Popen(
                [binary, str(self._stages), str(cgroup)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(self._end_player)
            options = TracerOptions(
                min_ns=MIN_NS, ongoing_ns=_ONGOING_NS, targets=(self._player.pid,), every=True
            )
            for event in _SEEN_LATE:
                stack.enter_context(delayed(event))
            self._tracer = stack.enter_context(Tracer(options, self._reported, self._ended))
            failure = self._tracer.start()
            assert failure is None, failure
            for event in _DONE_LATE:
                stack.enter_context(delayed(event))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _end_player(self) -> None:
        self._player.kill()
        self._player.communicate()

    def _reported(self, stall: Stall) -> None:
        self._reports.stalls.append(Seen(stall, len(self._reports.turns)))

    def _ended(self, spawn: Spawn) -> None:
        self._reports.spawns.append(spawn)

    def perform(self, plays: Sequence[Play]) -> tuple[list[Truth], Reports]:
        """Play all of them; return the truth and the reports."""
        self._reports = Reports()
        written, truths = self._folder / "plays", self._folder / "truths"
        written.write_bytes(b"".join(bytes(play) for play in plays))
        truths.write_bytes(b"")
        answers: list[str] = []
        waiter = threading.Thread(target=lambda: answers.append(self._ask(f"{written} {truths}\n")))
        waiter.start()
        until: Optional[float] = None
        while until is None or time.monotonic() < until:
            self._turn()
            if until is None and not waiter.is_alive():
                until = time.monotonic() + _REST_SECONDS
        assert answers == ["done\n"], answers
        raw = truths.read_bytes()
        size = ctypes.sizeof(RawTruth)
        assert len(raw) == size * len(plays)
        found = [Truth(play, RawTruth.from_buffer_copy(raw, size * n)) for n, play in enumerate(plays)]
        return found, self._reports

    def _ask(self, line: str) -> str:
        assert self._player.stdin and self._player.stdout
        self._player.stdin.write(line)
        self._player.stdin.flush()
        return self._player.stdout.readline()

    def _turn(self) -> None:
        began = time.monotonic_ns()
        self._tracer.run_once(0.05)
        for stall in self._tracer.ongoing:
            if self._shown.get(stall.spawn.id) is not stall:
                self._reports.stalls.append(Seen(stall, len(self._reports.turns)))
        self._shown = {stall.spawn.id: stall for stall in self._tracer.ongoing}
        self._reports.turns.append((began, time.monotonic_ns()))


@contextlib.contextmanager
def _cgroup(folder: Path) -> Iterator[Path]:
    """A group below which parents are frozen; it has no processes of its own."""
    mounted = folder / "cgroup2"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", str(mounted)], check=True)
    group = mounted / f"theatre-{folder.name}"
    try:
        group.mkdir()
        yield group
    finally:
        for stage in group.glob("stage-*"):  # of a player that was killed
            with contextlib.suppress(OSError):
                (stage / "cgroup.kill").write_text("1")
                (stage / "cgroup.freeze").write_text("0")
                time.sleep(0.1)
                stage.rmdir()
        group.rmdir()
        subprocess.run(["umount", str(mounted)], check=True)
