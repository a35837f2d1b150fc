# SPDX-License-Identifier: Apache-2.0
"""CPU time that tracing takes for each spawn: that of the eBPF programs, and that of the agent.

Rates beside an agent vary by a tenth from run to run.  These figures vary less, so they show whether a change
of the kernel side helps (with --other, in turns).
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.bench import stats
from tests.bench.bench import Bench, Group
from tests.bench.cost import cpu_seconds
from tests.bench.growth import SHAPES, words
from tests.bench.native import result_of
from tests.live.lab import Lab, RunningAgent

__all__ = ["run"]

_Answer = TypeVar("_Answer")

_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
_SETTLE_SECONDS = 2.0  # for the agent's first look at /proc, and for the stalls that a storm has left


def run(bench: Bench) -> Group:
    """Measure each agent with each kind of spawn, in turns."""
    found: dict[str, dict[str, list[float]]] = {}
    with _statistics():
        for number in range(bench.rounds):
            for how, threads, delay_us in SHAPES:
                command = bench.program("spawns", how, threads, bench.seconds, 0, delay_us)
                for name, lab in bench.labs.items():
                    row = words(name, how, threads)
                    bench.say(f"round {number + 1} of {bench.rounds}, {row}")
                    for figure, value in _measure(lab, command).items():
                        found.setdefault(row, {}).setdefault(figure, []).append(value)
    figures = {
        row: {name: stats.figure(values) for name, values in each.items()} for row, each in found.items()
    }
    header = ["", "the eBPF programs, us a spawn", "the agent, us a spawn", "stalls a spawn"]
    rows = [
        [row, each["programs_us"].text(0), each["agent_us"].text(0), f"{each['stalls'].median:.2f}"]
        for row, each in figures.items()
    ]
    data = {
        row: {name: dataclasses.asdict(value) for name, value in each.items()}
        for row, each in figures.items()
    }
    return Group(data, [("CPU time of tracing", header, rows)], {})


@contextlib.contextmanager
def _statistics() -> Iterator[None]:
    """Let the kernel count the run time of eBPF programs, which adds about 50 ns to a run."""
    before = _STATISTICS.read_text()
    _STATISTICS.write_text("1")
    try:
        yield
    finally:
        _STATISTICS.write_text(before)


def _measure(lab: Lab, command: Sequence[str]) -> dict[str, float]:
    with lab.agent() as agent:
        time.sleep(_SETTLE_SECONDS)
        programs, stalls = _counted(agent)
        idle, _ = _used(agent, lambda: time.sleep(_SETTLE_SECONDS))
        used, result = _used(agent, lambda: _settled_result_of(command))
        programs_after, stalls_after = _counted(agent)
    spawns = result["spawns"]
    return {
        "programs_us": (programs_after - programs) * 1e6 / spawns,
        "agent_us": (used.cpu - idle.cpu / idle.seconds * used.seconds) * 1e6 / spawns,
        "stalls": (stalls_after - stalls) / spawns,
    }


class _Use(NamedTuple):
    cpu: float
    seconds: float


def _used(agent: RunningAgent, run: Callable[[], _Answer]) -> tuple[_Use, _Answer]:
    """The agent's CPU time during a call, and the call's result."""
    cpu, began = cpu_seconds(agent.process.pid), time.monotonic()
    result = run()
    return _Use(cpu_seconds(agent.process.pid) - cpu, time.monotonic() - began), result


def _settled_result_of(command: Sequence[str]) -> dict[str, float]:
    result = result_of(command)
    time.sleep(_SETTLE_SECONDS)
    return result


def _counted(agent: RunningAgent) -> tuple[float, float]:
    """The run time of all programs in seconds, and the number of stalls that have ended."""
    metrics = agent.metrics()
    return (
        _total(metrics, "spawnstall_probe_run_seconds_total"),
        _total(metrics, "spawnstall_stall_seconds_count"),
    )


def _total(metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str) -> float:
    return sum(value for (found, _labels), value in metrics.items() if found == name)
