# SPDX-License-Identifier: Apache-2.0
"""agent.reports.kinds: stalls aggregated by who waited, who held the errpipe, and why."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from agent.model import Cause
from agent.reports.kinds import Kind, Kinds, histogram
from agent.reports.objects import Summary, stall_object
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import BEGAN, MS, UNSEEN, holder, spawn, stall


def _kinds(*stalls: Any) -> list[Kind]:
    kinds = Kinds()
    for one in stalls:
        kinds.add(stall_object(one, CLOCK))
    return list(kinds.worst_first())


def _lasting(ms: int, *holders: Any, id: int = 1) -> Any:
    return stall(*holders, of=spawn(id=id), ended=BEGAN + ms * MS)


def test_each_kind_is_counted_with_its_times() -> None:
    bad, mild = holder(comm=b"bad"), holder(comm=b"mild", cause=Cause.LATE_EXEC)
    found = _kinds(*(_lasting(ms, bad) for ms in (100, 300, 200)), _lasting(50, mild), _lasting(400, UNSEEN))
    assert [(kind.name, kind.count) for kind in found] == [
        (("parent", "bad", Cause.FORKED), 3),
        (("parent", None, Cause.UNKNOWN), 1),
        (("parent", "mild", Cause.LATE_EXEC), 1),
    ]
    assert found[0].total == pytest.approx(0.6)
    assert found[0].quantiles(0.5, 0.99, 1) == pytest.approx([0.2, 0.3, 0.3])
    assert found[0].last is not None
    assert f"{found[0].last:%H:%M:%S.%f}" == "10:23:20.305000"


def test_only_the_first_stall_of_a_kind_is_new() -> None:
    kinds = Kinds()
    stalls = (_lasting(1), _lasting(2), _lasting(3, UNSEEN), _lasting(4))
    assert [kinds.add(stall_object(one, CLOCK)) for one in stalls] == [True, False, True, False]


def test_a_stall_in_progress_is_counted_once() -> None:
    """At its end it has the kind that it has then."""
    kinds = Kinds()
    assert kinds.add(stall_object(stall(UNSEEN, ended=None), CLOCK))
    [kind] = kinds.worst_first()
    assert (kind.count, kind.ongoing) == (1, 1)
    assert kinds.add(stall_object(stall(holder()), CLOCK))
    [kind] = kinds.worst_first()
    assert (kind.name.cause, kind.count, kind.ongoing) == (Cause.FORKED, 1, 0)


def test_a_stall_that_ends_as_the_same_kind_is_counted() -> None:
    kinds = Kinds()
    assert kinds.add(stall_object(stall(ended=None), CLOCK))
    assert not kinds.add(stall_object(stall(), CLOCK))
    [kind] = kinds.worst_first()
    assert (kind.count, kind.ongoing, kind.total) == (1, 0, 0.5)


def test_the_number_of_kinds_is_bounded() -> None:
    found = _kinds(*(_lasting(1, holder(comm=f"h{number}".encode()), id=number) for number in range(1200)))
    assert len(found) == 1001
    assert sum(kind.count for kind in found) == 1200
    assert {kind.name.holder for kind in found if kind.count > 1} == {"~other"}


def test_the_latest_and_the_longest_stall_are_kept() -> None:
    [kind] = _kinds(_lasting(100, id=1), _lasting(300, id=2), _lasting(200, id=3))
    assert kind.latest is not None and kind.longest is not None
    assert (kind.latest["stall_seconds"], kind.longest["stall_seconds"]) == (0.2, 0.3)


def test_a_stall_that_ends_as_another_kind_is_not_shown_as_the_first() -> None:
    kinds = Kinds()
    kinds.add(stall_object(_lasting(100, UNSEEN, id=1), CLOCK))
    kinds.add(stall_object(stall(UNSEEN, of=spawn(id=2), ended=None), CLOCK))
    kinds.add(stall_object(_lasting(300, holder(), id=2), CLOCK))
    unseen = next(kind for kind in kinds.worst_first() if kind.name.holder is None)
    for shown in (unseen.latest, unseen.longest):
        assert shown is None or shown["stall_seconds"] == 0.1


def test_stalls_in_progress_grow_until_they_end() -> None:
    kinds = Kinds()
    report = stall_object(stall(of=spawn(id=1), ended=None), CLOCK)
    kinds.add(report)
    kinds.add(stall_object(_lasting(200, id=2), CLOCK))
    [key] = kinds.ongoing
    now = datetime(2100, 1, 1, tzinfo=timezone.utc)
    kinds.lasts(key, 30.0, now)
    kinds.lasts("another", 30.0, now)
    [kind] = kinds.worst_first()
    assert (kind.count, kind.ongoing, kind.total, kind.last) == (2, 1, 30.2, now)
    kinds.end(key)
    [kind] = kinds.worst_first()
    assert (kind.count, kind.ongoing, kind.total) == (2, 0, 30.2)
    assert kind.quantiles(0.5, 1) == [0.2, 30.0]


@pytest.mark.parametrize(("ongoing", "seconds"), [(1, 30.0), (2, 2.0), (0, 2.0)])
def test_stalls_in_progress_lasted_until_the_run_ended(ongoing: int, seconds: float) -> None:
    """With another number, the end of some was not seen, or they are an earlier run's."""
    kinds = Kinds()
    began = datetime(2026, 11, 27, 10, 0, tzinfo=timezone.utc)
    report = stall_object(stall(ended=None), CLOCK)
    kinds.add({**report, "time": began.isoformat(), "began_seconds": 0.0, "stall_seconds": 2.0})
    end = (began + timedelta(seconds=30)).isoformat()
    kinds.last_until_end({**Summary().object(lost_records=0, ongoing=ongoing), "time": end})
    [kind] = kinds.worst_first()
    assert (kind.total, kind.longest_seconds, kind.ongoing) == (seconds, seconds, 1)


def test_the_object_of_the_kinds() -> None:
    kinds = Kinds()
    for one in (*(_lasting(ms, id=ms) for ms in (15, 18, 400)), stall(UNSEEN, ended=None)):
        kinds.add(stall_object(one, CLOCK))
    found = kinds.object()
    unseen, forked = found["kinds"]
    assert (unseen["holder"], unseen["ongoing"], unseen["cause"]) == (None, 1, "unknown")
    assert (forked["comm"], forked["holder"], forked["stalls"], forked["ongoing"]) == (
        "parent",
        "worker",
        3,
        0,
    )
    assert forked["seconds"] == pytest.approx(0.433)
    assert forked["last"] == "2026-11-24T10:23:20.405000Z"
    assert found["began"] is not None and found["began"] <= "2026-11-24T10:23:20.005000Z"
    assert [sum(kind["over_time"]) for kind in found["kinds"]] == [1, 3]
    counts = {bucket["le"]: bucket["count"] for bucket in found["histogram"]}
    assert (counts[0.02], counts[0.05], counts[0.5], sum(counts.values())) == (2, 0, 1, 4)
    assert found["histogram"][0]["above"] == 0.01


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    assert histogram([0.001, 0.0011, 1e9])[:2] == [
        {"above": 0.0, "le": 0.001, "count": 1},
        {"above": 0.001, "le": 0.002, "count": 1},
    ]
    assert histogram([1e9]) == [{"above": 86400.0, "le": None, "count": 1}]
    assert histogram([]) == []
