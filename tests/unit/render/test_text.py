"""agent.render.text: what a person reads."""

from __future__ import annotations

import dataclasses
import io
import re
import time
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from agent.diagnosis import judge
from agent.model import Cause, Confirmation, Container, Frame, Identity, Outcome, Spawn, Stack, Stall, Step
from agent.render.steptable import step_table
from agent.render.text import spawn_line, stall_text, summary_text
from agent.render.words import stack_lines
from agent.reports.objects import Summary, spawn_object, stall_object
from tests.unit import reportsamples
from tests.unit.reports.test_objects import CLOCK
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
    with_stacks,
)

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def shown(what: RenderableType, width: int = 80, colour: bool = False) -> str:
    """What reaches a pipe, or a terminal with colours, as trace-popen writes it."""
    output = io.StringIO()
    system: Any = "truecolor" if colour else None
    console = Console(file=output, highlight=False, force_terminal=colour, color_system=system, width=width)
    console.print(what, crop=False)
    return output.getvalue()


def said(stall: Stall, width: int = 80, **options: bool) -> str:
    """A stall as text."""
    return shown(stall_text(stall_object(stall, CLOCK), **options), width)


def line_of(spawn: Spawn) -> str:
    """A spawn as text."""
    return spawn_line(spawn_object(spawn, (), CLOCK)).plain


# -- stalls --


def test_the_answer_comes_first() -> None:
    found = judge(spawn(releases=(release(),)), 10 * MS, True).stall
    assert found is not None
    lines = said(found).splitlines()
    assert lines[:8] == [
        "STALL  parent (pid 1000, thread 1007) was blocked for 500.0 ms in starting",
        "  child (pid 1010), from 10:23:20.005 UTC.",
        "  held by  worker (pid 1020): forked while the pipe was open, and not execed",
        "           since",
        "           cause forked, fd 6, forked by pid 1000, thread 1008, let go by exit",
        "  do       Fork workers before any thread starts programs, or let them exec.",
        "           https://man7.org/linux/man-pages/man2/fork.2.html",
        "         0.000 ms  pid 1000     makes the errpipe (read fd 5, write fd 6)",
    ]
    assert [line.split(None, 4)[-1] for line in lines[8:]] == [
        "is forked, with a copy of the write end",
        "forks the child 1010",
        "closes its own write end",
        "waits in read(5)",
        "the child execs: its copy is closed",
        "exits: its copy is closed",
        "read returns",
    ]
    assert lines[-1].split() == ["505.000", "ms", "pid", "1000", "read", "returns"]
    assert all(line == line.rstrip() for line in lines)
    assert "makes the errpipe" not in said(found, steps=False)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_lines_are_as_wide_as_the_terminal(width: int) -> None:
    lines = said(stall(), width).splitlines()
    assert max(len(line) for line in lines if "https://" not in line) <= width
    assert [line for line in lines if line.endswith("fork.2.html")]  # an address is never broken


def test_a_stall_that_is_going_on() -> None:
    began = time.monotonic_ns() - 3 * SECOND
    text = said(stall(began=began, ended=None, of=waiting()))
    assert text.startswith("STALL GOING ON  parent (pid 1000, thread 1007) has been blocked for 3.")
    assert "since " in text
    assert "let go" not in text


def test_a_main_thread_is_not_told_apart() -> None:
    assert "parent (pid 1000) was" in said(stall(of=spawn(tid=PARENT)))


def test_somebody_unknown() -> None:
    text = said(stall(UNSEEN))
    assert "held by  somebody whose copy was not seen: cause unknown" in text
    assert "None" not in text
    assert "fd " not in text.split("held by")[1].split(" do ")[0]


def test_further_holders() -> None:
    text = said(stall(holder(pid=1), holder(pid=2), holder(pid=3)))
    assert text.index("held by  worker (pid 1)") < text.index("also by  worker (pid 2)")
    assert "also by  worker (pid 3)" in text


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_reason(cause: Cause) -> None:
    text = said(stall(holder(cause=cause)))
    assert f" cause {cause.value}, " in text
    reasons = {each: said(stall(holder(cause=each))).split("held by")[1].splitlines()[0] for each in Cause}
    assert len(set(reasons.values())) == len(Cause)


