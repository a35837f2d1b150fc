# SPDX-License-Identifier: Apache-2.0
"""The command line of ``trace-popen``.

Exit status: 0, or that of the traced COMMAND; that of --exit-code with --fail-on-stall if the gate
fails; 126 or 127 if COMMAND cannot be executed or found; 2 for an error that the user can correct, with one
line on standard error.
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

from agent import snapshot
from agent.cli.arguments import agent_parser, trace_parser
from agent.cli.command import Command
from agent.errors import UserError
from agent.host import procfs
from agent.tracing.prepared import Prepared, TracerOptions

__all__ = ["main"]


def main(argv: Optional[Sequence[str]] = None) -> NoReturn:
    """Run trace-popen and exit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _agent(arguments[1:]) if arguments[:1] == ["agent"] else _trace(arguments)
    except UserError as error:
        with contextlib.suppress(OSError):  # standard error itself may be on a full disk
            for line in str(error).splitlines():
                print(f"trace-popen: {line}", file=sys.stderr)
        status = error.status
    except BrokenPipeError:  # the reader of our output is gone (| head)
        _discard_output()
        status = 128 + signal.SIGPIPE
    except KeyboardInterrupt:  # before the handlers for an orderly end are installed
        status = 128 + signal.SIGINT
    sys.exit(status)


def _discard_output() -> None:
    """Let the interpreter flush its streams at the exit without an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _agent(arguments: list[str]) -> int:
    options = agent_parser().parse_args(arguments)
    path = Path(options.config) if options.config else None
    logging.basicConfig(format="%(levelname)s %(message)s")
    if options.check:
        return _check(path, options.set)
    with Prepared() as prepared:
        from agent.settings import agentfile  # imports yaml while the compiler starts

        def read() -> agentfile.Config:
            return agentfile.load(path, os.environ, options.set)

        settings = read()
        logging.getLogger().setLevel(settings.log.level.upper())
        prepared.begin(TracerOptions.of(settings))
        from agent.serve import daemon  # imports the web server while the probes are compiled

        return daemon.run(settings, read, prepared)


def _check(path: Optional[Path], set: Sequence[str]) -> int:
    from agent.settings import agentfile, webfile  # imports ssl, which only the web server needs

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
            raise UserError("expected a COMMAND after '--'")
    options = trace_parser().parse_args(arguments)
    conflict = _conflict(options, command_line)
    if conflict is not None:
        raise UserError(conflict)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="trace-popen: %(message)s",
    )
    # For pytest --spawnstall.
    variables = {"TRACE_POPEN_REPORT": str(Path(options.report).absolute())} if options.report else {}
    with contextlib.ExitStack() as cleanup:
        try:
            # Forked before there is any other thread, which the fork would lose.
            command = (
                cleanup.enter_context(Command(command_line, options.run_as, variables))
                if command_line
                else None
            )
        except OSError as error:
            raise UserError(f"fork: {error.strerror}") from error
        prepared = None
        if not options.replay and not options.snapshot:
            prepared = cleanup.enter_context(Prepared())
            prepared.begin(_tracer_options(options, options.pid or ([command.pid] if command else [])))
        from agent.cli import run  # imports rich while the probes are compiled

        return run.run(options, arguments, command, prepared)


def _tracer_options(options: argparse.Namespace, pids: Sequence[int]) -> TracerOptions:
    return TracerOptions(
        min_ns=int(options.min_ms * 1e6), targets=tuple(pids), every=True, stacks=options.stacks
    )


def _conflict(options: argparse.Namespace, command_line: list[str]) -> Optional[str]:
    """Why valid options cannot be used together, on one line; None if they can."""
    if options.pid and command_line:
        return "--pid and COMMAND cannot be used together"
    if options.run_as and not command_line:
        return "-u needs COMMAND: it runs COMMAND as that user (--user selects whose stalls are reported)"
    if options.run_as and os.geteuid() != 0:
        return "-u needs root: run trace-popen with sudo"
    if options.replay and (options.pid or command_line or options.snapshot):
        return "--replay cannot be used with --pid, --snapshot or COMMAND"
    if options.snapshot and not options.pid:
        return "--snapshot needs --pid PID"
    if options.max_stall_ms and not options.fail_on_stall:
        return "--max-stall-ms needs --fail-on-stall"
    if options.exit_code and not options.fail_on_stall:
        return "--exit-code needs --fail-on-stall"
    if options.steps and options.json:
        return "--steps and --json cannot be used together: the JSON objects already contain the steps"
    for pid in options.pid:
        if not procfs.is_alive(pid):
            return f"there is no process with pid {pid}"
        kernel_thread = snapshot.kernel_thread(pid)
        if kernel_thread is not None:
            return kernel_thread
    return None
