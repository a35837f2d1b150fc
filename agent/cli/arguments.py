"""The arguments of ``trace-popen``: one description for parsing, --help, man page and shell completion."""

from __future__ import annotations

import argparse
import math
import pwd
import re
from typing import NoReturn

from agent import __version__

__all__ = ["USAGE_ERROR", "Parser", "agent_parser", "trace_parser"]

USAGE_ERROR = 2
_LONGEST_SECONDS = 1e6  # 11 days
_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

_EXAMPLES = """\
examples:
  trace-popen --pid 1234
      It hangs: who holds it up? Then its next stalls, until Ctrl-C.
  trace-popen --pid 1234 --snapshot
      Only what holds it up now, from /proc (needs no eBPF).
  trace-popen --duration 5m --comm 'uwsgi*' --html stalls.html
      Stalls of some programs on the whole host, drawn at the end.
  trace-popen --steps -- python3 app.py
      Run a program under trace, with the step table of each stall.
  trace-popen --fail-on-stall --report stalls.json -- make test
      The same in CI: status 3 when there was a stall, and its report kept.
  trace-popen --replay stalls.json
      Show such a report again, on any machine.
  trace-popen agent --config agent.yaml
      The agent: Prometheus metrics of the whole host.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"trace-popen: {message} (see {self.prog} --help)\n")


def trace_parser() -> Parser:
    """Everything but COMMAND, which follows ``--``."""
    parser = Parser(
        prog="trace-popen",
        usage="trace-popen [options] [--pid PID[,PID...] | -- COMMAND [ARG...]]\n"
        "       trace-popen --replay FILE [--html FILE] [--trace FILE]\n"
        "       trace-popen agent [--config FILE] [--check] [--set SECTION.KEY=VALUE]",
        description="Find what keeps a process blocked while it starts a program: the foreign\n"
        "processes that hold a copy of the pipe on which it waits for the exec\n(the errpipe).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what is traced", "The whole host, if nothing is said.")
    what.add_argument(
        "-p",
        "--pid",
        type=_pids,
        action="extend",
        default=[],
        metavar="PID[,PID...]",
        help="these processes with their threads and descendants (repeatable)",
    )
    what.add_argument(
        "--comm",
        action="append",
        default=[],
        metavar="PATTERN",
        help="parents whose comm matches a shell pattern; '!PATTERN' leaves out (repeatable)",
    )
    what.add_argument(
        "--container",
        action="append",
        default=[],
        metavar="ID",
        help="parents in a container (the beginning of its id, or a pod's uid); 'host': in none",
    )
    what.add_argument(
        "--user",
        type=_uid,
        action="append",
        default=[],
        metavar="USER",
        help="parents of a user (name or number)",
    )
    what.add_argument("--min-ms", type=_milliseconds, default=10.0, metavar="N", help="shortest stall (10)")
    what.add_argument("--all", action="store_true", help="every spawn, not only stalls")

    how = parser.add_argument_group("how")
    how.add_argument(
        "--duration", type=_seconds, metavar="TIME", help="stop after so long: 30, 30s, 5m (default: Ctrl-C)"
    )
    how.add_argument(
        "--snapshot", action="store_true", help="with --pid: only what holds it up now, by /proc"
    )
    how.add_argument(
        "--interval",
        type=_seconds,
        metavar="TIME",
        default=0.1,
        help="how often /proc is looked at where there is no eBPF (0.1)",
    )
    how.add_argument("--fail-on-stall", action="store_true", help="exit with status 3 when there was a stall")
    how.add_argument(
        "--max-stall-ms",
        type=_milliseconds,
        metavar="N",
        help="with --fail-on-stall: stalls up to so long are no failure",
    )
    how.add_argument("--replay", metavar="FILE", help="show a report that was kept, and trace nothing")

    output = parser.add_argument_group("output")
    output.add_argument("--steps", action="store_true", help="the step table of each stall")
    output.add_argument(
        "--stacks",
        action="store_true",
        help="where in the code: the fork, and Python by py-spy, which stops one before 3.11 for some ms",
    )
    output.add_argument("--json", action="store_true", help="one JSON object a line")
    output.add_argument("-o", dest="output", metavar="FILE", help="write there, not to standard output")
    output.add_argument("--report", metavar="FILE", help="write the JSON objects there too")
    output.add_argument("--html", metavar="FILE", help="at the end, draw a page with every stall")
    output.add_argument("--trace", metavar="FILE", help="at the end, write a trace for Perfetto")
    output.add_argument("--debug", action="store_true", help="say what the program itself does")
    output.add_argument("--version", action="version", version=f"trace-popen {__version__}")
    return parser


def agent_parser() -> Parser:
    """Of ``trace-popen agent``."""
    parser = Parser(
        prog="trace-popen agent",
        description="Trace the whole host and serve Prometheus metrics until SIGTERM.",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML; default: all defaults")
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a key (repeatable)"
    )
    return parser


def _pids(text: str) -> list[int]:
    pids = []
    for word in text.split(","):
        if not word.isdecimal() or int(word) < 1:
            raise argparse.ArgumentTypeError(f"{word!r} is no pid")
        pids.append(int(word))
    return pids


def _uid(user: str) -> int:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {user!r}") from None


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(.*?)(ms|s|m|h|)", text)
    assert match is not None
    return _positive(match[1], text) * _UNITS[match[2]]


def _milliseconds(text: str) -> float:
    return _positive(text, text)


def _positive(number: str, text: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    if value > _LONGEST_SECONDS * 1e3:
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    return value