@pytest.mark.parametrize(
    ("confirmation", "seen", "words"),
    [
        (Confirmation.CONFIRMED, CREATED + 250 * MS, "1008, seen holding it at 10:23:20.250 UTC\n"),
        (Confirmation.CONFIRMED, None, "1008, seen holding it\n"),  # as by --snapshot
        (None, None, "1008\n"),
    ],
)
def test_when_a_look_saw_the_copy(
    confirmation: Optional[Confirmation], seen: Optional[int], words: str
) -> None:
    text = said(stall(holder(confirmation=confirmation, seen=seen)), width=120)
    assert f"cause forked, fd 6, forked by pid 1000, thread {words}" in text


def test_a_report_of_an_earlier_version_may_say_that_proc_disagreed() -> None:
    old = stall_object(stall(), CLOCK)
    old["holders"][0]["confirmation"] = "mismatch"
    for key in ("last_seen_seconds",):
        del old["holders"][0][key]
    del old["late_wakeup_seconds"]
    assert "thread 1008\n" in shown(stall_text(old))


def test_a_reader_that_was_woken_late() -> None:
    text = said(stall(ended=BEGAN + 200 * MS, late=5_200 * MS), width=200)
    assert "was blocked for 200.0 ms in starting" in text
    late = "UTC. After that the reader was woken 5.20 s late: nobody held the pipe any more.\n"
    assert late in text
    assert "woken" not in said(stall())


def test_who_the_processes_are() -> None:
    inside = Identity("/opt/worker", 33, Container("ab" * 32, "podman", "11111111-2222"))
    found = dataclasses.replace(
        stall(holder(identity=inside), UNSEEN), identity=Identity("/usr/bin/python3.11", 0, None)
    )
    text = said(found, width=200)
    assert "  who      1000 is /usr/bin/python3.11, uid 0\n" in text
    assert "   1020 is /opt/worker, uid 33, container abababababab (podman), pod 11111111-2222\n" in text
    assert "forkserver" in text  # the advice is for Python


def test_who_has_an_executable_that_may_not_be_seen() -> None:
    found = dataclasses.replace(stall(UNSEEN), identity=Identity(None, 33, Container("ab" * 32, None, None)))
    assert "  who      1000 is uid 33, container abababababab\n" in said(found, width=200)


@pytest.mark.parametrize(
    ("read_cut", "by", "words"),
    [
        (False, "exit", ["read returns", "the child exits"]),
        (False, "close", ["the child closes its copy"]),
        (True, "exec", ["dies in read", "the child execs"]),
    ],
)
def test_steps_in_words(read_cut: bool, by: str, words: list[str]) -> None:
    seen = (release(by="close"),)
    found, _ = judge(spawn(read_cut=read_cut, own_released_by=by, exec_error=2, releases=seen), 10 * MS, True)
    assert found is not None
    text = said(found)
    for word in [*words, "makes the errpipe (read fd 5, write fd 6)", "closes its copy"]:
        assert word in text
    for step in found.steps:
        assert step.what not in text  # each has words of its own


def test_stacks() -> None:
    found = stall_object(with_stacks(stall()), CLOCK)
    lines = [f"  {line}" for line in stack_lines(found["stacks"])]
    assert "\n".join(lines) in shown(stall_text(found))
    assert "\n".join(lines) in shown(stall_text(found, steps=False))
    assert "stack" not in said(stall())


def test_the_line_number_after_a_long_path_is_not_cut() -> None:
    path = "/srv/" + "long/" * 30 + "app.py"
    reader = Stack("py-spy", (Frame("main", path, 1234),), BEGAN)
    found = said(dataclasses.replace(stall(), reader_stack=reader, missing=()), width=80)
    assert f"main                      {path}:1234\n" in found


def test_a_step_without_words_is_shown_as_it_is() -> None:
    news: Any = "news"
    found = dataclasses.replace(stall(), steps=(Step(BEGAN, 1, None, news),))
    assert said(found).splitlines()[-1].split() == ["5.000", "ms", "pid", "1", "news"]


def test_a_stall_that_was_found_in_proc() -> None:
    found: Any = {
        **stall_object(stall(ended=None, of=waiting()), CLOCK),
        "certainty": "possible",
        "evidence": ["read size 50000: as Python 3 reads its errpipe", "the read end is close-on-exec"],
        "child": None,
        "began_seconds": None,
        "stall_seconds": None,
        "steps": [],
    }
    lines = shown(stall_text(found)).splitlines()
    assert lines[0] == "POSSIBLE STALL GOING ON  parent (pid 1000, thread 1007) has been blocked in"
    assert lines[1] == "  starting a program."
    assert lines[-2:] == [
        "  seen     read size 50000: as Python 3 reads its errpipe",
        "           the read end is close-on-exec",
    ]


# -- spawns --


