# SPDX-License-Identifier: Apache-2.0
"""Threads with names of their own, as Python 3.14 gives them: labels and filters use the process's comm."""

from __future__ import annotations

import subprocess

import pytest

from tests.live.lab import Lab

pytestmark = pytest.mark.alone

_SPAWNS = 21
_THREAD = "Thread-0 (stall"


def test_one_label_for_all_threads(lab: Lab) -> None:
    """Otherwise a server that starts a thread for each request has a series for each request."""
    with lab.agent() as agent:
        subprocess.run(lab.program("named_threads.py"), stdout=subprocess.DEVNULL, check=True)
        agent.wait_until(lambda: len(agent.stalls()) >= 2, 30)  # in progress, ended
        metrics = agent.metrics()
        stalls = agent.stalls()
    labels = [dict(labels) for _name, labels in metrics]
    values = {value for each in labels for name, value in each.items() if name in ("comm", "holder")}
    assert {value for value in values if value.startswith("Thread-")} == set()
    assert {"named-server", "named-worker"} <= values
    counted = (("comm", "named-server"), ("outcome", "ok"))
    assert metrics["spawnstall_spawns_total", counted] == _SPAWNS
    assert metrics["spawnstall_map_entries", (("map", "programs"),)] < _SPAWNS
    for stall in stalls:
        assert (stall["parent"]["comm"], stall["parent"]["thread"]) == ("named-server", _THREAD)
        assert [holder["comm"] for holder in stall["holders"]] == ["named-worker"]


@pytest.mark.parametrize(("comm", "stalls"), [("named-server", 1), (_THREAD, 0)])
def test_the_filter_is_for_the_process(comm: str, stalls: int, lab: Lab) -> None:
    traced = lab.trace(lab.program("named_threads.py", "--threads", "1"), "--comm", comm)
    assert len(traced.of("stall")) == stalls


def test_a_holder_has_the_name_of_its_process(lab: Lab) -> None:
    """Although one of its threads releases the copy."""
    traced = lab.trace(lab.program("named_threads.py", "--threads", "1"))
    [stall] = traced.of("stall")
    [holder] = stall["holders"]
    assert (holder["comm"], holder["released_by"]) == ("named-worker", "close")
    assert stall["parent"]["thread"] == _THREAD
