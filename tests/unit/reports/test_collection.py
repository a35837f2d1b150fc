# SPDX-License-Identifier: Apache-2.0
"""agent.reports.collection: each stall once, and no more than the limit."""

from __future__ import annotations

from typing import Any

from agent.reports.collection import Collection
from tests.unit.reportsamples import ended, found, ongoing, plain_spawn, run, summary


def test_a_stall_reported_in_progress_and_ended_is_one() -> None:
    collection = Collection([ongoing(1), ended(2), ended(1)])
    assert [((stall["id"] or "")[-1], stall["state"]) for stall in collection.stalls] == [
        ("1", "ended"),
        ("2", "ended"),
    ]


def test_a_stall_that_has_not_ended_stays_ongoing() -> None:
    collection = Collection([ongoing(1, 0.5), ongoing(1, 0.7)])
    assert [stall["stall_seconds"] for stall in collection.stalls] == [0.7]


def _without_id(**changes: Any) -> Any:
    """As version 0.1 reported a stall found in /proc."""
    return {**found(**changes), "id": None}


def test_stalls_without_an_id_are_told_apart_by_their_threads() -> None:
    """The same thread can stall again: only a stall in progress is continued."""
    first = [_without_id(seconds=1.0), _without_id(seconds=2.0, state="ended")]
    again = [_without_id(seconds=3.0, state="ended"), _without_id(tid=7, seconds=4.0)]
    collection = Collection([*first, *again])
    assert [stall["stall_seconds"] for stall in collection.stalls] == [2.0, 3.0, 4.0]


def test_another_read_of_the_same_thread_is_another_stall() -> None:
    collection = Collection([_without_id(seconds=1.0), _without_id(seconds=2.0, read_fd=9)])
    assert [stall["stall_seconds"] for stall in collection.stalls] == [1.0, 2.0]


def test_a_stall_found_in_proc_is_known_by_its_pipe() -> None:
    collection = Collection([found(seconds=1.0), found(seconds=2.0, state="ended"), found(pipe="pipe:[2]")])
    assert [(stall["id"], stall["state"]) for stall in collection.stalls] == [
        ("8000000000000001", "ended"),
        ("8000000000000002", "ongoing"),
    ]


def test_the_last_summary_counts() -> None:
    collection = Collection([summary(1), summary(5)])
    assert collection.summary is not None
    assert (collection.summary["spawns"], collection.summaries) == (5, 2)
    assert Collection().summary is None


def test_the_last_run_counts() -> None:
    """A file can contain several runs, one after another; a summary belongs to the run before it."""
    first, last = run("make"), run()
    collection = Collection([first, summary(1), last])
    assert (collection.run, collection.summary) == (last, None)
    assert Collection([summary(1)]).run is None


def test_the_longest_are_kept_in_their_order() -> None:
    stalls: list[Any] = [{**ended(number), "stall_seconds": number * 7919 % 101} for number in range(100)]
    collection = Collection(stalls, limit=10)
    longest = sorted(stalls, key=lambda stall: stall["stall_seconds"])[-10:]
    assert collection.stalls == [stall for stall in stalls if stall in longest]
    assert collection.stalls_left_out == 90


def test_no_length_is_longer_than_any() -> None:
    others: list[Any] = [{**ended(number), "stall_seconds": 1e9} for number in range(9)]
    collection = Collection([found(), *others], limit=2)
    assert collection.stalls[0]["stall_seconds"] is None


def test_a_stall_that_was_left_out_and_then_ended_is_counted_once() -> None:
    longer: list[Any] = [{**ended(number), "stall_seconds": 5.0} for number in range(2, 8)]
    last: Any = {**ended(1), "stall_seconds": 9.0}
    collection = Collection([ongoing(1, 1.0), *longer, last], limit=2)
    assert collection.stalls[0]["stall_seconds"] == 9.0
    assert collection.stalls_left_out == 5


def test_spawns_are_bounded_too() -> None:
    spawns: list[Any] = [{**plain_spawn(), "spawn_seconds": float(number)} for number in range(30)]
    collection = Collection(spawns, limit=3)
    assert [spawn["spawn_seconds"] for spawn in collection.spawns] == [27.0, 28.0, 29.0]
    assert (collection.spawns_left_out, collection.stalls_left_out) == (27, 0)
