# SPDX-License-Identifier: Apache-2.0
"""agent.reports.overtime: counts in a bounded number of intervals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.reports.overtime import OverTime, on_one_axis


def _of(*times: float) -> OverTime:
    made = OverTime()
    for time in times:
        made.add(time)
    return made


def test_events_are_counted_in_their_intervals() -> None:
    began, length, [counts] = on_one_axis([_of(100.0, 100.01, 101.0)])
    assert (began, length) == (100.0, 0.0625)
    assert (counts[0], counts[16], sum(counts), len(counts)) == (2, 1, 3, 17)


def test_all_have_the_same_axis() -> None:
    began, length, (short, long, none) = on_one_axis([_of(5000.0), _of(0.0, 4000.0, 4001.0), _of()])
    assert (began, length) == (0.0, 128.0)
    assert short == [0] * 39 + [1]
    assert (long[0], long[31], len(long)) == (1, 2, 32)
    assert none == []


def test_nothing_has_an_axis_too() -> None:
    began, _, counts = on_one_axis([])
    assert (began, [*counts]) == (0.0, [])


@given(st.lists(st.lists(st.floats(-7e10, 3e11), max_size=20), max_size=4))
def test_nothing_is_lost_and_the_number_of_intervals_is_bounded(times: list[list[float]]) -> None:
    several = [_of(*each) for each in times]
    assert all(len(each.counts) <= 60 for each in several)
    began, length, counts = on_one_axis(several)
    for each, found in zip(times, counts):
        assert sum(found) == len(each)
        assert len(found) <= 60
        assert all(began <= time < began + 60 * length for time in each)
