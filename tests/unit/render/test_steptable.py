# SPDX-License-Identifier: Apache-2.0
"""agent.render.steptable: which process had which fds open after each step."""

from __future__ import annotations

from typing import Any

import pytest

from agent.diagnosis import judge, ongoing_stall
from agent.model import Stall
from agent.render.steptable import Column, StepTable, step_table
from agent.reports.objects import stall_object
from tests.unit.render.test_text import shown
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import ENDED, MS, SECOND, UNSEEN, holder, release, spawn, stall, waiting

HOUR = 3600 * SECOND


def table_of(made: Stall) -> StepTable:
    """The step table, which the stall must have."""
    table = step_table(stall_object(made, CLOCK))
    assert table is not None
    return table


def columns(table: StepTable) -> list[Column]:
    """All columns, in the order in which they are shown."""
    return [*table.times, table.action, *table.others]


def rows(made: Stall) -> list[list[str]]:
    """The cells of each row."""
    return [list(cells) for cells in zip(*(column.cells for column in columns(table_of(made))))]


def headers(made: Stall) -> list[str]:
    return [column.header.replace("\n", " ") for column in columns(table_of(made))]


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
    assert "2 more holders not shown" in shown(table_of(made))
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
    threads = [column for column in table.others if "thread" in column.header]
    assert len(threads) == 1


def test_stall_without_steps_has_no_table() -> None:
    assert step_table({**stall_object(stall(UNSEEN), CLOCK), "steps": []}) is None


def _held_for_hours(holders: int) -> Stall:
    releases = tuple(
        release(
            pid=4_194_300 - number,
            forker=4_194_200 - number,
            fd=100_000,
            at=ENDED + (holders - number) * HOUR,
        )
        for number in range(holders)
    )
    of = spawn(releases=releases, read_fd=99_999, write_fd=100_000, read_ended=ENDED + 700 * HOUR)
    made = judge(of, 10 * MS, True).stall
    assert made is not None
    return made


@pytest.mark.parametrize("holders", [1, 4])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_nothing_is_lost_or_cut_on_a_narrow_console(width: int, holders: int) -> None:
    """Columns without room follow below.  Only where a single one does not fit are lines too long."""
    table = table_of(_held_for_hours(holders))
    text = shown(table, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= max(width, 44)
    words = text.split()
    for column in columns(table):
        assert all(word in words for word in column.header.split())
        if column is not table.action:
            assert all(words.count(cell) >= column.cells.count(cell) for cell in column.cells if cell)
    assert "2,520,000,505.000" in words
    assert "…" not in text


def test_wide_console_has_one_table() -> None:
    made = _held_for_hours(4)
    assert shown(table_of(made), 200).count("step") == 1
    assert shown(table_of(made), 60).count("step") > 1
