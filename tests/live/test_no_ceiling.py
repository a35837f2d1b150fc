# SPDX-License-Identifier: Apache-2.0
"""With any number of threads and pipes in a process, each spawn is counted and each stall has its holder."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.live.lab import TOLERANCE_SECONDS, Lab, Object, RunningAgent, Traced, json_lines

pytestmark = pytest.mark.alone

_STORMS = (4, 32, 64, 200, 1000)
_STORM_SECONDS = "3"
_MANY = 200
_BLOCKED = (200, 1000)
_BLOCKED_SECONDS = "3"


def _assert_nothing_is_lost(traced: Traced) -> None:
    summary = traced.summary
    assert summary["spawns"] == len(traced.spawns())
    assert summary["exec_failures"] == 0
    assert summary["lost_records"] == 0
    # This object contains every kind of loss that the agent exports, if any occurred.
    assert not any(summary.get("not_followed", {}).values()), summary


@pytest.mark.parametrize("threads", _STORMS)
def test_storm_is_counted_exactly(lab: Lab, threads: int) -> None:
    """A named holder is a worker, or the child of another spawn that has not called exec yet."""
    command = lab.program("storm.py", "--threads", str(threads), "--seconds", _STORM_SECONDS)
    traced = lab.trace(command, timeout=180)
    assert traced.status == 0
    _assert_nothing_is_lost(traced)
    children = {spawn["child"] for spawn in traced.spawns()}
    workers = {line["pid"] for line in traced.printed if line["kind"] == "worker"}
    assert len(traced.of("spawn")) == len(traced.spawns())
    assert {spawn["outcome"] for spawn in traced.of("spawn")} == {"ok"}
    for stall in traced.of("stall"):
        assert stall["child"]["pid"] in children
        for holder in stall["holders"]:
            if holder["pid"] in workers:
                assert holder["cause"] == "forked"
            elif holder["pid"] in children - {stall["child"]["pid"]}:
                assert holder["cause"] == "late_exec"
            else:
                assert (holder["pid"], holder["cause"]) == (None, "unknown")
    if threads <= _MANY:  # with more, most of the time passes elsewhere
        assert workers & {stall["holders"][0]["pid"] for stall in traced.of("stall")}


def test_storms_beside_the_agent(lab: Lab) -> None:
    """The agent's counters are exact for each comm."""
    with lab.agent() as agent:
        counts = {}
        for threads in _STORMS:
            comm = f"storm-{threads}"
            command = lab.program(
                "storm.py", "--threads", str(threads), "--seconds", _STORM_SECONDS, "--comm", comm
            )
            printed = json_lines(
                subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            )
            counts[comm] = len([line for line in printed if line["kind"] == "spawn"])
        agent.wait_until(lambda: _in_progress(agent) == 0)
        metrics = agent.metrics()
    counted = {
        comm: {
            dict(labels)["outcome"]: int(value)
            for (name, labels), value in metrics.items()
            if name == "spawnstall_spawns_total" and ("comm", comm) in labels and value
        }
        for comm in counts
    }
    assert counted == {comm: {"ok": count} for comm, count in counts.items()}
    assert metrics["spawnstall_records_lost_total", ()] == 0


def _in_progress(agent: RunningAgent) -> float:
    """Return the stalls in progress of this test's programs."""
    return sum(
        value
        for (name, labels), value in agent.metrics().items()
        if name == "spawnstall_stalls_in_progress"
        and dict(labels)["comm"].startswith(("storm", "blocked_at_once"))
    )


