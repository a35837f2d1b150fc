# SPDX-License-Identifier: Apache-2.0
"""agent.tracing.background: searches beside polling, within a budget and a share of the time."""

from __future__ import annotations

import threading
import time

import pytest

from agent.tracing.background import Background, Budget

_SECOND = 1_000_000_000


def test_one_search_at_a_time() -> None:
    background: Background[int] = Background("test", _SECOND)
    go_on = threading.Event()

    def search(_budget: Budget) -> int:
        go_on.wait()
        return 7

    assert background.is_free(0, 5)
    background.begin(0, search)
    assert background.is_running and not background.is_free(100 * _SECOND, 5)
    assert background.take() is None
    assert background.take(1_000_000) is None
    go_on.set()
    assert background.take(10 * _SECOND) == 7
    assert background.take() is None
    assert not background.is_running
    assert background.cut == 0


def test_searches_take_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    background: Background[None] = Background("test", 10 * _SECOND)
    monkeypatch.setattr(Budget, "used", 2 * _SECOND)
    background.begin(100 * _SECOND, lambda budget: None)
    background.take(10 * _SECOND)
    assert background.used == 2 * _SECOND
    assert not background.is_free(110 * _SECOND - 1, 5)
    assert background.is_free(110 * _SECOND, 5)


def test_a_budget_is_cpu_time() -> None:
    """On a busy host, a search is not cut short for waiting."""
    budget = Budget(5_000_000)
    time.sleep(0.05)
    assert not budget.is_spent()
    while not budget.is_spent():
        pass
    assert budget.cut
    with pytest.raises(TimeoutError):
        budget.step()


def test_a_search_that_runs_out_of_time_is_counted() -> None:
    background: Background[int] = Background("test", 0)

    def search(budget: Budget) -> int:
        budget.step()
        return 7

    background.begin(0, search)
    assert background.take(10 * _SECOND) is None
    assert not background.is_running
    assert background.cut == 1
    background.begin(0, lambda budget: 7 + budget.is_spent())  # it returns what it has
    assert background.take(10 * _SECOND) == 8
    assert background.cut == 2


def test_a_search_that_leaves_something_out_is_counted() -> None:
    background: Background[None] = Background("test", _SECOND)
    background.begin(0, lambda budget: budget.leave_out())
    background.take(10 * _SECOND)
    assert background.cut == 1


def test_an_error_reaches_the_caller() -> None:
    background: Background[None] = Background("test", _SECOND)

    def search(_budget: Budget) -> None:
        raise ValueError("broken")

    background.begin(0, search)
    with pytest.raises(ValueError, match="broken"):
        background.take(10 * _SECOND)


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    background: Background[int] = Background("test", _SECOND)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    background.begin(0, lambda budget: 7)
    assert background.take() is None
    assert background.cut == 1
    assert not background.is_running
    background.close()


def test_close_ends_a_search_at_its_next_step() -> None:
    background: Background[int] = Background("test", 1000 * _SECOND)
    begun = threading.Event()

    def search(budget: Budget) -> int:
        begun.set()
        while True:
            time.sleep(0.001)
            budget.step()

    background.begin(0, search)
    assert begun.wait(10)
    background.close()
    assert background.take(10 * _SECOND) is None
    background.close()


def test_close_does_not_wait_for_a_search_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.tracing.background._CLOSE_SECONDS", 0.01)
    background: Background[None] = Background("test", _SECOND)
    go_on = threading.Event()

    def search(_budget: Budget) -> None:
        go_on.wait()

    background.begin(0, search)
    background.close()
    assert background.is_running
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "test")
    go_on.set()
