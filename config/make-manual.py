# SPDX-License-Identifier: Apache-2.0
"""Generates the man pages and the shell completions, each from the one place that declares what it lists.

    .venv/bin/python config/make-manual.py [FOLDER]

FOLDER: where to write them; default: config/manual.

trace-popen(1), trace-popen-agent(1) and the completions come from the argument parsers.
trace-popen-agent.yaml(5) comes from the comments of config/agent.yaml and the types of
agent/settings/agentfile.py.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import shtab
from argparse_manpage.manpage import Manpage

from agent.cli.arguments import agent_parser, trace_parser
from agent.settings.agentfile import Config
from agent.shape import shape_of

_CONFIG = Path(__file__).parent
_FOLDER = _CONFIG / "manual"
_FILES = {"--config", "--html", "--junit", "--replay", "--report", "--trace", "-o"}

_TRACE_END = r"""
.SH EXIT STATUS
.TP
.B 0
Success, or the exit status of COMMAND (128 + N if signal N ended it).
.TP
.B 2
The request cannot be carried out; standard error says why.
.TP
.B 3
With \-\-fail\-on\-stall: there was a stall or exposure that fails it, or records were lost.
.TP
.B 126, 127
COMMAND cannot be executed; there is no such program.
.SH SEE ALSO
.BR trace\-popen\-agent (1),
.BR strace (1),
.BR lsof (8),
.BR proc_pid_fd (5),
.BR pipe (7)
"""
_AGENT_END = r"""
.SH SIGNALS
.TP
.B SIGHUP
Reload the configuration. If it is invalid, the running one stays, and the error is logged and exported.
.TP
.B SIGTERM
End in an orderly way.
.SH ENVIRONMENT
.TP
.BI SPAWNSTALL_ SECTION _ KEY
Overrides a key of the configuration, as in SPAWNSTALL_STALLS_MIN_MS=50.
.SH FILES
.TP
.I /etc/spawnstall/agent.yaml
The configuration of the service and of the image. The agent reads only the file that \-\-config names.
.SH EXIT STATUS
.TP
.B 0
The agent ended after SIGTERM; with \-\-check, the configuration is valid.
.TP
.B 2
The configuration is invalid, or the host cannot be traced; standard error says why.
.SH SEE ALSO
.BR trace\-popen\-agent.yaml (5),
.BR trace\-popen (1)
"""
_YAML_BEGIN = r""".TH TRACE\-POPEN\-AGENT.YAML "5" "" "trace\-popen" "spawnstall"
.SH NAME
trace\-popen\-agent.yaml \- configuration of the spawnstall agent
.SH SYNOPSIS
.B trace\-popen agent \-\-config
.I FILE
.SH DESCRIPTION
A file in YAML. Each key is optional; share/spawnstall/agent.yaml, an example, has every key.
.B trace\-popen agent \-\-config
.I FILE
.B \-\-check
validates a file.
"""
_YAML_END = r"""
.SH SEE ALSO
.BR trace\-popen\-agent (1)
"""


def main() -> None:
    """Write the man pages and both completions."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _FOLDER
    folder.mkdir(exist_ok=True)
    os.environ["COLUMNS"] = "80"  # argparse wraps at the width of the terminal
    (folder / "trace-popen.1").write_text(_trace_page())
    (folder / "trace-popen-agent.1").write_text(_agent_page())
    (folder / "trace-popen-agent.yaml.5").write_text(_yaml_page())
    for shell, name in (("bash", "trace-popen.bash"), ("zsh", "_trace-popen")):
        (folder / name).write_text(shtab.complete(_completed_parser(), shell=shell))


# -- section 1 --


def _trace_page() -> str:
    parser = trace_parser()
    usage, examples, parser.epilog = parser.usage or "", parser.epilog or "", None
    parser.usage = "USAGE"
    text = _page(parser, "find out why subprocess.Popen and similar calls hang")
    ways = "\n.br\n".join(_roff(line.strip()) for line in usage.splitlines())
    text = text.replace(".B USAGE\n", f"{ways}\n")
    lines = []
    for line in examples.splitlines()[1:]:
        is_command = line.startswith("  trace-popen")
        lines.append(f".TP\n.B {_roff(line.strip())}" if is_command else _roff(line.strip()))
    return text + "\n.SH EXAMPLES\n" + "\n".join(lines) + _TRACE_END


def _agent_page() -> str:
    parser = agent_parser()
    parser.prog = "trace-popen-agent"
    text = _page(parser, "trace a host and serve Prometheus metrics")
    usage = _roff(" ".join(agent_parser().format_usage().split()[1:]))
    # The page has a name that man can find, but the command is two words.
    text = re.sub(r"(?<=\.SH SYNOPSIS\n).*?(?=\.SH)", lambda _: f"{usage}\n", text, flags=re.DOTALL)
    return text + _AGENT_END


def _page(parser: argparse.ArgumentParser, description: str) -> str:
    parser.man_short_description = description  # type: ignore[attr-defined]
    page = Manpage(parser, format="pretty")
    page.date = page.mf.date = ""  # reproducible: no date
    return str(page).replace('"Generated Python Manual"', '"spawnstall"').rstrip()


# -- section 5 --


class _Entry(NamedTuple):
    """A section of agent.yaml, or a key in one; default: as written there, "" for a section."""

    path: tuple[str, ...]
    default: str
    comment: str


def _yaml_page() -> str:
    text = (_CONFIG / "agent.yaml").read_text()
    introduction, _, body = text.partition("\n\n")
    parts = [_YAML_BEGIN, ".PP\n", _prose(introduction.partition("\n#\n")[2])]
    for entry in _entries(body.splitlines()):
        if len(entry.path) == 1:
            parts.append(f".SH {_roff(entry.path[0].upper())}\n")
            parts.append(_prose(entry.comment))
        else:
            name, expected = _roff(".".join(entry.path)), _roff(_expected(entry.path))
            parts.append(f".TP\n.B {name}\n{_prose(entry.comment)}")
            parts.append(f".br\nExpected: {expected}. Default: {_roff(entry.default)}\n")
    return "".join(parts).rstrip() + _YAML_END


def _entries(lines: Sequence[str]) -> Iterator[_Entry]:
    """The sections and keys of agent.yaml, each with the comment above it."""
    section, comment = "", list[str]()
    for line in lines:
        match = re.fullmatch(r"( *)(\w+):(.*)", line)
        if line.lstrip().startswith("#"):
            comment.append(line.strip())
        elif match:
            section, path = (section, (section, match[2])) if match[1] else (match[2], (match[2],))
            yield _Entry(path, match[3].strip(), "\n".join(comment))
            comment = []


def _expected(path: Sequence[str]) -> str:
    shape: Any = shape_of(Config)
    for key in path:
        shape = shape.keys[key]
    return str(shape.expected)


# -- roff --


def _prose(comment: str) -> str:
    """The text of a comment, one sentence or part of one a line."""
    return "".join(f"{_roff(line.lstrip('# '))}\n" for line in comment.splitlines())


def _roff(line: str) -> str:
    escaped = line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


# -- completions --


def _completed_parser() -> argparse.ArgumentParser:
    """The parser of trace-popen, with the agent as its subcommand."""
    parser = trace_parser()
    agent = agent_parser()
    subcommands = parser.add_subparsers()
    subcommands.add_parser("agent", help=agent.description, parents=[agent], add_help=False)
    for action in (*parser._actions, *agent._actions):
        if _FILES & set(action.option_strings):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


if __name__ == "__main__":
    main()
