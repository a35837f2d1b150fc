"""The command line of ``trace-popen``.

Exit status: 0, or the traced COMMAND's own; 2 for what the user can mend, with one line on standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn, Optional

from rich.console import Console
from rich.text import Text

from agent import __version__, config, procfs, snapshot
from agent.command import Command, CommandError
from agent.diagnosis import spawn_steps
from agent.model import Spawn, Stall
from agent.report import Clock, Summary, snapshot_object, spawn_object, stall_object
from agent.text import snapshot_text, spawn_line, stall_text, summary_text

__all__ = ["main"]

_USAGE_ERROR = 2
_POLL_SECONDS = 0.1
_LONGEST = 1e9  # milliseconds, or seconds: 11 days are enough for either

_EXAMPLES = """\
examples:
  trace-popen --pid 1234 --snapshot       it hangs: what is it waiting for? (needs no eBPF)
  trace-popen --pid 1234                  stalls of one process, its threads and descendants, until Ctrl-C
  trace-popen --pid 1234 --duration 30    the same for 30 seconds
  trace-popen -- python3 app.py           run a program under trace, exit with its status
  trace-popen --min-ms 100                stalls of 0.1 s and more on the whole host
  trace-popen --all --json                every spawn, one JSON object a line
  trace-popen agent --config agent.yaml   the agent: Prometheus metrics of the whole host
"""


def main(argv: Optional[Sequence[str]] = None) -> NoReturn:
    """Runs trace-popen and exits."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _agent(arguments[1:]) if arguments[:1] == ["agent"] else _trace(arguments)
    except BrokenPipeError:  # the reader of our output has had enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(_USAGE_ERROR, f"trace-popen: {message} (see {self.prog} --help)\n")


def _fail(message: str) -> int:
    for line in message.splitlines():
        print(f"trace-popen: {line}", file=sys.stderr)
    return _USAGE_ERROR


# -- the agent --


def _agent(arguments: list[str]) -> int:
    parser = _Parser(
        prog="trace-popen agent",
        description="Trace the whole host and serve Prometheus metrics until SIGTERM.",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML; default: all defaults")
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key (repeatable)",
    )
    options = parser.parse_args(arguments)

    def read() -> config.Config:
        return config.load(options.config, os.environ, options.set)

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


# -- trace-popen --


def _parser() -> _Parser:
    parser = _Parser(
        prog="trace-popen",
        usage="trace-popen [options] [--pid PID | -- COMMAND [ARG...]]\n"
        "       trace-popen agent [--config FILE] [--check]",
        description="Find what keeps a process blocked while it starts a program: the foreign processes\n"
        "that hold a copy of the pipe on which it waits for the exec (the errpipe).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-p", "--pid", type=_pid, help="only this process, its threads and its descendants")
    parser.add_argument(
        "--duration", type=_positive, metavar="SECONDS", help="stop after so long (default: Ctrl-C)"
    )
    parser.add_argument(
        "--min-ms", type=_positive, default=10, metavar="N", help="shortest stall shown (default: 10)"
    )
    parser.add_argument(
        "--snapshot", action="store_true", help="with --pid: say what blocks it now, from /proc, and exit"
    )
    parser.add_argument(
        "--interval",
        type=_positive,
        metavar="SECONDS",
        default=0.1,
        help="how often /proc is looked at where there is no eBPF (default: 0.1)",
    )
    parser.add_argument("--all", action="store_true", help="show every spawn, not only stalls")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("-o", dest="output", metavar="FILE", help="write there, not to standard output")
    parser.add_argument("--debug", action="store_true", help="say what the program itself does")
    parser.add_argument("--version", action="version", version=f"trace-popen {__version__}")
    return parser


