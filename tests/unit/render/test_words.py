# SPDX-License-Identifier: Apache-2.0
"""agent.render.words: durations, counts and stacks."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.render.words import (
    clock_words,
    count,
    duration,
    end_words,
    late_words,
    seen_words,
    stack_lines,
)
from agent.reports.objects import stacks_object
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
        (119 * SECOND, "119 s"),
        (8_040 * SECOND, "2 h 14 min"),
        (864_000 * SECOND, "10 d 0 h"),
        (0.5e9, "500.0 ms"),
    ],
)
def test_duration_in_words(nanoseconds: float, text: str) -> None:
    assert duration(nanoseconds) == text


@given(st.floats(0, 119e9))
def test_duration_is_precise_to_about_three_digits(nanoseconds: float) -> None:
    number, unit = duration(nanoseconds).split(" ")
    parsed = float(number) * {"us": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert parsed == pytest.approx(nanoseconds, rel=0.051, abs=500)


def test_count_in_words() -> None:
    assert [count(number, "stall") for number in (0, 1, 2, 1024)] == [
        "0 stalls",
        "1 stall",
        "2 stalls",
        "1,024 stalls",
    ]


_STALL: Any = {"time": "2026-11-24T23:59:59.999000Z"}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "23:59:59.999 UTC"),
        (0.0015, "00:00:00.000 UTC"),
        (-1.5, "23:59:58.499 UTC"),
        (None, None),
        (1e10, "17:46:39.999 UTC"),
        (-1e11, None),  # no such year
    ],
)
def test_time_in_words(seconds: Optional[float], words: Optional[str]) -> None:
    assert clock_words(_STALL, seconds) == words


@pytest.mark.parametrize(
    ("stall", "words"),
    [
        ({"late_wakeup_seconds": 0.0}, None),
        ({}, None),  # in a report of an earlier version
        (
            {"late_wakeup_seconds": 5.2},
            "After the last copy was closed, the reader took another 5.20 s to wake up.",
        ),
    ],
)
def test_late_wakeup_in_words(stall: Any, words: Optional[str]) -> None:
    assert late_words(stall) == words


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ({"confirmation": "confirmed", "last_seen_seconds": 0.5}, "copy last seen open at 00:00:00.499 UTC"),
        ({"confirmation": "confirmed", "last_seen_seconds": None}, "copy seen open"),
        ({"confirmation": "confirmed"}, "copy seen open"),
        ({"confirmation": "gone", "last_seen_seconds": None}, None),
        ({"confirmation": "mismatch"}, None),
        ({"confirmation": None, "last_seen_seconds": None}, None),
    ],
)
def test_confirmation_in_words(holder: Any, words: Optional[str]) -> None:
    assert seen_words(holder, _STALL) == words


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ({"exiting_seconds": 0.5}, "exiting since 00:00:00.499 UTC"),
        ({"exiting_seconds": None, "dumping_core": False}, None),
        ({"exiting_seconds": None, "dumping_core": True}, "crashed, with a core dump"),
        ({}, None),  # a report of an earlier version
    ],
)
def test_an_exit_in_words(holder: Any, words: Optional[str]) -> None:
    assert end_words(holder, _STALL) == words


def test_stacks_are_listed() -> None:
    assert list(stack_lines(stacks_object(with_stacks(stall())))) == [
        "stack of the blocked thread (from py-spy)",
        "  _execute_child            /srv/_execute_child.py:1",
        "  main                      /srv/main.py:2",
        "stack of the thread that forked the holder (from kernel)",
        "  _Fork                     /lib/libc.so.6",
        "  0x2a",
        "stack of the holder (from py-spy)",
        "  sleep_on                  /srv/sleep_on.py:1",
        "no stack: holder 9: something",
    ]


def test_deep_stacks_are_cut() -> None:
    deep = python_stack(*(f"f{number}" for number in range(40)))
    lines = list(stack_lines(stacks_object(dataclasses.replace(stall(), reader_stack=deep, missing=()))))
    assert len(lines) == 18
    assert lines[-1] == "  and 24 more"
