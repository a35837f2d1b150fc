# SPDX-License-Identifier: Apache-2.0
"""One run of trace-popen: opens the files, then traces, takes a snapshot or replays.

Exit status: as in agent.cli.main.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, Optional

from rich.console import Console

from agent.cli import session
from agent.cli.command import Command
from agent.cli.display import Display, StatusLine
from agent.cli.files import OutputFile
from agent.cli.livetable import LiveTable, keyboard
from agent.cli.outputs import Drawing, JsonLines, Lines, Reports, Sink, Text, html, text_console, trace
from agent.errors import UserError
from agent.filter import Filter
from agent.host.identity import running_containers
from agent.host.privileges import Capability
from agent.render.github import workflow_commands
from agent.render.junit import junit
from agent.render.verdict import verdict_lines
from agent.reports.gate import DEFAULT_MAX_STALL_MS, DEFAULT_STATUS, Gate
from agent.reports.objects import command_object, run_object
from agent.reports.replay import read_report
from agent.reports.types import RunObject
from agent.tracing.prepared import Prepared

__all__ = ["run"]

_STANDARD_OUTPUT = "-"
_REPLACE_FILES = (Capability.DAC_OVERRIDE, Capability.FOWNER)


def run(
    options: argparse.Namespace,
    words: Sequence[str],
    command: Optional[Command],
    prepared: Optional[Prepared],
) -> int:
    """Carry out the options; return the exit status.

    words: the options as they were given.
    command: the command to trace, if any.
    prepared: the probes being compiled, or None for a snapshot or a replay.
    """
    output = _default_output(options, command)
    if isinstance(output, io.TextIOWrapper):
        output.reconfigure(errors="backslashreplace")  # a comm may not fit the locale's encoding
    gate = Gate(options.max_stall_ms or DEFAULT_MAX_STALL_MS)
    followed: list[OutputFile] = []
    with contextlib.ExitStack() as cleanup:
        try:
            filter = _filter(options)
            if options.output not in (None, _STANDARD_OUTPUT):
                output = _open(options.output, cleanup, followed)
            saved = [JsonLines(_open(options.report, cleanup, followed))] if options.report else []
            pages = [
                (cleanup.enter_context(contextlib.closing(OutputFile(path))), draw)
                for path, draw in (
                    (options.html, html),
                    (options.trace, trace),
                    (options.junit, lambda _collection: junit(gate)),
                )
                if path
            ]
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from error
        console = text_console(output)
        shown = JsonLines(output) if options.json else Text(console, options.steps, options.each)
        drawings = [Drawing(file, draw) for file, draw in pages]
        sinks: list[Sink] = [shown, *saved, *drawings, gate]
        display: Display = StatusLine(_status_console(options, console, command))
        if isinstance(shown, Text) and prepared is not None and _may_show_table(options, command):
            keys = keyboard(console)
            if keys is not None:
                cleanup.callback(os.close, keys)
                display = table = LiveTable(console, keys, shown)
                sinks.append(table)
        files = [*followed, *(file for file, _draw in pages)]
        # What a file needs to get its name, after the start or at the end.
        keep = _REPLACE_FILES if any(file.is_in_foreign_folder for file in files) else ()

        def started() -> None:
            for file in followed:
                file.publish()

        try:
            if options.replay:
                status = _replay(Path(options.replay), sinks)
            else:
                begin = functools.partial(_run_object, options, words, command)
                reports = Reports(sinks, options.all, filter, begin)
                status = _live(options, reports, output, command, prepared, display, keep, started)
            started()
            if isinstance(shown, Text):
                shown.finish()
            for drawing in drawings:
                drawing.finish()
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise UserError(f"{where}{error.strerror}: the reports cannot be written") from error
        failures = [sink.failure for sink in sinks if isinstance(sink, Lines) and sink.failure is not None]
        if failures:
            raise UserError("\n".join(failures))
        if options.github:
            for line in workflow_commands(gate, is_error=options.fail_on_stall):
                print(line, file=sys.stderr)
        return _judged(gate, status, options.exit_code or DEFAULT_STATUS) if options.fail_on_stall else status


def _run_object(options: argparse.Namespace, words: Sequence[str], command: Optional[Command]) -> RunObject:
    traced = None if command is None else command_object(command.words, options.record_arguments)
    return run_object(words, options.pid, traced)


def _live(
    options: argparse.Namespace,
    reports: Reports,
    output: IO[str],
    command: Optional[Command],
    prepared: Optional[Prepared],
    display: Display,
    keep: Collection[Capability],
    started: Callable[[], None],
) -> int:
    if prepared is None:
        return _snapshot(options, reports, output)
    return session.run(options, reports, command, prepared, display, keep, started)


def _judged(gate: Gate, status: int, failed: int) -> int:
    """The exit status with the gate: ``failed`` if it fails, unless COMMAND has failed, which counts more."""
    for line in verdict_lines(gate):
        print(f"trace-popen: {line}", file=sys.stderr)
    if not gate.fails:
        return status
    if status:
        print(f"trace-popen: the exit status is that of COMMAND: {status}", file=sys.stderr)
    return status or failed


def _replay(path: Path, sinks: Sequence[Sink]) -> int:
    for report in read_report(path, lambda warning: print(f"trace-popen: {warning}", file=sys.stderr)):
        for sink in sinks:
            sink.write(report)
    return 0


def _filter(options: argparse.Namespace) -> Filter:
    """The filter.  Raises UserError if it names a container that nothing runs in, unless that is hidden."""
    filter = Filter(options.comm, options.user, options.container)
    running = running_containers() if options.container and not options.replay else None
    unmatched = [] if running is None else filter.unmatched(running)
    if unmatched:
        raise UserError(f"--container {unmatched[0]!r}: no running container or pod has this ID")
    return filter


def _default_output(options: argparse.Namespace, command: Optional[Command]) -> IO[str]:
    """Standard output; with a COMMAND, to which that belongs, standard error, as strace and time do."""
    return sys.stdout if command is None or options.output == _STANDARD_OUTPUT else sys.stderr


def _open(path: str, cleanup: contextlib.ExitStack, opened: list[OutputFile]) -> IO[str]:
    """A file that readers can follow: the reports are written to it as they are made.

    It is published when tracing starts.  If that fails, an empty file is not published.
    """
    file = cleanup.enter_context(contextlib.closing(OutputFile(path)))
    stream = file.text()
    opened.append(file)

    def close() -> None:
        with contextlib.suppress(OSError):  # a write error has been reported already
            stream.flush()
            if os.fstat(stream.fileno()).st_size:
                file.publish()
        with contextlib.suppress(OSError):
            stream.close()

    cleanup.callback(close)
    return stream


def _snapshot(options: argparse.Namespace, reports: Reports, output: IO[str]) -> int:
    sentences = session.take_snapshot(options.pid, reports, options.stacks)
    reports.begin()
    for sentence in sentences:
        if not options.json:
            print(sentence, file=output)
    return 0


def _may_show_table(options: argparse.Namespace, command: Optional[Command]) -> bool:
    """A traced COMMAND has the terminal to itself; the options print line by line."""
    return not (command is not None or options.no_tui or options.each or options.all or options.debug)


def _status_console(
    options: argparse.Namespace, console: Console, command: Optional[Command]
) -> Optional[Console]:
    """The terminal for the status line: that of the reports, else standard error, else None.

    A traced COMMAND has the terminal to itself.
    """
    if command is not None:
        return None
    if console.is_terminal and not options.json:
        return console
    errors = Console(stderr=True)
    return errors if errors.is_terminal and not console.is_terminal else None
