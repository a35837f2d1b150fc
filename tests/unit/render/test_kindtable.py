# SPDX-License-Identifier: Apache-2.0
"""agent.render.kindtable: the table of a run's stalls."""

from __future__ import annotations

import pytest

from agent.model import Cause
from agent.render.kindtable import KindTable
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
