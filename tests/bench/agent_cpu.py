# SPDX-License-Identifier: Apache-2.0
"""The agent's own CPU time by rate of spawns and of stalls, and its lost records."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from typing import Any

from tests.bench import stats
from tests.bench.bench import Bench, Group
from tests.bench.cost import cpu_seconds

__all__ = ["run"]

_HIGHEST = 0  # as tests/bench/native/spawns.c defines it
_RATES = (None, 100, 1000, _HIGHEST)
_STALLS = (0, 10, 200)
_STALLS_A_PROGRAM = 25
_LIVE_MS = 20  # longer than stalls.min_ms
_LOST = "spawnstall_records_lost_total"


def run(bench: Bench) -> Group:
    """Spawn by vfork from two threads; cause stalls by separate programs."""
    loads = [(rate, stalls) for stalls in _STALLS for rate in _RATES]
    measured: dict[tuple[Any, int], list[dict[str, float]]] = {load: [] for load in loads}
    for number in range(bench.rounds):
        with bench.lab.agent() as agent:
            for rate, stalls in loads:
                bench.say(
                    f"round {number + 1} of {bench.rounds}, {_words(rate)} and {stalls} stalls a second"
                )
                lost = agent.metrics()[_LOST, ()]
                found = _measure(bench, agent.process.pid, rate, stalls)
                found["lost"] = agent.metrics()[_LOST, ()] - lost
                measured[rate, stalls].append(found)
    data, figures = [], {}
    percents = {rate: [_words(rate)] for rate in _RATES}
    losses = {stalls: 0.0 for stalls in _STALLS}
    for (rate, stalls), found_each in measured.items():
        each = {name: [found[name] for found in found_each] for name in found_each[0]}
        made = {name: stats.figure(values) for name, values in each.items()}
        lost_ever = sum(each["lost"])
        percents[rate].append(made["percent"].text(2))
        losses[stalls] += lost_ever
        row = {name: dataclasses.asdict(figure) for name, figure in made.items() if name != "lost"}
        data.append({"asked": _words(rate), "asked_stalls": stalls, **row, "lost": lost_ever})
        if (rate, stalls) == (1000, 0):
            figures["CPU of the agent at 1,000"] = made["percent"].median
        if (rate, stalls) == (_HIGHEST, 0):
            figures["lost records at the highest rate"] = lost_ever
    header = [
        "spawns a second",
        *(f"{stalls} stalls a second" if stalls else "no stalls" for stalls in _STALLS),
    ]
    rows = [*percents.values(), ["lost records", *(f"{lost:.0f}" for lost in losses.values())]]
    return Group({"loads": data}, [("The agent's own CPU time, % of a core", header, rows)], figures)


def _words(rate: Any) -> str:
    return {None: "none", _HIGHEST: "as many as possible"}.get(rate, f"{rate:,}" if rate else "")


def _measure(bench: Bench, agent: int, rate: Any, stalls: int) -> dict[str, float]:
    programs = []
    if rate is not None:
        programs.append(bench.program("spawns", "vfork", 2, bench.seconds, rate))
    count = -(-stalls // _STALLS_A_PROGRAM)
    programs += [bench.program("stalls", bench.seconds, stalls / count, _LIVE_MS) for _ in range(count)]
    cpu, began = cpu_seconds(agent), time.monotonic()
    running = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for program in programs]
    results = [json.loads(program.communicate()[0]) for program in running]
    time.sleep(max(0.0, began + bench.seconds - time.monotonic()))
    elapsed = time.monotonic() - began
    return {
        "percent": 100 * (cpu_seconds(agent) - cpu) / elapsed,
        "spawns": sum(each["spawns"] for each in results if "spawns" in each) / elapsed,
        "stalls": sum(each["stalls"] for each in results if "stalls" in each) / elapsed,
    }
