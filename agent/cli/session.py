# SPDX-License-Identifier: Apache-2.0
"""Snapshot, live tracing (or polling /proc where eBPF is unavailable), and the summary of a run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import math
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Optional, Union

from agent import snapshot
from agent.cli.command import Command
from agent.cli.display import Display
from agent.cli.following import Following
from agent.cli.outputs import Reports
from agent.errors import UserError
from agent.host import privileges, procfs, pyspy
from agent.host.privileges import Capability
from agent.model import Cause
from agent.render.liverows import Status
from agent.reports.exposures import Exposures
from agent.reports.losses import loss_lines, not_followed
from agent.tracing.prepared import Prepared, TraceError
from agent.tracing.tracer import Tracer

__all__ = ["run", "take_snapshot"]

_POLL_SECONDS = 0.1
_LOSSES_SECONDS = 1.0  # between two readings of all counters, which take a millisecond each


def take_snapshot(
    pids: list[int], reports: Reports, with_stacks: bool, following: Optional[Following] = None
) -> list[str]:
    """Report what these processes wait for now, from /proc.

    Return a sentence for each process that waits for nothing that can be reported.  Raises UserError.
    following: follows what is reported.
    """
    nothing = []
    for pid in pids:
        obstacle = snapshot.why_not(pid)
        if obstacle is not None:
            raise UserError(obstacle)
        look = snapshot.look(pid)
        reported: list[Union[snapshot.Finding, snapshot.Wait]] = [
            *(one for one in look.stalls if reports.snapshot(one, _stacks(one) if with_stacks else None)),
            *(one for one in look.waits if reports.wait(one)),
        ]
        if following is not None:
            following.add(reported)
        if look.nothing is not None:
            nothing.append(look.nothing)
    return nothing


def _stacks(finding: snapshot.Finding) -> pyspy.Taken:
    if finding.state == "ended":
        return pyspy.Taken(missing=("the stall ended before py-spy could take Python stacks",))
    holders = [(holder.pid, Cause(holder.cause)) for holder in finding.holders]
    taken = pyspy.take_now(finding.pid, finding.tid, holders)
    if taken.reader is None or procfs.is_blocked_on(finding.pid, finding.tid, finding.read_fd):
        return taken
    missing = (*taken.missing, "reader: no longer blocked when py-spy took its stack")
    return dataclasses.replace(taken, reader=None, missing=missing)


def run(
    options: argparse.Namespace,
    reports: Reports,
    command: Optional[Command],
    prepared: Prepared,
    display: Display,
    keep: Collection[Capability],
    started: Callable[[], None],
) -> int:
    """Trace until the end that the options set; return the exit status.  Raises UserError.

    display: what the terminal shows meanwhile.
    keep: capabilities that are needed after the start.  started: called when reports can come.
    """
    pids = list(prepared.options.targets)
    following = Following(reports.found)
    if options.pid:
        with contextlib.suppress(UserError):  # tracing may work where /proc cannot be read
            take_snapshot(options.pid, reports, options.stacks, following)
    stop = _Stop()
    with stop.on_signals(command):
        try:
            tracer = Tracer(prepared, reports.stall, reports.spawn, reports.stuck)
        except TraceError as error:
            if error.no_ebpf and options.pid:
                started()
                return _sample(options, reports, following, stop, str(error))
            raise
        with tracer:
            # Our SIGTERM must reach a COMMAND that runs as another user by now (su).
            privileges.drop(tracer.counters, keep if command is None else (Capability.KILL, *keep))
            failure = tracer.start()
            if failure is not None:
                raise UserError(f"the self-test failed, so nothing is traced: {failure}")
            started()
            if command is not None:
                command.release()
            else:
                print(f"trace-popen: tracing {_target(pids)}; press Ctrl-C to stop", file=sys.stderr)
            reports.begin()
            reports.summary.began = time.monotonic_ns()
            if tracer.counts_exposures:
                reports.summary.exposures = Exposures()
            ends = math.inf if options.duration is None else time.monotonic() + options.duration
            with display:
                losses = _Losses(tracer, display.say)
                status = functools.partial(_status, reports, tracer, losses, _target(pids))
                while not (stop.requested or display.quit) and time.monotonic() < ends:
                    tracer.run_once(min(_POLL_SECONDS, max(0.001, ends - time.monotonic())))
                    losses.poll()
                    following.poll(tracer.ongoing)
                    display.update(status)
                    if command is not None and command.poll():
                        break
                    if command is None and pids and not any(procfs.is_alive(pid) for pid in pids):
                        exited = "has exited" if len(pids) == 1 else "have exited"
                        display.say(f"trace-popen: pid {_listed(pids)} {exited}")
                        break
            tracer.drain()
            following.finish(tracer.ongoing)
            reports.end(tracer.counters()["records_lost"], tracer.ongoing, losses.report())
        return 0 if command is None else command.wait(stop.requested)


def _status(reports: Reports, tracer: Tracer, losses: _Losses, target: str) -> Status:
    summary, ongoing = reports.summary, tracer.ongoing
    lost_records, lasting = tracer.counters()["records_lost"], reports.lasting(ongoing)
    return Status(
        seconds=(time.monotonic_ns() - summary.began) / 1e9,
        target=target,
        spawns=summary.spawns,
        stalls=summary.stalls,
        ongoing=reports.count(ongoing),
        p99_ns=summary.spawn_p99_ns(lost_records),
        stalled_ns=summary.stalled_ns + int(sum(lasting.values()) * 1e9),
        lost_records=lost_records,
        losses=tuple(loss_lines(losses.read())),
        lasting=lasting,
    )


def _target(pids: list[int]) -> str:
    if not pids:
        return "the whole host"
    return f"pid {_listed(pids)} and {'its' if len(pids) == 1 else 'their'} descendants"


def _listed(pids: list[int]) -> str:
    return ", ".join(map(str, pids))


def _sample(
    options: argparse.Namespace, reports: Reports, following: Following, stop: _Stop, why: str
) -> int:
    """Poll /proc, where eBPF is unavailable, and report stalls that last."""
    obstacles = [obstacle for obstacle in map(snapshot.why_not, options.pid) if obstacle is not None]
    if obstacles:
        raise UserError(f"{why}, and /proc cannot be used either: {obstacles[0]}")
    print(f"trace-popen: {why}; polling /proc every {options.interval:g} s instead", file=sys.stderr)
    reports.begin()
    samplers = {pid: snapshot.Sampler(pid, options.min_ms / 1e3) for pid in options.pid}
    ends = math.inf if options.duration is None else time.monotonic() + options.duration

    def poll() -> None:
        for sampler in samplers.values():
            for finding in sampler.sample(time.monotonic()):
                reports.snapshot(finding, _stacks(finding) if options.stacks else None)
        following.poll()

    while not stop.requested and time.monotonic() < ends and any(map(procfs.is_alive, samplers)):
        poll()
        time.sleep(options.interval)
    poll()  # reports a stall that ended because its process exited since the last poll
    following.finish()
    reports.end(lost_records=0, ongoing=(), not_followed={})
    return 0


class _Losses:
    """Reports each kind of loss when it first occurs, so that no output is not mistaken for no stalls."""

    def __init__(self, tracer: Tracer, say: Callable[[str], None]) -> None:
        self._tracer = tracer
        self._say = say
        self._before = tracer.counters()
        self._reported: set[str] = set()
        self._next = 0.0

    def poll(self) -> None:
        """Report new kinds of loss, at most once per _LOSSES_SECONDS."""
        if time.monotonic() >= self._next:
            self.report()
            self._next = time.monotonic() + _LOSSES_SECONDS

    def read(self) -> dict[str, int]:
        """Return what was lost since the start, by the metric's name."""
        return not_followed(self._before, self._tracer.counters())

    def report(self) -> dict[str, int]:
        """Report new kinds of loss; return what was lost since the start, by the metric's name."""
        lost = self.read()
        new = {name: number for name, number in lost.items() if number and name not in self._reported}
        self._reported.update(new)
        for line in loss_lines(new):
            self._say(f"trace-popen: some spawns are not followed: {line}")
        return lost


class _Stop:
    """Makes Ctrl-C and SIGTERM end the run in an orderly way."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def on_signals(self, command: Optional[Command]) -> Iterator[None]:
        def handle(number: int, _frame: Optional[FrameType]) -> None:
            if command is None:
                self.requested = True
            elif number == signal.SIGTERM:
                command.terminate()  # Ctrl-C reaches it directly; we exit after it

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
