# SPDX-License-Identifier: Apache-2.0
"""agent.reports.gate: what fails a run with --fail-on-stall."""

from __future__ import annotations

import pytest

from agent.model import Cause
from tests.unit.gatesamples import gate, run, stall
from tests.unit.reportsamples import ended, found, ongoing, summary

AT_ANY_LENGTH = (Cause.FORKED, Cause.LEAKED, Cause.OWN_DESCENDANT, Cause.PASSED)
IF_LONG = (Cause.LATE_EXEC, Cause.UNKNOWN)


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


def test_lost_records_fail_it() -> None:
    assert gate(run(lost=2, records_lost=2)).fails


def test_other_losses_are_a_doubt() -> None:
    made = gate(run(slots_overflowed=12, records_lost=0, stacks_lost=3, programs_full=4))
    assert not made.fails
    [doubt] = made.doubts
    assert "slots_overflowed" in doubt


def test_exposures_that_are_not_counted_are_a_doubt() -> None:
    old = summary()
    del old["exposures"]  # a report of an earlier version
    for uncounted in ({**summary(), "exposures": None}, old):
        made = gate(uncounted)
        assert not made.fails
        [doubt] = made.doubts
        assert "exposures" in doubt


def test_reports_of_several_runs_are_added_up() -> None:
    [finding] = gate(run(("app", Cause.FORKED, 1)), run(("app", Cause.FORKED, 2))).findings()
    assert (finding.exposures, finding.stalls) == (3, 0)
