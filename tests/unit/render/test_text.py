# SPDX-License-Identifier: Apache-2.0
"""agent.render.text: reports as text."""

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

from agent import __version__
from agent.diagnosis import judge, stall_steps
from agent.model import Cause, Confirmation, Container, Frame, Identity, Outcome, Spawn, Stack, Stall
from agent.render.steptable import step_table
from agent.render.text import end_line, run_line, spawn_line, stall_text, summary_text
from agent.render.words import stack_lines
from agent.reports.exposures import Exposures
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
    """A renderable as trace-popen writes it to a pipe, or to a terminal with colours."""
    output = io.StringIO()
    system: Any = "truecolor" if colour else None
    console = Console(file=output, highlight=False, force_terminal=colour, color_system=system, width=width)
    console.print(what, crop=False)
    return output.getvalue()


def text_of(stall: Stall, width: int = 80, **options: bool) -> str:
    """A stall as trace-popen prints it."""
    return shown(stall_text(stall_object(stall, CLOCK), **options), width)


def test_end_of_a_stall_names_the_release() -> None:
    found = judge(spawn(releases=(release(),)), 10 * MS, True).stall
    assert found is not None
    line = end_line(stall_object(found, CLOCK)).plain
    for words in ("ENDED", "parent (pid 1000, thread 1007)", "500.0 ms", "worker (pid 1020)", "exit"):
        assert words in line


def line_of(spawn: Spawn) -> str:
    """A spawn as trace-popen prints it."""
    return spawn_line(spawn_object(spawn, (), CLOCK)).plain


# -- stalls --


def test_answer_comes_first() -> None:
    found = judge(spawn(releases=(release(),)), 10 * MS, True).stall
    assert found is not None
    lines = text_of(found).splitlines()
    assert lines[:9] == [
        "STALL  parent (pid 1000, thread 1007) was blocked for 500.0 ms while starting",
        "  child (pid 1010), from 10:23:20.005 UTC.",
        "  held by  worker (pid 1020): was forked while the pipe was open and has not",
        "           called exec",
        "           cause forked, fd 6, forked by pid 1000, thread 1008, released by exit",
        "  advice   Fork workers before any thread starts programs, or have them call",
        "           exec.",
        "           https://man7.org/linux/man-pages/man2/fork.2.html",
        "         0.000 ms  pid 1000     creates the errpipe (read fd 5, write fd 6)",
    ]
    assert [line.split(None, 4)[-1] for line in lines[9:]] == [
        "is forked with a copy of the write end",
        "forks the child 1010",
        "closes its write end",
        "waits in read(5)",
        "the child calls exec, which closes its copy",
        "exits, which closes its copy",
        "read returns",
    ]
    assert lines[-1].split() == ["505.000", "ms", "pid", "1000", "read", "returns"]
    assert all(line == line.rstrip() for line in lines)
    assert "errpipe" not in text_of(found, steps=False)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    lines = text_of(stall(), width).splitlines()
    assert max(len(line) for line in lines if "https://" not in line) <= width
    assert [line for line in lines if line.endswith("fork.2.html")]  # a URL is never wrapped


def test_stall_in_progress() -> None:
    began = time.monotonic_ns() - 3 * SECOND
    text = text_of(stall(began=began, ended=None, of=waiting()))
    assert text.startswith("STALL IN PROGRESS  parent (pid 1000, thread 1007) has been blocked for 3.")
    assert "since " in text
    assert "released" not in text


def test_main_thread_is_not_named_separately() -> None:
    assert "parent (pid 1000) was" in text_of(stall(of=spawn(tid=PARENT)))


def test_unknown_holder() -> None:
    text = text_of(stall(UNSEEN))
    assert "held by  an unknown process: " in text
    assert "cause unknown" in text
    assert "None" not in text
    assert "fd " not in text.split("held by")[1].split(" advice ")[0]


