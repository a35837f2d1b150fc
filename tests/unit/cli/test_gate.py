# SPDX-License-Identifier: Apache-2.0
"""agent.cli.gate: what fails a run with --fail-on-stall."""

from __future__ import annotations

from typing import Any

import pytest

from agent.cli.gate import Gate
from agent.model import Cause
from tests.unit.reportsamples import ended, found, ongoing, summary

AT_ANY_LENGTH = (Cause.FORKED, Cause.LEAKED, Cause.OWN_DESCENDANT, Cause.PASSED)
IF_LONG = (Cause.LATE_EXEC, Cause.UNKNOWN)


def stall(cause: Cause, seconds: float, comm: str = "app", **changes: Any) -> Any:
    made = ended(**changes)
    made["holders"][0]["cause"] = cause
    made["parent"]["comm"] = comm
    return {**made, "stall_seconds": seconds}


def run(*exposures: tuple[str, Cause, int], lost: int = 0, **not_followed: int) -> Any:
    made = [{"comm": comm, "cause": cause, "count": count} for comm, cause, count in exposures]
    return {**summary(), "exposures": made, "lost_records": lost, "not_followed": not_followed}


def gate(*reports: Any, **options: float) -> Gate:
    made = Gate(**options)
    for report in reports:
        made.write(report)
    return made


def test_all_causes_are_covered() -> None:
    assert {*AT_ANY_LENGTH, *IF_LONG} == set(Cause)


@pytest.mark.parametrize("cause", AT_ANY_LENGTH)
def test_causes_that_fail_at_any_length(cause: Cause) -> None:
    assert gate(stall(cause, 0.0001), run()).fails
    assert gate(run(("app", cause, 1))).fails


@pytest.mark.parametrize("cause", IF_LONG)
def test_causes_that_fail_if_the_stall_was_long(cause: Cause) -> None:
    assert not gate(stall(cause, 1.0), run()).fails
    assert gate(stall(cause, 1.01), run()).fails
    assert gate(stall(cause, 0.11), run(), max_stall_ms=100).fails
    assert not gate(run(("app", cause, 1000))).fails


def test_each_stall_is_judged_by_its_own_length() -> None:
    assert not gate(*(stall(Cause.LATE_EXEC, 0.6, id=number) for number in (1, 2)), run()).fails


def test_stall_of_unknown_length_is_long() -> None:
    unmeasured = {**found(), "stall_seconds": None}
    unmeasured["holders"][0]["cause"] = Cause.UNKNOWN
    assert gate(unmeasured).fails


def test_stall_in_progress_counts_with_its_length_at_the_end() -> None:
    made = ended()
    made["holders"][0]["cause"] = Cause.UNKNOWN
    assert not gate(ongoing(), {**made, "stall_seconds": 0.8}, run()).fails


def test_line_names_the_worst_and_what_to_do() -> None:
    made = gate(
        stall(Cause.LATE_EXEC, 0.5),
        stall(Cause.FORKED, 0.25, "web", id=1),
        stall(Cause.FORKED, 0.5, "web", id=2),
        run(("web", Cause.FORKED, 3), ("app", Cause.LEAKED, 1), ("app", Cause.LATE_EXEC, 9)),
    )
    [line] = made.lines()
    for word in ("2 stalls", "500.0 ms", "3 exposures", "web", "forked", "1 more kind", "fork"):
        assert word in line
    assert "late_exec" not in line


def test_nothing_is_said_if_it_passes() -> None:
    assert list(gate(stall(Cause.LATE_EXEC, 0.5), run(("app", Cause.LATE_EXEC, 9))).lines()) == []


def test_lost_records_fail_it() -> None:
    made = gate(run(lost=2, records_lost=2))
    assert made.fails
    [line] = made.lines()
    assert "2 lost records" in line


def test_other_losses_are_a_doubt() -> None:
    made = gate(run(slots_overflowed=12, records_lost=0))
    assert not made.fails
    [line] = made.lines()
    assert "not certain" in line and "slots_overflowed" in line


def test_exposures_that_are_not_counted_are_a_doubt() -> None:
    made = gate({**summary(), "exposures": None})
    assert not made.fails
    [line] = made.lines()
    assert "not certain" in line and "exposures" in line


def test_report_of_an_earlier_version() -> None:
    plain = summary()
    del plain["exposures"]
    [line] = gate(plain).lines()
    assert "exposures" in line


def test_reports_of_several_runs_are_added_up() -> None:
    [finding] = gate(run(("app", Cause.FORKED, 1)), run(("app", Cause.FORKED, 2))).findings()
    assert (finding.exposures, finding.stalls) == (3, 0)
