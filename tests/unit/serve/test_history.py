# SPDX-License-Identifier: Apache-2.0
"""agent.serve.history: the ring of ended stalls."""

from __future__ import annotations

import threading

import pytest

from agent.serve.history import History
from tests.unit.samples import spawn, stall


def _ids(history: History) -> list[int]:
    return [kept.spawn.id for kept in history.read()[0]]


def test_the_newest_comes_first() -> None:
    history = History(100)
    for number in range(3):
        history.add(stall(of=spawn(id=number)))
    assert _ids(history) == [2, 1, 0]


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_the_oldest_stall_is_dropped_and_all_are_counted(limit: int) -> None:
    history = History(limit)
    for number in range(12):
        history.add(stall(of=spawn(id=number)))
    assert _ids(history) == list(range(11, 11 - limit, -1))
    assert history.read()[1] == 12


def test_a_stall_in_progress_is_not_added() -> None:
    history = History(5)
    history.add(stall(ended=None))
    assert history.read() == ([], 0)


def test_the_returned_list_does_not_change() -> None:
    history = History(2)
    history.add(stall(of=spawn(id=1)))
    kept, _ = history.read()
    history.add(stall(of=spawn(id=2)))
    assert [one.spawn.id for one in kept] == [1]


def test_concurrent_adds_and_reads() -> None:
    history = History(50)

    def add() -> None:
        for number in range(2000):
            history.add(stall(of=spawn(id=number)))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(history.read()[0]) <= 50
    assert history.read()[1] == 8000
