# SPDX-License-Identifier: Apache-2.0
"""agent.render.steptable: which process had which fds open after each step."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

from rich.console import Console

from agent.diagnosis import judge, ongoing_stall
from agent.model import Stall
from agent.render.steptable import step_table
from agent.reports.objects import stall_object
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import ENDED, MS, UNSEEN, holder, release, spawn, stall, waiting


def rows(made: Stall, width: int = 120) -> list[list[str]]:
    """The cells of each row."""
    table = step_table(stall_object(made, CLOCK))
    assert table is not None
    return [[str(cell) for cell in cells] for cells in zip(*(column._cells for column in table.columns))]


def headers(made: Stall) -> list[str]:
    table = step_table(stall_object(made, CLOCK))
    assert table is not None
    return [str(column.header).replace("\n", " ") for column in table.columns]


def test_table_of_an_ended_stall() -> None:
    made = judge(spawn(releases=(release(),)), 10 * MS, True).stall
    assert made is not None
    assert headers(made) == [
        "step",
        "ms",
        "action",
        "thread 1007",
        "thread 1008",
        "parent 1000",
        "child 1010",
        "holder 1020",
    ]
    assert rows(made) == [
        ["1", "0.000", "parent creates the errpipe", "pipe", "", "5,6", "", ""],
        ["2", "0.500", "holder is forked", "", "fork", "5,6", "", "6"],
        ["3", "1.000", "parent forks the child", "fork", "", "5,6", "6", "6"],
        ["4", "2.000", "parent closes its write end", "close(6)", "", "5,-", "6", "6"],
        ["5", "3.000", "parent reads", "read(5)", "", "5,-", "6", "6"],
        ["6", "5.000", "child calls exec", "|", "", "5,-", "-", "6"],
        ["7", "505.000", "holder exits", "|", "", "5,-", "-", "-"],
        ["8", "505.000", "parent's read returns", "returns", "", "5,-", "-", "-"],
    ]


def test_table_of_a_stall_in_progress_ends_in_the_read() -> None:
    made = ongoing_stall(waiting(), [holder()], ENDED, MS, True)
    assert made is not None
    last = rows(made)[-1]
    assert last[3] == "|"
    assert last[-1] == "6"


def test_holders_after_the_fourth_are_only_counted() -> None:
    releases = tuple(release(pid=2000 + number, at=ENDED - number * MS) for number in range(6))
    made = judge(spawn(releases=releases), 10 * MS, True).stall
    assert made is not None
    assert sum(header.startswith("holder") for header in headers(made)) == 4
    table = step_table(stall_object(made, CLOCK))
    assert table is not None
    assert str(table.caption).startswith("2 more holders")
    assert any("holder 2005 exits" in row[2] for row in rows(made))


def test_holder_forked_by_another_process_has_no_thread_column() -> None:
    made = judge(spawn(releases=(release(parent=77, forker=78),)), 10 * MS, True).stall
    assert made is not None
    assert "thread 78" not in headers(made)


def test_unknown_thread_has_no_column() -> None:
    """agent.reports.replay accepts a report in which the tid is null."""
    made = judge(spawn(releases=(release(),)), 10 * MS, True).stall
    assert made is not None
    report: Any = stall_object(made, CLOCK)
    assert report["holders"][0]["forked_by"]["pid"] == report["parent"]["pid"]
    report["holders"][0]["forked_by"]["tid"] = None
    table = step_table(report)
    assert table is not None
    threads = [column for column in table.columns if "thread" in str(column.header)]
    assert len(threads) == 1


def test_stall_without_steps_has_no_table() -> None:
    assert step_table(stall_object(dataclasses.replace(stall(UNSEEN), steps=()), CLOCK)) is None


def test_table_fits_eighty_columns() -> None:
    made = judge(spawn(releases=(release(),)), 10 * MS, True).stall
    assert made is not None
    output = io.StringIO()
    table = step_table(stall_object(made, CLOCK))
    Console(file=output, width=80).print(table)
    assert max(map(len, output.getvalue().splitlines())) <= 80
