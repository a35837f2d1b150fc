# SPDX-License-Identifier: Apache-2.0
"""agent.serve.stallkinds: the kinds of stalls since the agent has started."""

from __future__ import annotations

from typing import Any

from agent.serve.stallkinds import StallKinds
from tests.unit.reportsamples import ended, ongoing


def _lasting(number: int, seconds: float, comm: str = "parent") -> Any:
    made = {**ended(number), "stall_seconds": seconds}
    made["parent"]["comm"] = comm
    return made


def test_stalls_in_progress_are_those_of_the_last_look() -> None:
    kinds = StallKinds()
    kinds.add(_lasting(1, 0.5))
    kinds.add(ongoing(2))  # ignored: the next look finds it
    for seconds in (1.0, 2.0):
        [kind] = kinds.read([ongoing(2, seconds)])["kinds"]
        assert (kind["stalls"], kind["ongoing"], kind["seconds"]) == (2, 1, 0.5 + seconds)
        assert kind["longest_seconds"] == seconds
        assert sum(kind["over_time"]) == 2
    kinds.add(_lasting(2, 3.0))
    [kind] = kinds.read([])["kinds"]
    assert (kind["stalls"], kind["ongoing"], kind["seconds"], kind["longest_seconds"]) == (2, 0, 3.5, 3.0)


def test_a_stall_that_has_vanished_is_forgotten() -> None:
    kinds = StallKinds()
    assert len(kinds.read([ongoing(2)])["kinds"]) == 1
    assert kinds.read([])["kinds"] == []
    assert kinds.read([])["histogram"] == []


def test_memory_is_bounded() -> None:
    """Counts, sums and the longest one are exact; quantiles are those of the latest thousand."""
    kinds = StallKinds()
    for number in range(3000):
        kinds.add(_lasting(number, 9.0 if number < 1500 else 1.0, "busy"))
    for number in range(400):
        kinds.add(_lasting(number, 0.001, f"comm-{number}"))
    found = kinds.read([])["kinds"]
    assert len(found) <= 201 + 1
    assert (found[0]["stalls"], found[0]["seconds"], found[0]["longest_seconds"]) == (3000, 15000.0, 9.0)
    assert (found[0]["p50_seconds"], found[0]["p99_seconds"]) == (1.0, 1.0)
    assert sum(kind["stalls"] for kind in found) == 3400
    [rest] = [kind for kind in found if kind["comm"] == "~other"]
    assert rest["holder"] == "~other" and rest["stalls"] == 201
