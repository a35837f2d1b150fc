"""One run of ``trace-popen``: a snapshot, live tracing (or sampling where there is no eBPF), the summary."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Optional

from rich.console import Console
from rich.live import Live
from rich.text import Text

from agent import snapshot
from agent.cli.command import Command
from agent.cli.outputs import Reports
from agent.errors import UserError
from agent.host import privileges, procfs, pyspy
from agent.host.privileges import Capability
from agent.model import Cause
from agent.render.words import count
from agent.reports.losses import loss_lines, not_followed
from agent.tracing.prepared import Prepared, TraceError
from agent.tracing.tracer import Tracer

__all__ = ["run", "take_snapshot"]

_POLL_SECONDS = 0.1
_LOSSES_SECONDS = 1.0  # between two looks at all counters, which takes a millisecond


def take_snapshot(pids: list[int], reports: Reports, with_stacks: bool) -> int:
    """Reports what holds these processes up now, by /proc; how many threads it were.  Raises UserError."""
    found = 0
    for pid in pids:
        blind = snapshot.why_not(pid)
        if blind is not None:
            raise UserError(blind)
        for finding in snapshot.take(pid):
            reports.snapshot(finding, _stacks(finding) if with_stacks else None)
            found += 1
    return found


def _stacks(finding: snapshot.Finding) -> pyspy.Taken:
    if finding.state == "ended":
        return pyspy.Taken(missing=("it ended before py-spy had looked: no Python stacks",))
    holders = [(holder.pid, Cause(holder.cause)) for holder in finding.holders]
    taken = pyspy.take_now(finding.pid, finding.tid, holders)
    if taken.reader is None or procfs.is_blocked_on(finding.pid, finding.tid, finding.read_fd):
        return taken
    missing = (*taken.missing, "reader: it was not blocked any more when py-spy had looked")
    return dataclasses.replace(taken, reader=None, missing=missing)


def run(
    options: argparse.Namespace,
    reports: Reports,
    command: Optional[Command],
    prepared: Prepared,
    console: Optional[Console],
) -> int:
    """Traces until the end that the options set; returns the exit status.  Raises UserError.

    console: where a status line is to be kept; None: nowhere.
    """
    pids = list(prepared.options.targets)
    if options.pid:
        with contextlib.suppress(UserError):  # what cannot be seen in /proc may yet be traced
            take_snapshot(options.pid, reports, options.stacks)
    stop = _Stop()
    with stop.on_signals(command):
        try:
            tracer = Tracer(prepared, reports.stall, reports.spawn)
        except TraceError as error:
            if error.no_ebpf and options.pid:
                return _sample(options, reports, stop, str(error))
            raise
        with tracer:
            # A COMMAND can become another user's (su), and is to be ended by our SIGTERM all the same.
            privileges.drop(tracer.counters, () if command is None else (Capability.KILL,))
            wrong = tracer.start()
            if wrong is not None:
                raise UserError(f"the self-test failed, nothing is traced: {wrong}")
            if command is not None:
                command.release()
            else:
                print(f"trace-popen: tracing {_what(pids)}, Ctrl-C ends it", file=sys.stderr)
            reports.summary.began = time.monotonic_ns()
            ends = math.inf if options.duration is None else time.monotonic() + options.duration
            with _status_line(console) as update:
                losses = _Losses(tracer, update.say)
                while not stop.requested and time.monotonic() < ends:
                    tracer.run_once(min(_POLL_SECONDS, max(0.001, ends - time.monotonic())))
                    losses.look()
                    update(reports, tracer)
                    if command is not None and command.poll():
                        break
                    if command is None and pids and not any(procfs.is_alive(pid) for pid in pids):
                        ended = "has ended" if len(pids) == 1 else "have ended"
                        print(f"trace-popen: pid {_listed(pids)} {ended}", file=sys.stderr)
                        break
            tracer.drain()
            reports.end(tracer.counters()["records_lost"], reports.count(tracer.ongoing), losses.tell())
        return 0 if command is None else command.wait(stop.requested)


def _what(pids: list[int]) -> str:
    if not pids:
        return "the whole host"
    return f"pid {_listed(pids)} and {'its' if len(pids) == 1 else 'their'} descendants"


def _listed(pids: list[int]) -> str:
    return ", ".join(map(str, pids))


def _sample(options: argparse.Namespace, reports: Reports, stop: _Stop, why: str) -> int:
    """Without eBPF: looks at /proc again and again, and tells what lasts."""
    blind = [why for why in map(snapshot.why_not, options.pid) if why is not None]
    if blind:
        raise UserError(f"{why}; nor can /proc be used: {blind[0]}")
    print(f"trace-popen: {why}; looking at /proc every {options.interval:g} s instead", file=sys.stderr)
    samplers = {pid: snapshot.Sampler(pid, options.min_ms / 1e3) for pid in options.pid}
    ends = math.inf if options.duration is None else time.monotonic() + options.duration

    def look() -> None:
        for sampler in samplers.values():
            for finding in sampler.sample(time.monotonic()):
                reports.snapshot(finding, _stacks(finding) if options.stacks else None)

    while not stop.requested and time.monotonic() < ends and any(map(procfs.is_alive, samplers)):
        look()
        time.sleep(options.interval)
    look()  # a process may have ended between two looks, and its stall with it
    reports.end(lost_records=0, ongoing=0, not_followed={})
    return 0


class _Losses:
    """Says each kind of loss when it begins to count: nobody is to take silence for proof."""

    def __init__(self, tracer: Tracer, say: Callable[[str], None]) -> None:
        self._tracer = tracer
        self._say = say
        self._before = tracer.counters()
        self._told: set[str] = set()
        self._next = 0.0

    def look(self) -> None:
        """Tells what is new, now and then."""
        if time.monotonic() >= self._next:
            self.tell()
            self._next = time.monotonic() + _LOSSES_SECONDS

    def tell(self) -> dict[str, int]:
        """Tells what is new; what was lost since the start, by the metric's name."""
        lost = not_followed(self._before, self._tracer.counters())
        new = {name: number for name, number in lost.items() if number and name not in self._told}
        self._told.update(new)
        for line in loss_lines(new):
            self._say(f"trace-popen: some spawns are not followed: {line}")
        return lost


