"""The command line of ``trace-popen``.

Exit status: 0, or the traced COMMAND's own; 3 with --fail-on-stall when there was a stall; 2 for what the
user can mend, with one line on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn, Optional

from rich.console import Console

from agent import config, procfs, session
from agent.arguments import USAGE_ERROR, agent_parser, trace_parser
from agent.command import Command, CommandError
from agent.filter import Filter
from agent.outputs import Drawing, JsonLines, Lines, Reports, Sink, Text, html, text_console, trace
from agent.replay import ReplayError, read_report

__all__ = ["main"]

_STALLED = 3


def main(argv: Optional[Sequence[str]] = None) -> NoReturn:
    """Runs trace-popen and exits."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _agent(arguments[1:]) if arguments[:1] == ["agent"] else _trace(arguments)
    except BrokenPipeError:  # the reader of our output has had enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except KeyboardInterrupt:  # before there was anything to end in good order
        status = 128 + signal.SIGINT
    sys.exit(status)


def _fail(message: str) -> int:
    for line in message.splitlines():
        print(f"trace-popen: {line}", file=sys.stderr)
    return USAGE_ERROR


def _agent(arguments: list[str]) -> int:
    options = agent_parser().parse_args(arguments)
    path = Path(options.config) if options.config else None

    def read() -> config.Config:
        return config.load(path, os.environ, options.set)

    try:
        settings = read()
        if options.check and settings.web.config_file:
            from agent import webconfig  # ssl only where it is used

            webconfig.load(Path(settings.web.config_file))
    except config.ConfigError as error:
        return _fail(str(error))
    if options.check:
        print(f"{options.config or 'built-in defaults'}: OK")
        return 0
    from agent import daemon  # the web server and bcc only where they are used

    try:
        return daemon.run(settings, read)
    except daemon.DaemonError as error:
        return _fail(str(error))


def _trace(arguments: list[str]) -> int:
    command_line: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command_line = arguments[:at], arguments[at + 1 :]
        if not command_line:
            return _fail("a COMMAND is expected after '--'")
    options = trace_parser().parse_args(arguments)
    wrong = _contradiction(options, command_line)
    if wrong is not None:
        return _fail(wrong)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="trace-popen: %(message)s",
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a comm is not always in the locale's encoding
    with contextlib.ExitStack() as cleanup:
        try:
            filter = Filter(options.comm, [_uid(user) for user in options.user], options.container)
            output = _open(options.output, cleanup) if options.output else sys.stdout
            kept = [JsonLines(_open(options.report, cleanup))] if options.report else []
            drawings = [
                Drawing(cleanup.enter_context(Path(path).open("wb", buffering=0)), draw)
                for path, draw in ((options.html, html), (options.trace, trace))
                if path
            ]
            # Made before bcc is loaded: the fork is small, and has no threads to lose.
            command = cleanup.enter_context(Command(command_line)) if command_line else None
        except OSError as error:
            return _fail(f"{error.filename or 'fork'}: {error.strerror}")
        except (CommandError, ValueError) as error:
            return _fail(str(error))
        console = text_console(output)
        shown = JsonLines(output) if options.json else Text(console, options.steps)
        sinks: list[Sink] = [shown, *kept, *drawings]
        try:
            if options.replay:
                status = _replay(Path(options.replay), sinks)
            else:
                reports = Reports(sinks, options.all, filter)
                status = _live(options, reports, output, command, console)
            for drawing in drawings:
                drawing.finish()
        except (session.SessionError, ReplayError) as error:
            return _fail(str(error))
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"{where}{error.strerror}: the reports cannot be written")
        for sink in sinks:
            if isinstance(sink, Lines) and sink.failure is not None:
                status = _fail(sink.failure)
        return status


def _live(
    options: argparse.Namespace,
    reports: Reports,
    output: IO[str],
    command: Optional[Command],
    console: Console,
) -> int:
    if options.snapshot:
        status = _snapshot(options, reports, output)
    else:
        status = session.run(options, reports, command, _status_console(options, console, command))
    if options.fail_on_stall and reports.longest_stall_ns > (options.max_stall_ms or 0) * 1e6:
        return _STALLED
    return status


def _replay(path: Path, sinks: Sequence[Sink]) -> int:
    for report in read_report(path, lambda warning: print(f"trace-popen: {warning}", file=sys.stderr)):
        for sink in sinks:
            sink.write(report)
    return 0


def _contradiction(options: argparse.Namespace, command_line: list[str]) -> Optional[str]:
    """What is wrong with options that are right one by one; one line."""
    if options.pid and command_line:
        return "--pid and a COMMAND cannot be traced at once: leave one out"
    if options.replay and (options.pid or command_line or options.snapshot):
        return "--replay traces nothing: leave out --pid, --snapshot and COMMAND"
    if options.snapshot and not options.pid:
        return "--snapshot needs --pid PID"
    if options.max_stall_ms and not options.fail_on_stall:
        return "--max-stall-ms needs --fail-on-stall"
    if options.steps and options.json:
        return "--steps is a table, and --json has the steps as they are: leave one out"
    for pid in options.pid:
        if not procfs.is_alive(pid):
            return f"there is no process with pid {pid}"
    return None


def _uid(user: str) -> int:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {user!r}") from None


def _open(path: str, cleanup: contextlib.ExitStack) -> IO[str]:
    file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115

    def close() -> None:
        with contextlib.suppress(OSError):  # what could not be written was told when it was
            file.close()

    cleanup.callback(close)
    return file


def _snapshot(options: argparse.Namespace, reports: Reports, output: IO[str]) -> int:
    found = session.take_snapshot(options.pid, reports, options.stacks)
    if not found and not options.json:
        what = "no thread of it is blocked on an errpipe now"
        print(f"pid {', '.join(map(str, options.pid))}: {what}", file=output)
    return 0


def _status_console(
    options: argparse.Namespace, console: Console, command: Optional[Command]
) -> Optional[Console]:
    """Where the status line can stand: where the reports go, or else on standard error.

    A COMMAND has the terminal for itself.
    """
    if command is not None:
        return None
    if console.is_terminal and not options.json:
        return console
    errors = Console(stderr=True)
    return errors if errors.is_terminal and not console.is_terminal else None
