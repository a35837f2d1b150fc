# SPDX-License-Identifier: Apache-2.0
"""Where the reports of one run go: a terminal, pipe or file as they are made, a page or trace at the end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Optional, Protocol, Union, cast

from rich.console import Console

from agent.cli.files import OutputFile
from agent.clock import Clock
from agent.diagnosis import spawn_steps
from agent.filter import Filter
from agent.host.identity import identify
from agent.host.pyspy import Taken
from agent.model import Spawn, Stall, StuckExec
from agent.render.kindtable import KindTable
from agent.render.steptable import step_table
from agent.render.text import end_line, run_line, spawn_line, stall_text, summary_text
from agent.render.wait_text import WaitText, wait_end_line
from agent.render.words import count
from agent.reports.collection import Collection
from agent.reports.kinds import Kinds, stall_key
from agent.reports.objects import (
    Summary,
    exposure_objects,
    run_object,
    snapshot_object,
    spawn_object,
    stall_id,
    stall_object,
)
from agent.reports.types import ReportObject, RunObject, StallObject, WaitObject
from agent.snapshot import Finding, Wait

__all__ = ["Drawing", "JsonLines", "Lines", "Reports", "Sink", "Text", "html", "text_console", "trace"]

_MAX_HELD = 2000
"""Reports kept while the terminal shows the live table; there are at most half as many kinds of stalls."""


class Sink(Protocol):
    """Receives the JSON object of each report as it is made."""

    def write(self, report: ReportObject) -> None: ...


class Lines:
    """A sink that writes and flushes each report at once.

    A write error (such as a full disk) does not end the run: ``failure`` then gives the reason, on one line.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.failure: Optional[str] = None
        self._stream = stream

    def write(self, report: ReportObject) -> None:
        """Write one report, unless an earlier write failed."""
        self._try(lambda: self._put(report))

    def _try(self, put: Callable[[], None]) -> None:
        if self.failure is not None:
            return
        try:
            put()
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failure = f"{self._stream.name}: {error.strerror}: the reports in it are incomplete"

    def _put(self, report: ReportObject) -> None:
        raise NotImplementedError


class JsonLines(Lines):
    """Writes one JSON object per line."""

    def _put(self, report: ReportObject) -> None:
        self._stream.write(json.dumps(report) + "\n")


class Text(Lines):
    """Writes text for people: the first stall of each kind, and a table of all kinds at the end.

    each: every stall.
    """

    def __init__(self, console: Console, steps: bool, each: bool = False) -> None:
        super().__init__(console.file)
        self._console = console
        self._steps = steps
        self._each = each
        self._kinds = Kinds()
        self._run: Optional[RunObject] = None
        self._left_out = 0
        self._in_progress: set[object] = set()
        self._held: Optional[dict[object, ReportObject]] = None
        self._released: set[object] = set()
        self._not_held = 0

    def hold(self) -> None:
        """Keep what would be printed: the terminal shows something else."""
        self._held = {}

    def release(self, lasting: Mapping[Any, float]) -> None:
        """Print what was kept: each stall as it was reported last.

        lasting: the seconds so far of those that are still in progress, by ``stall_key``.
        """
        held, self._held = self._held or {}, None
        for key, report in held.items():
            if report["type"] == "stall":
                self._released.add(key)
                if report["state"] == "ongoing" and key in lasting:
                    report = {**report, "stall_seconds": lasting[key]}
            self.write(report)
        if self._not_held:
            line = f"and {count(self._not_held, 'more report')} of waits that are not stalls"
            self._try(lambda: self._console.print(line))
            self._not_held = 0

    def finish(self) -> None:
        """Print what no summary has printed: where the report comes from, and stalls that were left out."""
        self._try(self._print_rest)

    def _print_rest(self) -> None:
        self._print_run(None)
        if self._left_out:
            self._print_kinds(all_ended=False)

    def _print_run(self, until: Optional[str]) -> None:
        if self._run is not None:
            self._console.print(run_line(self._run, until), crop=False)
            self._run = None

    def _print_kinds(self, all_ended: bool) -> None:
        self._left_out = 0
        kinds = self._kinds.worst_first()
        if kinds:
            self._console.print(KindTable(kinds, all_ended), crop=False)

    def _put(self, report: ReportObject) -> None:
        if report["type"] == "exposure":
            pass  # the summary has their numbers
        elif report["type"] == "run":
            self._print_run(None)
            self._run = report
        elif self._held is not None and report["type"] != "stall":
            if len(self._held) < _MAX_HELD:
                self._held[len(self._held)] = report
            else:
                self._not_held += 1
        elif report["type"] == "summary":
            self._console.print(summary_text(report))
            self._print_run(report.get("time"))
            self._kinds.last_until_end(report)
            self._print_kinds(all_ended=not report["ongoing"])
        elif report["type"] == "spawn":
            self._console.print(spawn_line(report), soft_wrap=True)
        elif report["type"] == "wait" and report.get("state") == "ended":
            self._console.print(wait_end_line(report), soft_wrap=True)
        elif report["type"] == "wait":
            self._console.print(WaitText(report), crop=False)
        else:
            self._put_stall(report)

    def _put_stall(self, stall: StallObject) -> None:
        key = stall_key(stall)
        if key in self._released:
            self._released.discard(key)
            self._print_stall(stall)
            return
        is_first = self._kinds.add(stall)
        if self._held is not None and (is_first or key in self._held):
            self._held[key] = stall
        elif is_first or self._each:
            self._print_stall(stall)
        elif key in self._in_progress:
            self._in_progress.discard(key)
            self._console.print(end_line(stall), soft_wrap=True)
        else:
            self._left_out += 1

    def _print_stall(self, stall: StallObject) -> None:
        self._console.print(stall_text(stall, steps=not self._steps), crop=False)
        table = step_table(stall) if self._steps else None
        if table is not None:
            self._console.print(table, crop=False)
        if stall["state"] == "ongoing":
            self._in_progress.add(stall_key(stall))


