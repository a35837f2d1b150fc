# SPDX-License-Identifier: Apache-2.0
"""agent.serve.labels: the bound on the values of a label."""

from __future__ import annotations

import time

import pytest

from agent.serve.labels import OTHER, Label, Recent


def test_the_first_comms_get_values() -> None:
    label = Label("comm", 2)
    assert [label.value(comm) for comm in (b"a", b"b", b"c", b"a")] == ["a", "b", OTHER, "a"]


def test_memory_is_bounded() -> None:
    label = Label("comm", 100)
    values = {label.value(b"comm-%d" % number) for number in range(10_000)}
    assert len(values) == 101
    assert len(label._recent) == 100


def test_allowed_comms_do_not_count_towards_the_limit() -> None:
    label = Label("comm", 1, allow=["x"])
    assert [label.value(comm) for comm in (b"x", b"a", b"x", b"b")] == ["x", "a", "x", OTHER]


def test_the_first_matching_rule_wins() -> None:
    label = Label("comm", 1, allow=["w-1"], rules=[("w-[0-9]+", "worker"), ("w.*", "other worker")])
    assert [label.value(comm) for comm in (b"w-1", b"w-1x", b"aw-1")] == ["worker", "other worker", "aw-1"]


def test_the_names_of_rules_and_of_the_rest_take_no_room() -> None:
    """Otherwise a process with such a comm could end the series that it shares."""
    label = Label("comm", 1, rules=[("w-[0-9]+", "worker")])
    assert [label.value(comm) for comm in (b"worker", b"~other", b"a", b"w-1")] == [
        "worker",
        OTHER,
        "a",
        "worker",
    ]


def test_the_longest_unused_value_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ended: list[str] = []
    recent: Recent[str] = Recent("letters", 2, ended.append)
    used = []
    for at, member in ((0, "a"), (1, "b"), (2, "a"), (3600, "c"), (3601, "c"), (3601, "d"), (3602, "d")):
        now = at
        used.append(recent.use(member))
    assert used == [True, True, True, False, True, False, True]
    assert ended == ["b", "a"]


def test_a_discarded_value_makes_room_at_once() -> None:
    ended: list[str] = []
    recent: Recent[str] = Recent("letters", 1, ended.append)
    assert recent.use("a") and not recent.use("b")
    recent.discard(lambda member: member == "a")
    assert recent.use("b")
    assert ended == []


def test_comms_that_are_not_text() -> None:
    assert Label("comm", 1).value(b"") == "unknown"
    assert Label("comm", 1).value(b"\xff\n") == r"\xff\n"
