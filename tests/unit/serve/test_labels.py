"""agent.serve.labels: how many values one label takes."""

from __future__ import annotations

from agent.serve.labels import OTHER, Label


def test_first_come() -> None:
    label = Label(2)
    assert [label.value(comm) for comm in (b"a", b"b", b"c", b"a")] == ["a", "b", OTHER, "a"]


def test_ten_thousand_comms_cost_no_memory() -> None:
    label = Label(100)
    values = {label.value(b"comm-%d" % number) for number in range(10_000)}
    assert len(values) == 101
    assert len(label._seen) == 100


def test_allowed_ones_are_not_counted() -> None:
    label = Label(1, allow=["x"])
    assert [label.value(comm) for comm in (b"x", b"a", b"x", b"b")] == ["x", "a", "x", OTHER]


def test_the_first_rule_that_matches_the_whole_comm() -> None:
    label = Label(1, allow=["w-1"], rules=[("w-[0-9]+", "worker"), ("w.*", "other worker")])
    assert [label.value(comm) for comm in (b"w-1", b"w-1x", b"aw-1")] == ["worker", "other worker", "aw-1"]


def test_what_is_no_text() -> None:
    assert Label(1).value(b"") == "unknown"
    assert Label(1).value(b"\xff\n") == r"\xff\n"