def test_further_holders_are_listed() -> None:
    text = text_of(stall(holder(pid=1), holder(pid=2), holder(pid=3)))
    assert text.index("held by  worker (pid 1)") < text.index("also by  worker (pid 2)")
    assert "also by  worker (pid 3)" in text


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_own_explanation(cause: Cause) -> None:
    text = text_of(stall(holder(cause=cause)))
    assert f" cause {cause.value}, " in text
    reasons = {each: text_of(stall(holder(cause=each))).split("held by")[1].splitlines()[0] for each in Cause}
    assert len(set(reasons.values())) == len(Cause)


@pytest.mark.parametrize(
    ("confirmation", "seen", "words"),
    [
        (Confirmation.CONFIRMED, CREATED + 250 * MS, "1008, copy last seen open at 10:23:20.250 UTC\n"),
        (Confirmation.CONFIRMED, None, "1008, copy seen open\n"),  # as from --snapshot
        (None, None, "1008\n"),
    ],
)
def test_time_at_which_the_copy_was_last_seen(
    confirmation: Optional[Confirmation], seen: Optional[int], words: str
) -> None:
    text = text_of(stall(holder(confirmation=confirmation, seen=seen)), width=120)
    assert f"cause forked, fd 6, forked by pid 1000, thread {words}" in text


def test_report_of_an_earlier_version_with_a_mismatch_is_shown() -> None:
    old = stall_object(stall(), CLOCK)
    old["holders"][0]["confirmation"] = "mismatch"
    del old["holders"][0]["last_seen_seconds"]
    del old["late_wakeup_seconds"]
    assert "thread 1008\n" in shown(stall_text(old))


def test_late_wakeup_is_reported() -> None:
    text = text_of(stall(ended=BEGAN + 200 * MS, late=5_200 * MS), width=200)
    assert "was blocked for 200.0 ms while starting" in text
    assert "took another 5.20 s to wake up.\n" in text
    assert "wake up" not in text_of(stall())


def test_executable_user_and_container_of_each_process() -> None:
    inside = Identity("/opt/worker", 33, Container("ab" * 32, "podman", "11111111-2222"))
    found = dataclasses.replace(
        stall(holder(identity=inside), UNSEEN), identity=Identity("/usr/bin/python3.11", 0, None)
    )
    text = text_of(found, width=200)
    assert "  process  1000: /usr/bin/python3.11, uid 0\n" in text
    assert "   1020: /opt/worker, uid 33, container abababababab (podman), pod 11111111-2222\n" in text
    assert "forkserver" in text  # the advice is for Python


def test_unreadable_executable_is_left_out() -> None:
    found = dataclasses.replace(stall(UNSEEN), identity=Identity(None, 33, Container("ab" * 32, None, None)))
    assert "  process  1000: uid 33, container abababababab\n" in text_of(found, width=200)


def test_a_container_of_a_user_is_shown_as_such() -> None:
    rootless = Identity(None, 1000, Container("ab" * 32, "podman", None, 1000))
    text = text_of(dataclasses.replace(stall(UNSEEN), identity=rootless), width=200)
    assert "uid 1000, container abababababab (podman), created by uid 1000\n" in text


@pytest.mark.parametrize(
    ("read_cut", "by", "words"),
    [
        (False, "exit", ["read returns", "the child exits"]),
        (False, "close", ["the child closes its copy"]),
        (True, "exec", ["dies in read", "the child calls exec"]),
    ],
)
def test_steps_are_described(read_cut: bool, by: str, words: list[str]) -> None:
    seen = (release(by="close"),)
    found, _ = judge(spawn(read_cut=read_cut, own_released_by=by, exec_error=2, releases=seen), 10 * MS, True)
    assert found is not None
    text = text_of(found)
    for word in [*words, "creates the errpipe (read fd 5, write fd 6)", "closes its copy"]:
        assert word in text
    for step in stall_steps(found):
        assert step.what not in text  # each one has a description


