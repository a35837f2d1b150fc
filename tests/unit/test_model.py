# SPDX-License-Identifier: Apache-2.0
"""agent.model: properties of its data classes."""

from __future__ import annotations

import pytest

from agent.model import Cause, Confirmation, Outcome, stall_began
from tests.unit.samples import holder, release, spawn, stall


def test_stall_begins_after_both_the_read_and_the_own_childs_release() -> None:
    assert stall_began(spawn(read_began=10, own_released=20)) == 20
    assert stall_began(spawn(read_began=20, own_released=10)) == 20
    assert stall_began(spawn(read_began=None)) is None
    assert stall_began(spawn(own_released=None)) is None


def test_first_holder_is_the_culprit() -> None:
    assert stall(holder(pid=1), holder(pid=2)).culprit.pid == 1


@pytest.mark.parametrize("value", [spawn(), release(), holder(), stall()])
def test_data_is_immutable(value: object) -> None:
    with pytest.raises(AttributeError):
        value.pid = 1  # type: ignore[attr-defined]


def test_values_of_enums_are_a_contract() -> None:
    assert {each.value for each in Cause} == {
        "forked",
        "leaked",
        "late_exec",
        "own_descendant",
        "passed",
        "unknown",
    }
    assert {each.value for each in Outcome} == {"ok", "exec_failed", "abandoned"}
    assert {each.value for each in Confirmation} == {"confirmed"}