class Drawing:
    """Keeps the objects (the longest stalls, if there are too many) and draws them at the end."""

    def __init__(self, file: OutputFile, draw: Callable[[Collection], str]) -> None:
        self._collection = Collection()
        self._file = file
        self._draw = draw

    def write(self, report: ReportObject) -> None:
        """Keep a report."""
        self._collection.add(report)

    def finish(self) -> None:
        """Write the whole file and put it in its place, or leave none: half a page looks complete.

        Raises OSError.
        """
        left = self._draw(self._collection).encode()
        with self._file.binary() as stream:
            try:
                while left:
                    left = left[stream.write(left) :]
            except OSError as error:
                with contextlib.suppress(OSError):  # a device cannot be truncated
                    stream.truncate(0)
                raise OSError(error.errno, error.strerror, self._file.path) from error
        self._file.publish()


def html(collection: Collection) -> str:
    """The collection as an HTML page."""
    from agent.render.run_html import html_report

    return html_report(collection)


def trace(collection: Collection) -> str:
    """The collection as a trace file for Perfetto."""
    from agent.render.perfetto import trace_events

    return json.dumps(trace_events(collection))


class Reports:
    """Makes the object of each stall that passes the filter, counts it, and passes it to each sink.

    every: report spawns too, not only stalls.
    make_run: makes the object of the run when it begins.
    """

    def __init__(
        self,
        sinks: list[Sink],
        every: bool = False,
        filter: Optional[Filter] = None,
        make_run: Callable[[], RunObject] = run_object,
    ) -> None:
        self.summary = Summary()
        self._sinks = sinks
        self._every = every
        self._make_run = make_run
        self._has_begun = False
        self._filter = filter or Filter()
        self._clock = Clock()
        self._passed: set[int] = set()
        self._found: set[str] = set()
        self._found_ended: set[str] = set()
        self._waiting: set[str] = set()

    def begin(self) -> None:
        """Report that the run begins, unless an earlier report has done so."""
        if not self._has_begun:
            self._has_begun = True
            self._write(self._make_run())

    def stall(self, stall: Stall) -> None:
        """Report a stall, in progress or ended."""
        if not self._filter.passes_stall(stall):
            return
        self._passed.add(stall.spawn.id)
        id_ = stall_id(stall)
        if id_ in self._found_ended or (stall.ended is None and id_ in self._found):
            return  # reported from /proc
        if stall.ended is not None and id_ in self._found:
            self._end_found(id_)
        self.summary.add_stall(stall)
        self._write(stall_object(stall, self._clock))

    def count(self, stalls: Iterable[Stall] = ()) -> int:
        """Return the number of stalls in progress: these, if they pass the filter, and those from /proc."""
        passed = {stall_id(stall) for stall in stalls if self._filter.passes_stall(stall)}
        return len((passed | self._found) - self._found_ended)

    def spawn(self, spawn: Spawn) -> None:
        """Count an ended spawn, and report it if ``every``."""
        passed = spawn.id in self._passed  # with its stall, when its parent could still be identified
        self._passed.discard(spawn.id)
        if not passed and not self._filter.passes(
            spawn.comm, lambda: spawn.identity or identify(spawn.pid, spawn.created)
        ):
            return
        self.summary.add_spawn(spawn)
        for exposed in exposure_objects(spawn, self._clock):
            self._write(exposed)
        if self._every:
            self._write(spawn_object(spawn, spawn_steps(spawn), self._clock))

    def snapshot(self, finding: Finding, stacks: Optional[Taken] = None) -> bool:
        """Report a stall found in /proc, in progress or ended; return whether it is followed: it passes.

        stacks: its stacks, None if not requested.
        """
        is_known, has_ended = finding.id in self._found, finding.state == "ended"
        if finding.id in self._found_ended or (is_known and not has_ended):
            return False  # it has been reported
        if not is_known and not self._passes(finding):
            return False
        now = time.monotonic_ns()
        pids = {finding.pid, *(holder.pid for holder in finding.holders if holder.pid is not None)}
        report = snapshot_object(finding.to_object(), {pid: identify(pid, now) for pid in pids}, stacks)
        if report["id"] is not None:
            if has_ended:
                self._end_found(report["id"])
            else:
                self._found.add(report["id"])
        self.summary.add_sampled(report)
        self._write(report)
        return True

    def wait(self, wait: Wait) -> bool:
        """Report a wait that is not a stall, found in /proc, or its end; return whether it passes."""
        if wait.ended is not None:
            if wait.id not in self._waiting:
                return False  # the tracer has reported it
            self._waiting.discard(wait.id)
            self.summary.waits += 1
        elif self._passes(wait):
            self._waiting.add(wait.id)
        else:
            return False
        self._write(cast(WaitObject, wait.to_object()))
        return True

    def stuck(self, stuck: StuckExec) -> None:
        """Report an own child that has not called exec for long, or its end."""
        wait = cast(WaitObject, stuck.wait)
        id_, has_ended = stuck.wait["id"], stuck.wait["state"] == "ended"
        if has_ended != (id_ in self._waiting):
            return  # it has been reported from /proc, or does not pass
        spawn = stuck.spawn
        if has_ended:
            self._waiting.discard(id_)
            self.summary.waits += 1
        elif self._filter.passes(spawn.comm, lambda: identify(spawn.pid, spawn.created)):
            self._waiting.add(id_)
        else:
            return
        self._write(wait)

    def found(self, found: Union[Finding, Wait]) -> None:
        """Report the end of what was reported from /proc."""
        if isinstance(found, Wait):
            self.wait(found)
        else:
            self.snapshot(found)

    def lasting(self, stalls: Iterable[Stall]) -> dict[Any, float]:
        """Return how many seconds each of these stalls in progress that passes the filter has lasted.

        The keys are those of ``stall_key``.
        """
        now = time.monotonic_ns()
        return {
            (stall_id(stall), stall.spawn.pid, stall.spawn.tid): (now - stall.began) / 1e9
            for stall in stalls
            if self._filter.passes_stall(stall)
        }

    def end(self, lost_records: int, ongoing: Sequence[Stall], not_followed: Mapping[str, int]) -> None:
        """Report the stalls in progress that have not been reported, and the summary.

        not_followed: as in Summary.
        """
        for stall in ongoing:
            if stall.spawn.id not in self._passed:
                self.stall(stall)
        lasted_ns = int(sum(self.lasting(ongoing).values()) * 1e9)
        self._write(
            self.summary.object(
                lost_records, self.count(ongoing), not_followed, len(self._waiting), lasted_ns
            )
        )

    def _passes(self, found: Union[Finding, Wait]) -> bool:
        return self._filter.passes(found.comm, lambda: identify(found.pid, time.monotonic_ns()))

    def _end_found(self, id_: str) -> None:
        self._found.discard(id_)
        self._found_ended.add(id_)

    def _write(self, report: ReportObject) -> None:
        self.begin()
        for sink in self._sinks:
            sink.write(report)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise instead of exiting with status 1 as rich does when the reader is gone (| head)."""
        raise BrokenPipeError


def text_console(stream: IO[str]) -> Console:
    """A console for reports: as wide as the terminal, or 80 columns in a pipe."""
    return _Console(file=stream, highlight=False)