def test_stacks_are_shown_with_and_without_steps() -> None:
    found = stall_object(with_stacks(stall()), CLOCK)
    lines = [f"  {line}" for line in stack_lines(found["stacks"])]
    assert "\n".join(lines) in shown(stall_text(found))
    assert "\n".join(lines) in shown(stall_text(found, steps=False))
    assert "stack" not in text_of(stall())


def test_line_number_after_a_long_path_is_not_cut() -> None:
    path = "/srv/" + "long/" * 30 + "app.py"
    reader = Stack("py-spy", (Frame("main", path, 1234),), BEGAN)
    text = text_of(dataclasses.replace(stall(), reader_stack=reader, missing=()), width=80)
    assert f"main                      {path}:1234\n" in text


def test_unknown_step_is_shown_unchanged() -> None:
    unheard_of: Any = "unheard_of"
    step = {"seconds": 0.005, "pid": 1, "tid": None, "what": unheard_of}
    found: Any = {**stall_object(stall(), CLOCK), "steps": [step]}
    assert shown(stall_text(found)).splitlines()[-1].split() == ["5.000", "ms", "pid", "1", "unheard_of"]


def test_stall_found_in_proc() -> None:
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
    assert lines[0].startswith("POSSIBLE STALL IN PROGRESS  parent (pid 1000, thread 1007) ")
    assert " for " not in f"{lines[0]}{lines[1]}"  # its duration is unknown
    assert lines[-2:] == [
        "  evidence read size 50000: as Python 3 reads its errpipe",
        "           the read end is close-on-exec",
    ]


# -- spawns --


@pytest.mark.parametrize("outcome", list(Outcome))
def test_spawn_is_one_line(outcome: Outcome) -> None:
    assert line_of(spawn(outcome=outcome)).split(None, 3) == [
        "10:23:20.000",
        outcome.value,
        "505.0",
        "ms  parent (pid 1000, thread 1007) -> child (pid 1010)",
    ]


def test_spawn_without_a_known_duration() -> None:
    line = line_of(spawn(read_ended=None, outcome=Outcome.ABANDONED))
    assert line.split()[1:3] == ["abandoned", "-"]


def test_spawn_lines_are_aligned() -> None:
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
    lines = summary_text(made.object(0, ongoing=1, ongoing_ns=2 * SECOND)).plain.splitlines()
    assert re.fullmatch(r"2\.\d s: p99 of a spawn 505\.0 ms, 3\.00 s lost to stalls", lines[0])
    assert lines[1] == "  4 spawns, 2 stalls, 1 failed exec, 0 lost records"
    assert lines[2] == "  spawn time: p50 505.0 ms, p95 505.0 ms, p99 505.0 ms, max 505.0 ms"
    assert lines[3:] == ["  still in progress: 1 stall"]


def test_empty_summary() -> None:
    lines = summary_text(Summary().object(0)).plain.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" s: no time lost to stalls")


def test_p99_is_an_upper_bound_or_unknown_if_records_were_lost() -> None:
    made = Summary()
    for number in range(1, 1001):
        made.add_spawn(spawn(read_ended=CREATED + number * MS))
    heads = [summary_text(made.object(lost)).plain.splitlines()[0] for lost in (0, 5, 50)]
    assert [re.sub(r"\.\d ms", "", head.split("p99 of a spawn ")[1].split(",")[0]) for head in heads] == [
        "990",
        "at most 995",
        "unknown",
    ]


def test_summary_of_an_earlier_version_has_what_it_knew() -> None:
    made = Summary()
    made.add_spawn(spawn())
    made.add_stall(stall())
    old = made.object(0, ongoing_ns=SECOND)
    del old["spawn_p99_seconds"], old["stall_total_seconds"]
    assert "p99 of a spawn 505.0 ms, 500.0 ms lost" in summary_text(old).plain


