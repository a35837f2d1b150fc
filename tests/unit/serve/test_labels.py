# SPDX-License-Identifier: Apache-2.0
"""agent.serve.labels: the bound on the values of a label."""

from __future__ import annotations

from agent.serve.labels import OTHER, Label


def test_the_first_comms_get_values() -> None:
    label = Label(2)
    assert [label.value(comm) for comm in (b"a", b"b", b"c", b"a")] == ["a", "b", OTHER, "a"]


def test_memory_is_bounded() -> None:
    label = Label(100)
    values = {label.value(b"comm-%d" % number) for number in range(10_000)}
    assert len(values) == 101
    assert len(label._seen) == 100


def test_allowed_comms_do_not_count_towards_the_limit() -> None:
    label = Label(1, allow=["x"])
    assert [label.value(comm) for comm in (b"x", b"a", b"x", b"b")] == ["x", "a", "x", OTHER]


def test_the_first_matching_rule_wins() -> None:
    label = Label(1, allow=["w-1"], rules=[("w-[0-9]+", "worker"), ("w.*", "other worker")])
    assert [label.value(comm) for comm in (b"w-1", b"w-1x", b"aw-1")] == ["worker", "other worker", "aw-1"]


def test_comms_that_are_not_text() -> None:
    assert Label(1).value(b"") == "unknown"
    assert Label(1).value(b"\xff\n") == r"\xff\n"
