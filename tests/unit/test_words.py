"""agent.words: durations and counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.words import count, duration
from tests.unit.samples import SECOND


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 us"),
        (1_499, "1 us"),
        (64_000, "64 us"),
        (1_000_000, "1.0 ms"),
        (12_345_678, "12.3 ms"),
        (999_900_000, "999.9 ms"),
        (SECOND, "1.00 s"),
        (12_345_678_900, "12.35 s"),
        (100 * SECOND, "100 s"),
        (86_400 * SECOND, "86400 s"),
        (0.5e9, "500.0 ms"),
    ],
)
def test_duration(nanoseconds: float, text: str) -> None:
    assert duration(nanoseconds) == text


@given(st.floats(0, 1e18))
def test_a_duration_says_what_it_is(nanoseconds: float) -> None:
    number, unit = duration(nanoseconds).split(" ")
    told = float(number) * {"us": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert told == pytest.approx(nanoseconds, rel=0.051, abs=500)


def test_count() -> None:
    assert [count(number, "stall") for number in (0, 1, 2, 1024)] == [
        "0 stalls",
        "1 stall",
        "2 stalls",
        "1,024 stalls",
    ]