def test_each_kind_of_loss_is_a_line() -> None:
    lost = {"records_lost": 2, "slots_overflowed": 12, "walks_cut": 1, "tables_shared": 0}
    lines = summary_text(Summary().object(2, 0, lost)).plain.splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("  records were lost: ")
    assert " 12 " in lines[3] and lines[3].endswith("(slots_overflowed)")
    assert " 1 " in lines[4] and lines[4].endswith("(walks_cut)")


def test_each_kind_of_exposure_is_a_line() -> None:
    made = Summary(exposures=Exposures())
    made.add_spawn(spawn(comm=b"\x1b[31m", exposures=((Cause.FORKED, 1), (Cause.LATE_EXEC, 12))))
    lines = summary_text(made.object(0)).plain.splitlines()
    assert "  12 exposures of \\x1b[31m, cause late_exec" in lines
    assert "  1 exposure of \\x1b[31m, cause forked" in lines


def test_summary_of_an_earlier_version_has_no_losses() -> None:
    old = Summary().object(0)
    del old["not_followed"], old["exposures"]
    assert "not followed" not in summary_text(old).plain


def test_lost_records_are_reported() -> None:
    assert "records were lost" in summary_text(Summary().object(1)).plain
    assert "records were lost" not in summary_text(Summary().object(0)).plain


def _run_text(report: Any, until: Optional[str] = None, width: int = 300) -> str:
    return shown(run_line(report, until), width=width).rstrip("\n")


def test_a_run_says_where_and_when() -> None:
    host = "  on web-1 (Linux 6.1.0, x86_64) from 2026-11-24 09:51:40"
    command = f"UTC by trace-popen {__version__} --min-ms 5"
    made = {**reportsamples.run(), "machine": "x86_64"}
    assert _run_text(made) == f"{host} {command}"
    assert _run_text(made, "2026-11-24T09:51:43.9Z") == f"{host} to 09:51:43 {command}"
    assert _run_text(made, "2026-11-25T09:51:43.9Z") == f"{host} to 2026-11-25 09:51:43 {command}"


def test_a_run_of_a_command_shows_its_arguments_only_if_they_are_recorded() -> None:
    assert _run_text(reportsamples.run("make", "a", "b")).endswith("--min-ms 5 -- make (2 arguments)")
    recorded = reportsamples.run("make", "a b", with_arguments=True)
    assert _run_text(recorded).endswith("-- make 'a b'")
    assert _run_text(reportsamples.run("x", *["y"] * 1200, with_arguments=True)).endswith("...")


def test_a_run_on_a_narrow_terminal_is_indented() -> None:
    _first, *others = _run_text(reportsamples.run("make"), width=40).splitlines()
    assert others
    assert all(line.startswith("    ") and len(line) <= 40 for line in others)


# -- hostile comms --


@given(st.binary(max_size=15), st.binary(max_size=15), st.binary(max_size=15))
def test_hostile_comms_cannot_control_a_terminal(parent: bytes, child: bytes, other: bytes) -> None:
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
def test_markup_and_control_characters_in_a_comm_are_shown_literally(comm: bytes, text: str) -> None:
    found = stall(holder(comm=comm), of=spawn(comm=comm, child_comm=comm))
    assert text_of(found, width=200).count(text) == 3


def test_file_gets_the_same_text_as_a_terminal_without_colour() -> None:
    text = stall_text(stall_object(stall(), CLOCK))
    coloured = shown(text, colour=True)
    assert "\x1b[" in coloured
    assert _STYLE.sub("", coloured) == shown(text)


@given(reportsamples.objects)
def test_every_valid_report_can_be_shown(reports: list[Any]) -> None:
    for report in reports:
        if report["type"] == "summary":
            shown(summary_text(report))
        elif report["type"] == "run":
            shown(run_line(report))
        elif report["type"] == "spawn":
            shown(spawn_line(report))
        elif report["type"] == "stall":
            shown(stall_text(report))
            table = step_table(report)
            if table is not None:
                shown(table)
