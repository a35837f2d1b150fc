# SPDX-License-Identifier: Apache-2.0
"""Workflow commands that make GitHub Actions show annotations.

The escapes are those of ``@actions/core`` (``packages/core/src/command.ts``).
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.render.verdict import finding_words, lost_words
from agent.render.words import count
from agent.reports.gate import Gate

__all__ = ["workflow_commands"]

_MAX_FINDINGS = 8
"""GitHub shows at most 10 annotations of each level for a step; two are left for other lines."""
_TITLE = "spawnstall"
_DATA = {ord("%"): "%25", ord("\r"): "%0D", ord("\n"): "%0A"}
_PROPERTY = {**_DATA, ord(":"): "%3A", ord(","): "%2C"}


def workflow_commands(gate: Gate, is_error: bool) -> Iterator[str]:
    """Yield a command for each finding that fails the gate, for lost records, and for each doubt.

    is_error: whether the gate decides on the exit status; otherwise all are warnings.
    """
    level = "error" if is_error else "warning"
    failing = [finding for finding in gate.findings() if finding.fails]
    for finding in failing[:_MAX_FINDINGS]:
        title = f"{_TITLE}: {finding.comm}: {finding.cause}"
        yield _command(level, title, f"{finding_words(finding)}. {finding.advice}")
    if len(failing) > _MAX_FINDINGS:
        yield _command(level, _TITLE, f"{count(len(failing) - _MAX_FINDINGS, 'more kind')} in the report")
    if gate.lost_records:
        yield _command(level, _TITLE, lost_words(gate))
    for doubt in gate.doubts:
        yield _command("warning", _TITLE, f"the result is not certain: {doubt}")


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={title.translate(_PROPERTY)}::{message.translate(_DATA)}"