class _Stop:
    """Ctrl-C and SIGTERM end the run in good order."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def on_signals(self, command: Optional[Command]) -> Iterator[None]:
        def handle(number: int, _frame: Optional[FrameType]) -> None:
            if command is None:
                self.requested = True
            elif number == signal.SIGTERM:
                command.terminate()  # Ctrl-C reaches it by itself; its end ends us

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Update:
    """Keeps the status line."""

    def __init__(self, live: Optional[Live]) -> None:
        self._live = live
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Prints a line on standard error, above the status line that may be there."""
        live = self._live if self._live is not None and self._live.is_started else None
        if live is not None:
            live.stop()
        print(line, file=sys.stderr)
        if live is not None:
            live.start()

    def __call__(self, reports: Reports, tracer: Tracer) -> None:
        if self._live is None:
            return
        lost, ongoing = tracer.counters()["records_lost"], reports.count(tracer.ongoing)
        line = Text(f"{time.monotonic() - self._began:.0f} s", "dim", no_wrap=True, overflow="ellipsis")
        line.append(f"  {count(reports.summary.spawns, 'spawn')}, {count(reports.summary.stalls, 'stall')}")
        if ongoing:
            line.append(f", {ongoing} going on", "bold red")
        line.append(f", {count(lost, 'lost record')}", "red" if lost else "dim")
        self._live.update(line)


@contextlib.contextmanager
def _status_line(console: Optional[Console]) -> Iterator[_Update]:
    if console is None:
        yield _Update(None)
        return
    with Live(console=console, refresh_per_second=4, transient=True, redirect_stderr=False) as live:
        yield _Update(live)
