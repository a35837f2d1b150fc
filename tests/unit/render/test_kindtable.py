# SPDX-License-Identifier: Apache-2.0
"""agent.render.kindtable: the table of a run's stalls."""

from __future__ import annotations

import dataclasses

import pytest
from rich.cells import cell_len

from agent.escape import printable
from agent.model import Cause
from agent.render.kindtable import KindTable
from agent.render.words import duration
from agent.reports.kinds import Kinds
from agent.reports.objects import stall_object
from tests.unit.render.test_text import shown
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import BEGAN, MS, holder, spawn, stall


def _table(width: int, number: int = 1) -> str:
    kinds = Kinds()
    for which in range(number):
        long = holder(comm=b"fifteen-bytes-%d" % which, cause=Cause.OWN_DESCENDANT)
        for ms in (100, 200, 70_000):
            kinds.add(stall_object(stall(long, of=spawn(id=ms), ended=BEGAN + ms * MS), CLOCK))
    return shown(KindTable(kinds.worst_first()), width)


@pytest.mark.parametrize("width", [40, 60, 79, 80, 100, 200])
def test_no_figure_is_lost_or_cut(width: int) -> None:
    text = " ".join(_table(width).split())
    for what in ("stalls", "total", "p50", "p99", "longest", "last seen"):
        assert what in text
    for figure in ("3", "70.30 s", "200.0 ms", "70.00 s", "10:24:30"):
        assert figure in text
    assert "fifteen-bytes-0" in text and "own_descendant" in text
    assert max(map(len, _table(width).splitlines())) <= max(width, 50)


def test_a_stall_in_progress_is_marked() -> None:
    kinds = Kinds()
    kinds.add(stall_object(stall(holder(), ended=None), CLOCK))
    assert "now (1)" in shown(KindTable(kinds.worst_first()))
    assert "now" not in shown(KindTable(kinds.worst_first(), all_ended=True))


def test_kinds_beyond_the_limit_are_counted() -> None:
    text = _table(80, number=30)
    assert text.count("own_descendant") == 20
    assert "and 10 more kinds (30 stalls)" in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize(
    "comm", [b"\x1b[2J\x1b[31m\x07\xff\n\t\r", b"[red]a[/red]:x:", "界界界界界".encode(), b" "]
)
def test_hostile_names_and_long_times_are_whole(width: int, comm: bytes) -> None:
    """A name wraps; figures do not, whatever the names and times are."""
    kinds = Kinds()
    of = spawn(comm=comm)
    for number in range(1200):
        stalled = holder(comm=comm, cause=Cause.OWN_DESCENDANT)
        ended = BEGAN + 100 * 24 * 3600 * 1000 * MS + number * 3600 * 1000 * MS
        kinds.add(stall_object(stall(stalled, of=dataclasses.replace(of, id=number), ended=ended), CLOCK))
    text = shown(KindTable(kinds.worst_first()), width)
    assert all(line.isprintable() for line in text.splitlines())
    assert "…" not in text
    whole = "".join(text.split())
    [kind] = kinds.worst_first()
    times = [duration(seconds * 1e9) for seconds in (kind.total, *kind.quantiles(0.5, 0.99, 1))]
    figures = ["".join(figure.split()) for figure in ("1,200", *times, f"{kind.last:%H:%M:%S}")]
    assert all(figure in whole for figure in figures)
    names = whole.replace("".join(figures), "")  # in a table, they are beside the first line of the names
    assert names.count("".join(printable(comm).split())) >= 2  # who waited, held by
    if width >= 40:
        assert max(map(cell_len, text.splitlines())) <= width
