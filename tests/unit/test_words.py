"""agent.words: durations, counts and stacks."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report import stacks_object
from agent.words import count, duration, stack_lines
from tests.unit.samples import SECOND, python_stack, stall, with_stacks


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


def test_stacks() -> None:
    assert list(stack_lines(stacks_object(with_stacks(stall())))) == [
        "where it is blocked (by py-spy)",
        "  _execute_child            /srv/_execute_child.py:1",
        "  main                      /srv/main.py:2",
        "where the holder was forked (by kernel)",
        "  _Fork                     /lib/libc.so.6",
        "  0x2a",
        "where the holder is (by py-spy)",
        "  sleep_on                  /srv/sleep_on.py:1",
        "no stack: holder 9: something",
    ]


def test_deep_stacks_are_cut() -> None:
    deep = python_stack(*(f"f{number}" for number in range(40)))
    lines = list(stack_lines(stacks_object(dataclasses.replace(stall(), reader_stack=deep, missing=()))))
    assert len(lines) == 18
    assert lines[-1] == "  and 24 more"
