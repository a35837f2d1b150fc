# SPDX-License-Identifier: Apache-2.0
"""agent.serve.status: the object of /api/stalls."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest

from agent.reports.objects import stall_object
from agent.serve.history import History
from agent.serve.metrics import BOUNDS_SECONDS
from agent.serve.stallkinds import StallKinds
from agent.serve.status import Status
from agent.tracing.translate import MapUse
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import BEGAN, SECOND, spawn, stall, waiting
from tests.unit.serve.test_metrics import FakeSource


def _status(source: FakeSource, history: History, healthy: bool = True) -> Any:
    return Status(
        source, history, StallKinds(CLOCK), lambda: (1, 0, 99, 0), CLOCK, lambda: healthy, "0.26.0"
    ).read()


def test_stalls_have_the_format_of_reports() -> None:
    history = History(5)
    first, second = stall(of=spawn(id=1)), stall(of=spawn(id=2))
    history.add(first)
    history.add(second)
    source = FakeSource(ongoing=(stall(ended=None, of=waiting(id=3)),))
    status = _status(source, history)
    assert status["ended"] == [stall_object(second, CLOCK), stall_object(first, CLOCK)]
    [ongoing] = status["ongoing"]
    assert ongoing["state"] == "ongoing"
    assert ongoing["id"] == "0000000000000003"
    assert json.loads(json.dumps(status)) == status


def test_the_oldest_stall_in_progress_comes_first() -> None:
    source = FakeSource(
        ongoing=tuple(
            stall(began=BEGAN + after * SECOND, ended=None, of=waiting(id=after)) for after in (2, 1, 3)
        )
    )
    status = _status(source, History(5))
    assert [one["id"][-1] for one in status["ongoing"]] == ["1", "2", "3"]


def test_a_stall_that_has_just_ended_is_listed_once() -> None:
    history = History(5)
    history.add(stall(of=spawn(id=7)))
    status = _status(FakeSource(ongoing=(stall(ended=None, of=waiting(id=7)),)), history)
    assert status["ongoing"] == []
    assert [one["id"] for one in status["ended"]] == ["0000000000000007"]


def test_the_agents_health() -> None:
    source = FakeSource(self_test_failure="no holder")
    source.counts.update(records_lost=3)
    source.uses["processes"] = MapUse(8, 4096, 12)
    history = History(1)
    for number in range(4):
        history.add(stall(of=spawn(id=number)))
    agent = _status(source, history, healthy=False)["agent"]
    assert agent["healthy"] is False
    assert agent["self_test_failure"] == "no holder"
    assert (agent["stalls_ended"], agent["history_limit"]) == (4, 1)
    assert agent["losses"]["records_lost"] == 3
    assert set(agent["losses"]) == {
        "records_lost",
        "probe_misses",
        "slots_overflowed",
        "spawns_unfinished",
        "pipes_forgotten",
        "numbers_overflowed",
        "walks_cut",
        "stacks_lost",
        "programs_full",
        "tables_shared",
        "map_updates_failed",
        "searches_cut",
    }
    assert agent["maps"]["processes"] == {"entries": 8, "max_entries": 4096, "evictions": 12}
    assert agent["maps"]["programs"]["evictions"] is None
    assert agent["probes"] == {
        "task:task_newtask": {"attached": True, "runs": 7, "run_seconds": 0.0015},
        "syscalls:sys_enter_dup": {"attached": False, "runs": None, "run_seconds": None},
    }
    assert agent["confirmations"] == {"confirmed": 0}
    assert 0 <= agent["uptime_seconds"] < 60
    assert 0 <= agent["cpu_seconds"] < 60


@pytest.mark.parametrize(
    ("counts", "p99"),
    [([0, 0], None), ([99, 1], 0.000064), ([98, 2], 0.000128), ([0] * len(BOUNDS_SECONDS) + [1], None)],
)
def test_spawns_by_duration(counts: list[int], p99: Optional[float]) -> None:
    status = Status(
        FakeSource(), History(1), StallKinds(CLOCK), lambda: counts, CLOCK, lambda: True, "0.26.0"
    ).read()
    assert (status["spawns"]["count"], status["spawns"]["p99_seconds"]) == (sum(counts), p99)
    assert sum(bucket["count"] for bucket in status["spawns"]["histogram"]) == sum(counts)


def test_kinds_have_the_stalls_in_progress() -> None:
    source = FakeSource(ongoing=(stall(ended=None, of=waiting(id=3)),))
    [kind] = _status(source, History(5))["kinds"]["kinds"]
    assert (kind["stalls"], kind["ongoing"]) == (1, 1)
