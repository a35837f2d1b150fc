"""agent.text: what a person reads."""

from __future__ import annotations

import io
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from agent.diagnosis import ended_stall
from agent.model import Cause, Confirmation, Outcome, Step
from agent.report import Summary
from agent.text import duration, spawn_line, stall_text, summary_text
from tests.unit.samples import (
    BEGAN,
    CREATED,
    ENDED,
    MS,
    PARENT,
    SECOND,
    UNSEEN,
    holder,
    release,
    spawn,
    stall,
    waiting,
)
from tests.unit.test_report import CLOCK

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(text: Text) -> str:
    """What reaches a terminal that has colours, written as trace-popen does, without rich's own styles."""
    output = io.StringIO()
    console = Console(
        file=output, soft_wrap=True, highlight=False, force_terminal=True, color_system="truecolor", width=80
    )
    console.print(text)
    return _STYLE.sub("", output.getvalue())


# -- duration --


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


# -- stalls --


def test_the_answer_comes_first() -> None:
    found = ended_stall(spawn(), [release()], (), {}, 10 * MS, True)
    assert found is not None
    lines = stall_text(found, CLOCK).plain.splitlines()
    assert lines[0] == "STALL  parent (pid 1000, thread 1007) was blocked for 500.0 ms,"
    assert lines[1] == "  from 10:23:20.005 UTC, in starting child (pid 1010)."
    assert lines[2] == ("  held by  worker (pid 1020): forked while the pipe was open, and not execed since")
    assert lines[3] == "           cause forked, fd 6, forked by pid 1000, let go by exit"
    assert [line.split(None, 4)[-1] for line in lines[4:]] == [
        "makes the errpipe (read fd 5, write fd 6)",
        "is forked, with a copy of the write end",
        "forks the child 1010",
        "closes its own write end",
        "waits in read(5)",
        "the child execs: its copy is closed",
        "exits: its copy is closed",
        "read returns",
    ]
    assert lines[-1].split() == ["505.000", "ms", "pid", "1000", "read", "returns"]


def test_a_stall_that_is_going_on() -> None:
    began = time.monotonic_ns() - 3 * SECOND
    text = stall_text(stall(began=began, ended=None, of=waiting()), CLOCK).plain
    assert text.startswith("STALL GOING ON  parent (pid 1000, thread 1007) has been blocked for 3.")
    assert "let go" not in text


def test_a_main_thread_is_not_told_apart() -> None:
    assert "parent (pid 1000) was" in stall_text(stall(of=spawn(tid=PARENT)), CLOCK).plain


def test_somebody_unknown() -> None:
    text = stall_text(stall(UNSEEN), CLOCK).plain
    assert "held by  somebody unknown: its copy was not seen" in text
    assert "None" not in text
    assert "fd " not in text.split("held by")[1]


def test_further_holders() -> None:
    text = stall_text(stall(holder(pid=1), holder(pid=2), holder(pid=3)), CLOCK).plain
    assert text.index("held by  worker (pid 1)") < text.index("also by  worker (pid 2)")
    assert "also by  worker (pid 3)" in text


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_reason(cause: Cause) -> None:
    text = stall_text(stall(holder(cause=cause)), CLOCK).plain
    assert f" cause {cause.value}, " in text
    others = [each for each in Cause if each is not cause]
    reason = text.split("held by")[1].split(": ")[1].splitlines()[0]
    assert all(reason not in stall_text(stall(holder(cause=each)), CLOCK).plain for each in others)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (Confirmation.CONFIRMED, "seen in /proc"),
        (Confirmation.MISMATCH, "/proc disagrees"),
        (Confirmation.GONE, None),
        (None, None),
    ],
)
def test_what_proc_said(said: Confirmation, word: str) -> None:
    text = stall_text(stall(holder(confirmation=said)), CLOCK).plain
    if word is None:
        assert "/proc" not in text
    else:
        assert word in text


@pytest.mark.parametrize(
    ("read_cut", "by", "words"),
    [
        (False, "exit", ["read returns", "the child exits"]),
        (False, "close", ["the child closes its copy"]),
        (True, "exec", ["dies in read", "the child execs"]),
    ],
)
def test_steps_in_words(read_cut: bool, by: str, words: list[str]) -> None:
    found = ended_stall(
        spawn(read_cut=read_cut, own_released_by=by, exec_error=2),
        [release(by="close")],
        (),
        {},
        10 * MS,
        True,
    )
    assert found is not None
    text = stall_text(found, CLOCK).plain
    for word in [*words, "makes the errpipe (read fd 5, write fd 6)", "closes its copy"]:
        assert word in text
    for step in found.steps:
        assert step.what not in text  # each has words of its own