@pytest.mark.parametrize("threads", _BLOCKED)
def test_threads_that_are_blocked_at_once(lab: Lab, compiled: Callable[..., str], threads: int) -> None:
    """One worker blocks them all and is reported for each, in progress and at the end."""
    command = [compiled("blocked_at_once"), str(threads), _BLOCKED_SECONDS]
    traced = lab.trace(command, timeout=180)
    assert traced.status == 0
    _assert_nothing_is_lost(traced)
    spawns = {spawn["child"]: spawn for spawn in traced.spawns()}
    assert len(spawns) == threads
    stalls = [report for report in traced.reports if report["type"] == "stall"]
    ended = {stall["child"]["pid"]: stall for stall in stalls if stall["state"] == "ended"}
    ongoing = {stall["child"]["pid"]: stall for stall in stalls if stall["state"] == "ongoing"}
    assert ended.keys() == ongoing.keys() == spawns.keys()
    assert len(stalls) == 2 * threads
    assert traced.summary["stalls"] == threads
    for child, stall in [*ended.items(), *ongoing.items()]:
        _assert_by_the_worker(stall, spawns[child])
    for child, stall in ended.items():
        assert ongoing[child]["id"] == stall["id"]
        # It begins when the own child has called exec, which takes a while with many threads.
        assert float(_BLOCKED_SECONDS) - TOLERANCE_SECONDS < stall["stall_seconds"]
        assert stall["stall_seconds"] < spawns[child]["seconds"] + TOLERANCE_SECONDS


def _assert_by_the_worker(stall: Object, spawn: Object) -> None:
    assert stall["parent"]["pid"] == spawn["pid"]
    assert stall["parent"]["tid"] == spawn["tid"]
    first = stall["holders"][0]
    assert (first["pid"], first["comm"], first["cause"]) == (spawn["worker"], "worker", "forked")


def test_threads_that_are_blocked_at_once_in_the_metrics(lab: Lab, compiled: Callable[..., str]) -> None:
    """The gauge counts all of them while in progress, and the histogram afterwards."""
    threads = max(_BLOCKED)
    with lab.agent() as agent:
        command = [compiled("blocked_at_once"), str(threads), "6"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
            agent.wait_until(lambda: _in_progress(agent) == threads, seconds=30)
            assert program.wait(60) == 0
        agent.wait_until(lambda: _in_progress(agent) == 0)
        agent.wait_until(lambda: _ended(agent) == threads)
        assert agent.metrics()["spawnstall_records_lost_total", ()] == 0


def _ended(agent: RunningAgent) -> float:
    """Return the ended stalls of blocked_at_once that its worker caused."""
    labels = (("cause", "forked"), ("comm", "blocked_at_once"), ("holder", "worker"))
    return agent.metrics().get(("spawnstall_stall_seconds_count", labels), 0)


def test_spawns_in_flight_at_once(lab: Lab, compiled: Callable[..., str]) -> None:
    """A host can have 4,096 spawns in flight; each is counted."""
    processes, threads = 16, 256
    with lab.agent() as agent:
        command = [compiled("in_flight"), str(processes), str(threads)]
        printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        assert int(printed) == processes * threads
        counted = (("comm", "in_flight"), ("outcome", "ok"))
        agent.wait_until(
            lambda: agent.metrics()["spawnstall_spawns_total", counted] == processes * threads, seconds=60
        )
        metrics = agent.metrics()
    for lost in ("slots_overflowed", "map_updates_failed", "pipes_forgotten"):
        assert metrics[f"spawnstall_{lost}_total", ()] == 0


@pytest.mark.parametrize(
    "pipes",
    [
        ("--threads", "15"),
        ("--threads", "16"),
        ("--threads", "500"),
        ("--threads", "2000"),
        ("--made", "10000", "--kept", "400"),
        ("--made", "10000", "--kept", "0"),
        ("--made", "5000", "--kept", "5000"),
        ("--made", "10000", "--kept", "400", "--same-thread"),
        ("--made", "10000", "--kept", "0", "--same-thread"),
        ("--threads", "500", "--made", "10000", "--kept", "400"),
    ],
    ids=" ".join,
)
def test_idle_pipes_hide_nothing(lab: Lab, pipes: tuple[str, ...]) -> None:
    """The stall of a Popen is found in a process with many other pipes."""
    traced = lab.trace(lab.program("idle_pipes.py", *pipes))
    assert traced.status == 0
    _assert_nothing_is_lost(traced)
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    assert stall["child"]["pid"] == spawn["child"]
    assert [(holder["pid"], holder["cause"]) for holder in stall["holders"]] == [(spawn["worker"], "forked")]
    assert stall["stall_seconds"] == pytest.approx(spawn["seconds"], abs=5 * TOLERANCE_SECONDS)
