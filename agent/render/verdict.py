# SPDX-License-Identifier: Apache-2.0
"""The wording of what the gate found (``agent.reports.gate``), on one line each."""

from __future__ import annotations

from collections.abc import Iterator

from agent.render.words import count, duration
from agent.reports.gate import Finding, Gate

__all__ = ["finding_words", "lost_words", "verdict_lines"]


def finding_words(finding: Finding) -> str:
    """As in ``1 stall (longest 299.2 ms) and 1 exposure of python3, cause forked``."""
    parts = []
    if finding.stalls:
        parts.append(f"{count(finding.stalls, 'stall')} (longest {duration(finding.longest * 1e9)})")
    if finding.exposures:
        parts.append(count(finding.exposures, "exposure"))
    return f"{' and '.join(parts)} of {finding.comm}, cause {finding.cause}"


def lost_words(gate: Gate) -> str:
    """Why lost records fail the gate, and what to do."""
    return f"{count(gate.lost_records, 'lost record')} can hide stalls. Run it again on a less busy machine."


def verdict_lines(gate: Gate) -> Iterator[str]:
    """Yield one line that says why the gate fails, or a line for each doubt if it passes."""
    failing = [finding for finding in gate.findings() if finding.fails]
    if failing:
        more = f"; {count(len(failing) - 1, 'more kind')} in the report" if failing[1:] else ""
        yield f"--fail-on-stall: failed: {finding_words(failing[0])}{more}. {failing[0].advice}"
    elif gate.lost_records:
        yield f"--fail-on-stall: failed: {lost_words(gate)}"
    else:
        for doubt in gate.doubts:
            yield f"--fail-on-stall: the result is not certain: {doubt}"
