# SPDX-License-Identifier: Apache-2.0
"""agent.render.verdict: why the gate fails, in words."""

from __future__ import annotations

from agent.model import Cause
from agent.render.verdict import verdict_lines
from tests.unit.gatesamples import gate, run, stall


def test_line_names_the_worst_and_what_to_do() -> None:
    made = gate(
        stall(Cause.LATE_EXEC, 0.5),
        stall(Cause.FORKED, 0.25, "web", id=1),
        stall(Cause.FORKED, 0.5, "web", id=2),
        run(("web", Cause.FORKED, 3), ("app", Cause.LEAKED, 1), ("app", Cause.LATE_EXEC, 9)),
    )
    [line] = verdict_lines(made)
    for word in ("2 stalls", "500.0 ms", "3 exposures", "web", "forked", "1 more kind", "fork"):
        assert word in line
    assert "late_exec" not in line


def test_nothing_is_said_if_it_passes() -> None:
    assert list(verdict_lines(gate(stall(Cause.LATE_EXEC, 0.5), run(("app", Cause.LATE_EXEC, 9))))) == []


def test_lost_records_are_a_reason() -> None:
    [line] = verdict_lines(gate(run(lost=2, records_lost=2)))
    assert "failed" in line and "2 lost records" in line


def test_a_doubt_is_said_if_it_passes() -> None:
    [line] = verdict_lines(gate(run(slots_overflowed=12)))
    assert "not certain" in line and "slots_overflowed" in line
