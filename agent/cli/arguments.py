# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``trace-popen``, declared once for parsing, --help, the man page and shell completions."""

from __future__ import annotations

import argparse
import math
import pwd
import re
from typing import NoReturn, Optional

from agent import __version__

__all__ = ["USAGE_ERROR", "Parser", "agent_parser", "trace_parser"]

USAGE_ERROR = 2
_MAX_NUMBER = 1e9
_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

_EXAMPLES = """\
examples:
  trace-popen --pid 1234
      Report what blocks the process now, then its next stalls, until Ctrl-C.
  trace-popen --pid 1234 --snapshot
      Report only what blocks it now, from /proc (needs no eBPF).
  trace-popen --duration 5m --comm 'uwsgi*' --html stalls.html
      Trace matching programs on the whole host, then write an HTML page.
  trace-popen --steps -- python3 app.py
      Run and trace a program, and print the step table of each stall.
  trace-popen --fail-on-stall --report stalls.json -- make test
      For CI: exit with status 3 if processes can stall, and save a report.
  trace-popen --replay stalls.json
      Show a saved report, on any machine.
  trace-popen agent --config agent.yaml
      Run the agent, which exports Prometheus metrics for the whole host.
"""


class Parser(argparse.ArgumentParser):
    """Reports usage errors on one line, without printing the usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"trace-popen: {message} (see {self.prog} --help)\n")


def trace_parser() -> Parser:
    """The parser for all arguments except COMMAND, which follows ``--``."""
    parser = Parser(
        prog="trace-popen",
        usage="trace-popen [options] [--pid PID[,PID...] | -- COMMAND [ARG...]]\n"
        "       trace-popen --replay FILE [--html FILE] [--trace FILE]\n"
        "       trace-popen agent [--config FILE] [--check] [--set SECTION.KEY=VALUE]",
        description="Find out why a process is blocked while it starts a program: which other\n"
        "processes hold a copy of the pipe on which it waits for its child's exec\n(the errpipe).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    target = parser.add_argument_group("target", "Default: the whole host.")
    target.add_argument(
        "-p",
        "--pid",
        type=_pids,
        action="extend",
        default=[],
        metavar="PID[,PID...]",
        help="trace these processes, their threads and their descendants (repeatable)",
    )
    target.add_argument(
        "-u",
        dest="run_as",
        type=_account,
        metavar="USER",
        help="run COMMAND as this user, with the user's groups and HOME (needs root)",
    )
    target.add_argument(
        "--comm",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only parents whose comm matches this shell pattern; '!PATTERN' excludes (repeatable)",
    )
    target.add_argument(
        "--container",
        action="append",
        default=[],
        metavar="ID",
        help="only parents in this container (prefix of its ID, or pod UID); 'host': in none (repeatable)",
    )
    target.add_argument(
        "--user",
        type=_uid,
        action="append",
        default=[],
        metavar="USER",
        help="only parents of this user, by name or number (repeatable); a filter, unlike -u",
    )
    target.add_argument(
        "--min-ms",
        type=_milliseconds,
        default=10.0,
        metavar="N",
        help="shortest stall to report, in milliseconds (default: 10)",
    )
    target.add_argument("--all", action="store_true", help="report every spawn, not only stalls")

    mode = parser.add_argument_group("mode")
    mode.add_argument(
        "--duration",
        type=_seconds,
        metavar="TIME",
        help="stop after this time: 30, 30s, 5m (default: Ctrl-C)",
    )
    mode.add_argument(
        "--snapshot", action="store_true", help="with --pid: report only what blocks it now, from /proc"
    )
    mode.add_argument(
        "--interval",
        type=_seconds,
        metavar="TIME",
        default=0.1,
        help="how often to read /proc where eBPF is unavailable (default: 0.1)",
    )
    mode.add_argument(
        "--fail-on-stall",
        action="store_true",
        help="fail (--exit-code) on any stall or exposure of cause forked, leaked, own_descendant or passed,"
        " and on longer stalls of other causes (--max-stall-ms)",
    )
    mode.add_argument(
        "--max-stall-ms",
        type=_milliseconds,
        metavar="N",
        help="with --fail-on-stall: tolerate stalls of cause late_exec or unknown up to N milliseconds"
        " (default: 1000)",
    )
    mode.add_argument(
        "--exit-code",
        type=_exit_code,
        metavar="N",
        help="with --fail-on-stall: the exit status if the gate fails (default: 3)",
    )
    mode.add_argument("--replay", metavar="FILE", help="show a saved report instead of tracing")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--each", action="store_true", help="print each stall, not only the first one of each kind"
    )
    output.add_argument(
        "--no-tui",
        action="store_true",
        help="on a terminal, print stalls as in a pipe instead of showing the live table",
    )
    output.add_argument("--steps", action="store_true", help="print the step table of each stall")
    output.add_argument(
        "--stacks",
        action="store_true",
        help="print where the holder was forked, and Python stacks (from py-spy, which stops"
        " Python before 3.11 for some ms)",
    )
    output.add_argument("--json", action="store_true", help="print one JSON object per line")
    output.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        help="write to FILE; '-': standard output (default: standard error with COMMAND, otherwise"
        " standard output)",
    )
    output.add_argument("--report", metavar="FILE", help="also write the JSON objects to FILE")
    output.add_argument(
        "--record-arguments",
        action="store_true",
        help="record the arguments of COMMAND too, not only their number: they can contain secrets",
    )
    output.add_argument("--html", metavar="FILE", help="at the end, write an HTML page of all stalls")
    output.add_argument("--trace", metavar="FILE", help="at the end, write a trace file for Perfetto")
    output.add_argument(
        "--junit", metavar="FILE", help="at the end, write JUnit XML: a test case for each kind of stall"
    )
    output.add_argument(
        "--github",
        action="store_true",
        help="print what fails --fail-on-stall to standard error as annotations of GitHub Actions",
    )
    output.add_argument("--debug", action="store_true", help="log what trace-popen itself does")
    output.add_argument("--version", action="version", version=f"trace-popen {__version__}")
    return parser


def agent_parser() -> Parser:
    """The parser for ``trace-popen agent``."""
    parser = Parser(
        prog="trace-popen agent",
        description="Trace the whole host and serve Prometheus metrics until SIGTERM.",
    )
    parser.add_argument("--config", metavar="FILE", help="configuration in YAML (default: built-in defaults)")
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a key (repeatable)"
    )
    return parser


def _pids(text: str) -> list[int]:
    pids = []
    for word in text.split(","):
        if not word.isdecimal() or int(word) < 1:
            raise argparse.ArgumentTypeError(f"{word!r} is not a process ID")
        pids.append(int(word))
    return pids


def _uid(user: str) -> int:
    return int(user) if user.isdecimal() else _account(user).pw_uid


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError, ValueError):  # a number that no uid can have, a null character
        raise argparse.ArgumentTypeError(f"there is no user {user!r}") from None


def _exit_code(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text[:4]) < 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not an exit status from 1 to 255")
    return int(text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(.*?)(ms|s|m|h|)", text)
    number = None if match is None else _positive(match[1])
    if match is None or number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration (examples: 30, 30s, 5m)")
    return _bounded(number, text) * _UNITS[match[2]]


def _milliseconds(text: str) -> float:
    number = _positive(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of milliseconds")
    return _bounded(number, text)


def _positive(text: str) -> Optional[float]:
    """A finite number above 0; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _bounded(value: float, text: str) -> float:
    if value > _MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    return value
