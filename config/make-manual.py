# SPDX-License-Identifier: Apache-2.0
"""Generates the man page and the shell completions of trace-popen from its argument parser.

    .venv/bin/python config/make-manual.py [FOLDER]

FOLDER: where to write them; default: config/manual.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from agent.cli.arguments import trace_parser

_FOLDER = Path(__file__).parent / "manual"
_FILES = {"--config", "--html", "--junit", "--replay", "--report", "--trace", "-o"}
_EXIT_STATUS = """\
.SH EXIT STATUS
.TP
.B 0
Success, or the exit status of COMMAND (128 + N if signal N ended it).
.TP
.B 2
The request cannot be carried out; standard error says why.
.TP
.B 3
With \\-\\-fail\\-on\\-stall: there was a stall or exposure that fails it, or records were lost.
.TP
.B 126, 127
COMMAND cannot be executed; there is no such program.
.SH SEE ALSO
.BR strace (1),
.BR lsof (8),
.BR proc_pid_fd (5),
.BR pipe (7)
"""


def main() -> None:
    """Write the man page and both completions."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "trace-popen.1").write_text(_man_page())
    for shell, name in (("bash", "trace-popen.bash"), ("zsh", "_trace-popen")):
        (folder / name).write_text(shtab.complete(_completed(trace_parser()), shell=shell))


def _man_page() -> str:
    parser = trace_parser()
    usage, examples, parser.epilog = parser.usage or "", parser.epilog or "", None
    parser.usage = "USAGE"
    parser.man_short_description = "find out why subprocess.Popen and similar calls hang"  # type: ignore[attr-defined]
    page = Manpage(parser, format="pretty")
    page.date = page.mf.date = ""  # reproducible: no date
    text = str(page).replace('"Generated Python Manual"', '"spawnstall"')
    ways = "\n.br\n".join(_roff(line.strip()) for line in usage.splitlines())
    text = text.replace(".B USAGE\n", f"{ways}\n")
    lines = []
    for line in examples.splitlines()[1:]:
        is_command = line.startswith("  trace-popen")
        lines.append(f".TP\n.B {_roff(line.strip())}" if is_command else _roff(line.strip()))
    return text.rstrip() + "\n.SH EXAMPLES\n" + "\n".join(lines) + "\n" + _EXIT_STATUS


def _roff(line: str) -> str:
    return line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def _completed(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for action in parser._actions:
        if _FILES & set(action.option_strings):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


if __name__ == "__main__":
    main()