def _pid(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no pid")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    if value > _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    return value


def _trace(arguments: list[str]) -> int:
    command_line: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command_line = arguments[:at], arguments[at + 1 :]
        if not command_line:
            return _fail("a COMMAND is expected after '--'")
    options = _parser().parse_args(arguments)
    if options.pid is not None and command_line:
        return _fail("--pid and a COMMAND cannot be traced at once: leave one out")
    if options.snapshot and options.pid is None:
        return _fail("--snapshot needs --pid PID")
    if options.pid is not None and not procfs.is_alive(options.pid):
        return _fail(f"there is no process with pid {options.pid}")
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="trace-popen: %(message)s",
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a comm is not always in the locale's encoding
    with contextlib.ExitStack() as cleanup:
        try:
            output = (
                cleanup.enter_context(Path(options.output).open("w", encoding="utf-8"))
                if options.output
                else sys.stdout
            )
            # Made before bcc is loaded: the fork is small, and has no threads to lose.
            command = cleanup.enter_context(Command(command_line)) if command_line else None
        except OSError as error:
            return _fail(f"{error.filename or 'fork'}: {error.strerror}")
        except CommandError as error:
            return _fail(str(error))
        return _run(options, output, command)


def _run(options: argparse.Namespace, output: IO[str], command: Optional[Command]) -> int:
    from agent.tracer import TraceError, Tracer, TracerOptions

    pid: Optional[int] = options.pid if command is None else command.pid
    printer = _Printer(output, as_json=options.json, every=options.all)
    if options.pid is not None:
        blind = snapshot.why_not(options.pid)
        if options.snapshot and blind is not None:
            return _fail(blind)
        hanging = snapshot.take(options.pid)
        for found in hanging:
            printer.snapshot(found)
        if options.snapshot:
            if not hanging and not options.json:
                print(f"pid {pid}: no thread of it is blocked on an errpipe now", file=output)
            return 0
    stop = _Stop()
    with stop.on_signals(command):
        try:
            tracer = Tracer(
                TracerOptions(
                    min_ns=int(options.min_ms * 1e6),
                    targets=() if pid is None else (pid,),
                    every=True,
                ),
                printer.stall,
                printer.spawn,
            )
        except TraceError as error:
            if error.no_ebpf and options.pid is not None:
                return _sample(options, printer, stop, str(error))
            return _fail(str(error))
        with tracer:
            wrong = tracer.start()
            if wrong is not None:
                return _fail(f"the self-test failed, nothing is traced: {wrong}")
            if command is not None:
                command.release()
            else:
                what = "the whole host" if pid is None else f"pid {pid} and its descendants"
                print(f"trace-popen: tracing {what}, Ctrl-C ends it", file=sys.stderr)
            printer.summary.began = time.monotonic_ns()
            ends = math.inf if options.duration is None else time.monotonic() + options.duration
            while not stop.requested and time.monotonic() < ends:
                tracer.run_once(min(_POLL_SECONDS, max(0.001, ends - time.monotonic())))
                if command is not None and command.poll():
                    break
                if command is None and pid is not None and not procfs.is_alive(pid):
                    print(f"trace-popen: pid {pid} has ended", file=sys.stderr)
                    break
            tracer.drain()
            printer.end(tracer.counters()["records_lost"])
        return 0 if command is None else command.wait(stop.requested)


def _sample(options: argparse.Namespace, printer: _Printer, stop: _Stop, why: str) -> int:
    """Without eBPF: looks at /proc again and again, and tells what lasts."""
    print(f"trace-popen: {why}; looking at /proc every {options.interval:g} s instead", file=sys.stderr)
    sampler = snapshot.Sampler(options.pid, options.min_ms / 1e3)
    ends = math.inf if options.duration is None else time.monotonic() + options.duration
    while not stop.requested and time.monotonic() < ends and procfs.is_alive(options.pid):
        for finding in sampler.sample(time.monotonic()):
            printer.snapshot(finding)
        time.sleep(options.interval)
    # The process may have ended between two looks, and its stall with it.
    for finding in sampler.sample(time.monotonic()):
        printer.snapshot(finding)
    printer.end(lost_records=0)
    return 0


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


class _Printer:
    """Writes reports as text or JSON lines, each flushed at once."""

    def __init__(self, output: IO[str], as_json: bool, every: bool) -> None:
        self.summary = Summary()
        self._output = output
        self._as_json = as_json
        self._every = every
        self._clock = Clock()
        self._console = Console(file=output, soft_wrap=True, highlight=False)

    def stall(self, stall: Stall) -> None:
        self.summary.add_stall(stall)
        if self._as_json:
            self._write(stall_object(stall, self._clock))
        else:
            self._print(stall_text(stall, self._clock))

    def spawn(self, spawn: Spawn) -> None:
        self.summary.add_spawn(spawn)
        if not self._every:
            return
        if self._as_json:
            self._write(spawn_object(spawn, spawn_steps(spawn), self._clock))
        else:
            self._print(spawn_line(spawn, self._clock))

    def snapshot(self, finding: snapshot.Finding) -> None:
        found = snapshot_object(finding.to_object())
        self.summary.add_sampled(found)
        if self._as_json:
            self._write(found)
        else:
            self._print(snapshot_text(found))

    def end(self, lost_records: int) -> None:
        summary = self.summary.object(lost_records)
        if self._as_json:
            self._write(summary)
        else:
            self._print(summary_text(summary))

    def _write(self, report: object) -> None:
        self._output.write(json.dumps(report) + "\n")
        self._output.flush()

    def _print(self, text: Text) -> None:
        text.rstrip()
        self._console.print(text)
        self._output.flush()
