"""The command line of ``trace-popen``.

Exit status: 0, or the traced COMMAND's own; 3 with --fail-on-stall when there was a stall; 2 for what the
user can mend, with one line on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Optional

from agent.cli.arguments import agent_parser, trace_parser
from agent.cli.command import Command
from agent.errors import UserError
from agent.host import procfs
from agent.tracing.prepared import Prepared, TracerOptions

__all__ = ["main"]


def main(argv: Optional[Sequence[str]] = None) -> NoReturn:
    """Runs trace-popen and exits."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _agent(arguments[1:]) if arguments[:1] == ["agent"] else _trace(arguments)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"trace-popen: {line}", file=sys.stderr)
        status = error.status
    except BrokenPipeError:  # the reader of our output has had enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except KeyboardInterrupt:  # before there was anything to end in good order
        status = 128 + signal.SIGINT
    sys.exit(status)


def _agent(arguments: list[str]) -> int:
    options = agent_parser().parse_args(arguments)
    path = Path(options.config) if options.config else None
    if options.check:
        return _check(path, options.set)
    with Prepared() as prepared:
        from agent.settings import agentfile  # pydantic, while the compiler gets ready

        def read() -> agentfile.Config:
            return agentfile.load(path, os.environ, options.set)

        settings = read()
        logging.basicConfig(level=settings.log.level.upper(), format="%(levelname)s %(message)s")
        prepared.begin(TracerOptions.of(settings))
        from agent.serve import daemon  # the web server and the like, while it compiles

        return daemon.run(settings, read, prepared)


def _check(path: Optional[Path], set: Sequence[str]) -> int:
    from agent.settings import agentfile, webfile  # ssl only where it is used

    settings = agentfile.load(path, os.environ, set)
    if settings.web.config_file:
        webfile.load(Path(settings.web.config_file))
    print(f"{path or 'built-in defaults'}: OK")
    return 0


def _trace(arguments: list[str]) -> int:
    command_line: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command_line = arguments[:at], arguments[at + 1 :]
        if not command_line:
            raise UserError("a COMMAND is expected after '--'")
    options = trace_parser().parse_args(arguments)
    wrong = _contradiction(options, command_line)
    if wrong is not None:
        raise UserError(wrong)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="trace-popen: %(message)s",
    )
    with contextlib.ExitStack() as cleanup:
        try:
            # Made before there is any thread that the fork would lose.
            command = cleanup.enter_context(Command(command_line)) if command_line else None
        except OSError as error:
            raise UserError(f"fork: {error.strerror}") from error
        prepared = None
        if not options.replay and not options.snapshot:
            prepared = cleanup.enter_context(Prepared())
            prepared.begin(_tracer_options(options, options.pid or ([command.pid] if command else [])))
        from agent.cli import run  # rich and the like, while the probes are compiled

        return run.run(options, command, prepared)


def _tracer_options(options: argparse.Namespace, pids: Sequence[int]) -> TracerOptions:
    return TracerOptions(
        min_ns=int(options.min_ms * 1e6), targets=tuple(pids), every=True, stacks=options.stacks
    )


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
