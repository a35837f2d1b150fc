# SPDX-License-Identifier: Apache-2.0
"""probes.processrows: how many rows were evicted, while others come and go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest

from probes.bpfmap import BpfMap
from probes.processrows import ProcessRows, Rows
from probes.records import Counter

_Step = tuple[int, int]
"""Rows that are added and deleted."""


class _Kernel:
    """A map of processes in which rows come and go during each count."""

    def __init__(self, steps: Iterable[_Step] = ()) -> None:
        self.steps = [*steps]
        self.rows = 0
        self.counters = dict.fromkeys(Counter, 0)

    def change(self, added: int = 0, deleted: int = 0, evicted: int = 0) -> None:
        self.rows += added - deleted - evicted
        self.counters[Counter.PROCESSES_ADDED] += added
        self.counters[Counter.PROCESSES_DELETED] += deleted

    def count(self) -> int:
        """The step takes place after the counters were read, before the rows are counted."""
        if self.steps:
            self.change(*self.steps.pop(0))
        return self.rows


def _reading(kernel: _Kernel) -> ProcessRows:
    return ProcessRows(cast("BpfMap[Any]", kernel), kernel.counters.__getitem__)


def test_rows_that_are_neither_there_nor_deleted_were_evicted() -> None:
    kernel = _Kernel()
    rows = _reading(kernel)
    kernel.change(added=100, deleted=40)
    assert rows.count() == Rows(60, 0, 0)
    kernel.change(evicted=7)
    assert rows.count() == Rows(53, 7, 7)


@pytest.mark.parametrize("step", [(0, 5), (5, 0), (5, 5)])
def test_rows_that_come_and_go_meanwhile_are_not_taken_for_evicted_ones(step: _Step) -> None:
    kernel = _Kernel([step])
    kernel.change(added=100)
    assert _reading(kernel).count() == Rows(100 + step[0] - step[1], 0, 0)


def test_a_map_that_never_rests_gives_limits() -> None:
    kernel = _Kernel([(3, 2)] * 100)
    kernel.change(added=100, evicted=10)
    found = _reading(kernel).count()
    assert 0 < found.at_least <= 10 <= found.at_most


def test_the_number_never_decreases() -> None:
    kernel = _Kernel()
    rows = _reading(kernel)
    kernel.change(added=100, evicted=10)
    assert rows.count() == Rows(90, 10, 10)
    kernel.steps = [(0, 30)] * 100
    kernel.change(added=10_000)
    assert rows.count().at_least == 10
