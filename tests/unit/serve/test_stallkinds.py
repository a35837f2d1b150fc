# SPDX-License-Identifier: Apache-2.0
"""agent.serve.stallkinds: the kinds of stalls since the agent has started."""

from __future__ import annotations

from agent.model import Stall
from agent.reports.kinds import kind_name
from agent.reports.objects import kind_of, stall_object
from agent.serve.stallkinds import StallKinds
from tests.unit.reports.test_objects import CLOCK
from tests.unit.reportsamples import ongoing
from tests.unit.samples import BEGAN, MS, SECOND, UNSEEN, holder, spawn, stall


def _lasting(number: int, ms: int, comm: str = "parent") -> Stall:
    return stall(of=spawn(id=number, comm=comm.encode()), ended=BEGAN + ms * MS)


def test_stalls_in_progress_are_those_of_the_last_look() -> None:
    kinds = StallKinds(CLOCK)
    kinds.add(_lasting(1, 500))
    kinds.add(stall(of=spawn(id=2), ended=None))  # ignored: the next look finds it
    for seconds in (1.0, 2.0):
        [kind] = kinds.read([ongoing(2, seconds)])["kinds"]
        assert (kind["stalls"], kind["ongoing"], kind["seconds"]) == (2, 1, 0.5 + seconds)
        assert kind["longest_seconds"] == seconds
        assert sum(kind["over_time"]) == 2
    kinds.add(_lasting(2, 3000))
    [kind] = kinds.read([])["kinds"]
    assert (kind["stalls"], kind["ongoing"], kind["seconds"], kind["longest_seconds"]) == (2, 0, 3.5, 3.0)


def test_a_stall_is_counted_as_its_object_says() -> None:
    kinds = StallKinds(CLOCK)
    for made in (stall(holder(comm=b"a\x1b\xff")), stall(UNSEEN), _lasting(3, 1, "x\n")):
        assert kind_of(made) == kind_name(stall_object(made, CLOCK))
        kinds.add(made)
    assert {kind["last"] for kind in kinds.read([])["kinds"]} == {
        CLOCK.rfc3339(BEGAN + SECOND // 2),
        CLOCK.rfc3339(BEGAN + MS),
    }
    assert (kinds.read([])["began"] or "") <= CLOCK.rfc3339(BEGAN)


def test_a_stall_that_has_vanished_is_forgotten() -> None:
    kinds = StallKinds(CLOCK)
    assert len(kinds.read([ongoing(2)])["kinds"]) == 1
    assert kinds.read([])["kinds"] == []
    assert kinds.read([])["histogram"] == []


def test_memory_is_bounded() -> None:
    """Counts, sums and the longest one are exact; quantiles are those of the latest thousand."""
    kinds = StallKinds(CLOCK)
    for number in range(3000):
        kinds.add(_lasting(number, 9000 if number < 1500 else 1000, "busy"))
    for number in range(400):
        kinds.add(_lasting(number, 1, f"comm-{number}"))
    found = kinds.read([])["kinds"]
    assert len(found) <= 201 + 1
    assert (found[0]["stalls"], found[0]["seconds"], found[0]["longest_seconds"]) == (3000, 15000.0, 9.0)
    assert (found[0]["p50_seconds"], found[0]["p99_seconds"]) == (1.0, 1.0)
    assert sum(kind["stalls"] for kind in found) == 3400
    [rest] = [kind for kind in found if kind["comm"] == "~other"]
    assert rest["holder"] == "~other" and rest["stalls"] == 201