def test_a_step_without_words_is_shown_as_it_is() -> None:
    found = stall()
    text = stall_text(
        type(found)(found.spawn, BEGAN, ENDED, found.holders, (Step(BEGAN, 1, None, "news"),)), CLOCK
    )
    assert text.plain.splitlines()[-1].split() == ["5.000", "ms", "pid", "1", "news"]


# -- spawns --


@pytest.mark.parametrize("outcome", list(Outcome))
def test_spawn_line(outcome: Outcome) -> None:
    line = spawn_line(spawn(outcome=outcome), CLOCK).plain
    assert line.split(None, 3) == [
        "10:23:20.000",
        outcome.value,
        "505.0",
        "ms  parent (pid 1000, thread 1007) -> child (pid 1010)",
    ]


def test_a_spawn_that_did_not_end() -> None:
    line = spawn_line(spawn(read_ended=None, outcome=None), CLOCK).plain
    assert line.split()[1:3] == ["abandoned", "-"]


def test_lines_are_aligned() -> None:
    lines = [
        spawn_line(spawn(outcome=outcome, read_ended=ended), CLOCK).plain
        for outcome in Outcome
        for ended in (None, ENDED, CREATED + 7_000, CREATED + 1000 * SECOND)
    ]
    assert len({line.index("parent") for line in lines}) == 1


# -- summary --


def test_summary() -> None:
    made = Summary(began=time.monotonic_ns() - 2 * SECOND)
    for _ in range(3):
        made.add_spawn(spawn())
    made.add_spawn(spawn(outcome=Outcome.EXEC_FAILED))
    made.add_stall(stall())
    made.add_stall(stall(UNSEEN))
    lines = summary_text(made.object(0)).plain.splitlines()
    assert re.fullmatch(r"2\.\d s: 4 spawns, 2 stalls, 1 failed exec, 0 lost records", lines[0])
    assert lines[1] == "  a spawn took: p50 505.0 ms, p95 505.0 ms, p99 505.0 ms, max 505.0 ms"
    assert lines[2] == "  stalled in all: 1.00 s, held by"
    assert [line.split(None, 2) for line in lines[3:]] == [
        ["worker", "forked", "1 stall, 500.0 ms"],
        ["unknown", "unknown", "1 stall, 500.0 ms"],
    ]


def test_a_summary_of_nothing_is_one_line() -> None:
    assert summary_text(Summary().object(0)).plain.count("\n") == 1


def test_lost_records_are_confessed() -> None:
    assert "records were lost" in summary_text(Summary().object(1)).plain
    assert "records were lost" not in summary_text(Summary().object(0)).plain


# -- comms that would harm a terminal --


@given(st.binary(max_size=15), st.binary(max_size=15), st.binary(max_size=15))
def test_hostile_comms_on_a_terminal(parent: bytes, child: bytes, other: bytes) -> None:
    of = spawn(comm=parent, child_comm=child)
    made = Summary()
    made.add_spawn(of)
    found = ended_stall(of, [release(comm=other)], (), {}, 10 * MS, True)
    assert found is not None
    made.add_stall(found)
    for text in (stall_text(found, CLOCK), spawn_line(of, CLOCK), summary_text(made.object(1))):
        shown = on_terminal(text)
        assert all(char.isprintable() or char == "\n" for char in shown)
        assert shown.count("\n") == text.plain.count("\n") + 1  # no line of its own


@pytest.mark.parametrize(
    ("comm", "shown"),
    [
        (b"\x1b[2J\x1b[31mx", r"\x1b[2J\x1b[31mx"),
        (b"[bold]x[/bold]", "[bold]x[/bold]"),
        (b":smile:", ":smile:"),
        (b"x\r\nSTALL", r"x\r\nSTALL"),
        (b"{r} %s", "{r} %s"),
        (b"\xff\x07", r"\xff\x07"),
    ],
)
def test_a_comm_is_shown_not_obeyed(comm: bytes, shown: str) -> None:
    text = on_terminal(stall_text(stall(holder(comm=comm), of=spawn(comm=comm, child_comm=comm)), CLOCK))
    assert text.count(shown) == 3


def test_a_terminal_gets_colour_and_a_file_the_same_words_without() -> None:
    text = stall_text(stall(), CLOCK)
    plain, coloured = io.StringIO(), io.StringIO()
    Console(file=plain, soft_wrap=True, highlight=False).print(text)
    Console(
        file=coloured, soft_wrap=True, highlight=False, force_terminal=True, color_system="standard"
    ).print(text)
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[" in coloured.getvalue()
    assert _STYLE.sub("", coloured.getvalue()) == plain.getvalue()
