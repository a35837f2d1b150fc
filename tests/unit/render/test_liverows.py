# SPDX-License-Identifier: Apache-2.0
"""agent.render.liverows: the status and the rows of the live table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from agent.model import Cause
from agent.render.liverows import COLUMNS, Status, ordered, rows, status_lines, table_lines
from agent.reports.kinds import Kinds
from agent.reports.objects import stall_object
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import BEGAN, MS, holder, spawn, stall

DAY = 24 * 3600 * 1000 * MS


def kinds_of(*stalls: Any) -> Kinds:
    """Kinds of stalls that were given as (holder's comm, milliseconds), None: in progress."""
    kinds = Kinds()
    for number, (comm, ms) in enumerate(stalls):
        ended = None if ms is None else BEGAN + ms * MS
        kinds.add(stall_object(stall(holder(comm=comm), of=spawn(id=number), ended=ended), CLOCK))
    return kinds


def test_a_row_has_the_figures_of_its_kind() -> None:
    [row] = rows(kinds_of((b"worker", 100), (b"worker", 300), (b"worker", 200)))
    assert (row.name.comm, row.name.holder, row.name.cause) == ("parent", "worker", Cause.FORKED)
    assert (row.count, row.ongoing) == (3, 0)
    assert (row.total, row.p50, row.p99, row.longest) == pytest.approx((0.6, 0.2, 0.3, 0.3))
    assert row.latest_stall is not None and row.latest_stall["stall_seconds"] == 0.2
    assert row.longest_stall is not None and row.longest_stall["stall_seconds"] == 0.3


@pytest.mark.parametrize(
    ("column", "first"),
    [("stalls", "often"), ("total", "long"), ("longest", "long"), ("p50", "long"), ("now", "now")],
)
def test_rows_are_sorted_by_any_column(column: str, first: str) -> None:
    kinds = kinds_of((b"often", 10), (b"often", 20), (b"often", 30), (b"long", 1 << 40), (b"now", None))
    place = [title for title, _ in COLUMNS].index(column)
    for ascending in (False, True):
        shown = ordered(rows(kinds), place, ascending)
        assert shown[-1 if ascending else 0].name.holder == first


def test_rows_without_a_time_are_sorted_below_others() -> None:
    found = rows(kinds_of((b"one", 10), (b"two", 20)))
    found[0] = replace(found[0], last=None)
    last_seen = [title for title, _ in COLUMNS].index("last seen")
    assert ordered(found, last_seen, False)[-1].last is None


def test_equal_rows_keep_their_order() -> None:
    found = rows(kinds_of(*((b"h%d" % number, 10) for number in range(9))))
    assert ordered(found, 0, False) == ordered(reversed(found), 0, False)


HOSTILE = (b"worker", b"\x1b[2J\x1b[31m\x07\xff\n\t\r", b"[red]a[/red]:x:", "界界界界界".encode(), b" ", b"")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("comm", HOSTILE)
@pytest.mark.parametrize("ms", [20, 100 * DAY // MS])
def test_nothing_is_cut_at_any_width(width: int, comm: bytes, ms: int) -> None:
    shown = rows(kinds_of((comm, ms), (b"other", 1)))
    place = next(number for number, row in enumerate(shown) if row.name.holder != "other")
    header, blocks = table_lines(shown, 1, place, width)
    for line in (*header, *(line for block in blocks for line in block)):
        assert cell_len(line.plain) <= max(width, 24), line.plain
        assert line.plain.isprintable()
    text = "".join("".join(line.plain.split()) for line in blocks[place])
    for what in ("parent", "forked", f"{shown[place].last:%H:%M:%S}"):
        assert what in text
    titles = " ".join(line.plain for line in (*header, *blocks[place]))
    assert all(title in titles for title, _ in COLUMNS)


def test_the_selected_row_and_stalls_in_progress_are_marked() -> None:
    shown = rows(kinds_of((b"worker", None), (b"other", 1)))
    _header, blocks = table_lines(shown, 1, 1, 80)
    marks = [block[0].plain[:2] for block in blocks]
    assert marks == ["  ", "> "]
    assert "red" in str(blocks[0][0].style) and "red" not in str(blocks[1][0].style)


def test_status_has_what_people_look_for_first() -> None:
    status = Status(
        12.3, "the whole host", spawns=1283, stalls=4, ongoing=1, p99_ns=20_700_000, stalled_ns=1_420_000_000
    )
    first, second = (line.plain for line in status_lines(status, frozen=False))
    assert first == "12 s  the whole host  1,283 spawns, 4 stalls, 1 in progress, 0 lost records"
    assert second == "p99 of a spawn 20.7 ms, 1.42 s lost to stalls"
    assert "FROZEN" in status_lines(status, frozen=True)[0].plain


@pytest.mark.parametrize(("seconds", "shown"), [(59.9, "59 s"), (187, "3:07"), (3723, "1:02:03")])
def test_time_since_the_start(seconds: float, shown: str) -> None:
    assert status_lines(Status(seconds, "pid 1"), False)[0].plain.startswith(f"{shown}  pid 1  ")


def test_every_loss_is_a_red_line() -> None:
    losses = ("3 records were lost (records_lost)", "12 pipes found no free slot (slots_overflowed)")
    lines = status_lines(Status(1, "", spawns=9, lost_records=3, losses=losses), False)
    assert [line.plain for line in lines[2:]] == [f"lost: {loss}" for loss in losses]
    assert all("red" in str(line.style) for line in lines[2:])
    assert "p99 of a spawn unknown" in lines[1].plain