@pytest.mark.parametrize("outcome", list(Outcome))
def test_spawn_line(outcome: Outcome) -> None:
    assert line_of(spawn(outcome=outcome)).split(None, 3) == [
        "10:23:20.000",
        outcome.value,
        "505.0",
        "ms  parent (pid 1000, thread 1007) -> child (pid 1010)",
    ]


def test_a_spawn_that_did_not_end() -> None:
    line = line_of(spawn(read_ended=None, outcome=Outcome.ABANDONED))
    assert line.split()[1:3] == ["abandoned", "-"]


def test_lines_are_aligned() -> None:
    lines = [
        line_of(spawn(outcome=outcome, read_ended=ended))
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
    lines = summary_text(made.object(0, ongoing=1)).plain.splitlines()
    assert re.fullmatch(r"2\.\d s: 4 spawns, 2 stalls, 1 failed exec, 0 lost records", lines[0])
    assert lines[1] == "  a spawn took: p50 505.0 ms, p95 505.0 ms, p99 505.0 ms, max 505.0 ms"
    assert lines[2] == "  stalled in all: 1.00 s, held by"
    assert [line.split(None, 2) for line in lines[3:5]] == [
        ["worker", "forked", "1 stall, 500.0 ms"],
        ["unknown", "unknown", "1 stall, 500.0 ms"],
    ]
    assert lines[5:] == ["  still going on: 1 stall"]


def test_a_summary_of_nothing_is_one_line() -> None:
    assert summary_text(Summary().object(0)).plain.count("\n") == 0


def test_what_is_not_followed_is_a_line_each() -> None:
    lost = {"records_lost": 2, "slots_overflowed": 12, "walks_cut": 1, "tables_shared": 0}
    lines = summary_text(Summary().object(2, 0, lost)).plain.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("  records were lost: ")
    assert " 12 " in lines[2] and lines[2].endswith("(slots_overflowed)")
    assert " 1 " in lines[3] and lines[3].endswith("(walks_cut)")


def test_a_summary_of_an_earlier_version_says_nothing_of_it() -> None:
    old = Summary().object(0)
    del old["not_followed"]
    assert summary_text(old).plain.count("\n") == 0


def test_lost_records_are_confessed() -> None:
    assert "records were lost" in summary_text(Summary().object(1)).plain
    assert "records were lost" not in summary_text(Summary().object(0)).plain


# -- comms that would harm a terminal --


@given(st.binary(max_size=15), st.binary(max_size=15), st.binary(max_size=15))
def test_hostile_comms_on_a_terminal(parent: bytes, child: bytes, other: bytes) -> None:
    of = spawn(comm=parent, child_comm=child)
    made = Summary()
    made.add_spawn(of)
    found = judge(dataclasses.replace(of, releases=(release(comm=other),)), 10 * MS, True).stall
    assert found is not None
    made.add_stall(found)
    for what in (
        stall_text(stall_object(found, CLOCK)),
        spawn_line(spawn_object(of, (), CLOCK)),
        summary_text(made.object(1)),
    ):
        text = _STYLE.sub("", shown(what, width=300, colour=True))
        assert all(char.isprintable() or char == "\n" for char in text)
        assert text.count("\n") == shown(what, width=300).count("\n")


@pytest.mark.parametrize(
    ("comm", "text"),
    [
        (b"\x1b[2J\x1b[31mx", r"\x1b[2J\x1b[31mx"),
        (b"[bold]x[/bold]", "[bold]x[/bold]"),
        (b":smile:", ":smile:"),
        (b"x\r\nSTALL", r"x\r\nSTALL"),
        (b"{r} %s", "{r} %s"),
        (b"\xff\x07", r"\xff\x07"),
    ],
)
def test_a_comm_is_shown_not_obeyed(comm: bytes, text: str) -> None:
    found = stall(holder(comm=comm), of=spawn(comm=comm, child_comm=comm))
    assert said(found, width=200).count(text) == 3


def test_a_terminal_gets_colour_and_a_file_the_same_words_without() -> None:
    text = stall_text(stall_object(stall(), CLOCK))
    coloured = shown(text, colour=True)
    assert "\x1b[" in coloured
    assert _STYLE.sub("", coloured) == shown(text)


@given(reportsamples.objects)
def test_whatever_was_kept_can_be_shown(told: list[Any]) -> None:
    for report in told:
        if report["type"] == "summary":
            shown(summary_text(report))
        elif report["type"] == "spawn":
            shown(spawn_line(report))
        else:
            shown(stall_text(report))
            table = step_table(report)
            if table is not None:
                shown(table)
