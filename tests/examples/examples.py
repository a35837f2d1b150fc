# SPDX-License-Identifier: Apache-2.0
"""The output that the documents show: what ``trace-popen --replay`` makes of saved reports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.advice import advise
from agent.model import Cause

__all__ = ["EXAMPLES", "Example", "current", "replaced", "shown"]

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent.parent
_INDENT = "    "
# Lines that are indented, and empty ones between them.
_BLOCK = re.compile(r"(?:^    .*\n)(?:\n*    .*\n)*", re.MULTILINE)

_SUMMARY = re.compile(r"[\d.]+ s: ")


@dataclass(frozen=True)
class Example:
    """A block of a document.

    marker: text that only this block has.
    prompt: its first line.
    interrupted: a Ctrl-C is shown before the summary.
    only_stacks: it shows only what ``--stacks`` adds.
    """

    document: Path
    report: Path
    marker: str
    prompt: str = ""
    options: tuple[str, ...] = ()
    interrupted: bool = False
    only_stacks: bool = False


_TRACE_POPEN = _ROOT / "agent" / "cli" / "TRACE-POPEN.md"
EXAMPLES = (
    Example(
        document=_ROOT / "README.md",
        report=_HERE / "stall.jsonl",
        marker="--pid 10107",
        prompt="$ trace-popen --pid 10107 --steps",
        options=("--steps",),
        interrupted=True,
    ),
    Example(
        document=_TRACE_POPEN,
        report=_HERE / "snapshot.jsonl",
        marker="--pid 9005",
        prompt="$ trace-popen --pid 9005 --snapshot",
    ),
    Example(
        document=_TRACE_POPEN,
        report=_HERE / "stacks.jsonl",
        marker="Popen._execute_child",
        only_stacks=True,
    ),
)


def current(example: Example) -> str:
    """The block that trace-popen prints today."""
    reports = [_with_advice(json.loads(line)) for line in example.report.read_text().splitlines()]
    if example.only_stacks:
        [stall] = reports
        without = _replay([{key: value for key, value in stall.items() if key != "stacks"}], example)
        return _indented(_replay(reports, example)[len(without) :])
    lines = _replay(reports, example)
    if example.interrupted:
        [summary] = [number for number, line in enumerate(lines) if _SUMMARY.match(line)]
        lines.insert(summary, "^C")
    return _indented([example.prompt, *lines])


def shown(example: Example) -> str:
    """The block that the document shows."""
    return _found(example).group()


def replaced(example: Example, block: str) -> str:
    """The document with another block."""
    found = _found(example)
    return found.string[: found.start()] + block + found.string[found.end() :]


def _found(example: Example) -> re.Match[str]:
    text = example.document.read_text()
    [found] = [block for block in _BLOCK.finditer(text) if example.marker in block.group()]
    return found


def _with_advice(report: dict[str, Any]) -> dict[str, Any]:
    """A stall with the advice that it would have today."""
    if report["type"] == "stall":
        cause, exe = report["holders"][0]["cause"], report["parent"]["exe"]
        advice = advise(Cause(cause), exe)
        report["advice"], report["advice_source"] = advice.text, advice.source
    return report


def _replay(reports: list[dict[str, Any]], example: Example) -> list[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(report) + "\n" for report in reports)
        file.flush()
        command = [sys.executable, "-m", "agent", "--replay", file.name, *example.options]
        done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [line.rstrip() for line in done.stdout.rstrip().splitlines()]


def _indented(lines: list[str]) -> str:
    return "".join(f"{_INDENT}{line}".rstrip() + "\n" for line in lines)
