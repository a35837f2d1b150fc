# SPDX-License-Identifier: Apache-2.0
"""The agent's memory, its start time, and the duration of a scrape."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from typing import Any

from tests.bench import stats
from tests.bench.bench import Bench, Group
from tests.bench.cost import memory
from tests.bench.native import result_of
from tests.live.lab import Lab, RunningAgent

__all__ = ["run"]

_BUSY_HOST = 15  # programs: slightly more than 1,000 series
_NAMES = (0, _BUSY_HOST, 150)  # to 10,000 series
_POLL_SECONDS = 0.005
_SCRAPES = 20
_NEXT_SCRAPE_SECONDS = 3  # an earlier one would get the same response
_SPAWNS = "spawnstall_spawns_total"
_EVENTS_SECONDS = 10.0
_THOUSAND = 1000


def run(bench: Bench) -> Group:
    """Measure an agent for each number of spawning programs, so for each number of histogram series."""
    figures: dict[str, float] = {}
    taken: dict[str, list[float]] = {name: [] for name in bench.labs}
    for _ in range(bench.rounds):
        for name, lab in bench.labs.items():
            taken[name].append(_first_event(bench, lab))
    starts = {name: stats.figure(seconds) for name, seconds in taken.items()}
    figures["start to first traced event"] = starts["the agent"].median
    data: dict[str, Any] = {
        "first_event_seconds": {name: dataclasses.asdict(figure) for name, figure in starts.items()},
        "states": [],
    }
    rows = []
    for names in _NAMES:
        bench.say(f"an agent beside {names} programs")
        with bench.lab.agent(labels={"limit": max(100, *_NAMES)}) as agent:
            if names:
                _spawn(bench, 1.0, names)
            series, scrapes = _scrape(agent)
            figures |= _targets(series, scrapes)
            rows.append(_row(data, agent, f"{names} programs", series, scrapes))
            if names == _BUSY_HOST:
                data["spawns"] = _spawn(bench, _EVENTS_SECONDS, names)
                series, scrapes = _scrape(agent)
                later = f"{names} programs, {_EVENTS_SECONDS:.0f} s later"
                rows.append(_row(data, agent, later, series, scrapes))
                found = memory(agent.process.pid)
                figures |= {"private memory": found.private, "RSS": found.rss, "eBPF maps": found.maps}
    header = ["beside", "histogram series", "scrape, ms", "RSS, MiB", "private dirty, MiB", "maps, MiB"]
    starting = (
        "From the exec to the first traced event",
        ["", "s"],
        [[name, figure.text(2)] for name, figure in starts.items()],
    )
    return Group(data, [starting, ("Memory and scrapes", header, rows)], figures)


def _first_event(bench: Bench, lab: Lab) -> float:
    """Return the seconds from the agent's exec until its metrics contain a spawn of another program."""
    spawner = subprocess.Popen(bench.program("spawns", "vfork", 1, 60, 200), stdout=subprocess.DEVNULL)
    try:
        began = time.monotonic()
        with lab.agent(_POLL_SECONDS) as agent:
            agent.wait_until(lambda: _spawns_seen(agent) > 0, poll_seconds=_POLL_SECONDS)
            return time.monotonic() - began
    finally:
        spawner.kill()
        spawner.wait()


def _spawns_seen(agent: RunningAgent) -> float:
    return sum(value for (name, _), value in agent.metrics().items() if name == _SPAWNS)


def _spawn(bench: Bench, seconds: float, names: int) -> float:
    """Spawn under a number of names (comms); return the number of spawns."""
    return result_of(bench.program("spawns", "vfork", 2, seconds, 0, 0, names))["spawns"]


def _scrape(agent: RunningAgent) -> tuple[int, stats.Figure]:
    """Return the number of histogram series, and the milliseconds of a scrape over HTTP."""
    taken = []
    for _ in range(_SCRAPES):
        time.sleep(_NEXT_SCRAPE_SECONDS)
        began = time.monotonic()
        page = agent.get("/metrics")
        taken.append((time.monotonic() - began) * 1000)
    return sum("_bucket{" in line for line in page.splitlines()), stats.figure(taken)


def _targets(series: int, scrapes: stats.Figure) -> dict[str, float]:
    """Return the figure for the target of 1,000 series, which a scrape of more series also meets."""
    return {"scrape with 1,000 series": scrapes.median} if _THOUSAND <= series < 5 * _THOUSAND else {}


def _row(
    data: dict[str, Any], agent: RunningAgent, state: str, series: int, scrapes: stats.Figure
) -> list[str]:
    found = memory(agent.process.pid)
    data["states"].append(
        {
            "state": state,
            "histogram_series": series,
            "scrape_ms": dataclasses.asdict(scrapes),
            "mib": dataclasses.asdict(found),
        }
    )
    memories = [f"{value:.1f}" for value in (found.rss, found.private, found.maps)]
    return [state, f"{series:,}", scrapes.text(1), *memories]
