# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts: the metrics of agent.serve.metrics as a template whose counters continue.

Names, labels and buckets come from agent.serve.metrics itself, fed with a fake source; maps and probes come
from a real agent.  So the set of series is realistic.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from prometheus_client.openmetrics.exposition import generate_latest

from agent.model import Cause, Stall, StuckExec
from agent.tracing.translate import CommStats, MapUse, ProbeStatus
from dashboards.preview import lognormal
from tests.unit.samples import BEGAN, MS, SECOND, holder, spawn, stall, waiting
from tests.unit.serve.test_metrics import FakeSource, metrics_of, program

__all__ = ["KINDS", "Kind", "Template", "exposition", "series_by_part", "source_like"]

_SECONDS = 3600
_SPAWNS_A_SECOND = 0.5
_STALLS = 20  # ended stalls of each (comm, holder, cause)
_LINE = re.compile(r"(?P<series>\S+) (?P<value>\S+)")


@dataclass(frozen=True)
class Kind:
    """Numbers of comms that spawn, and of (comm, holder, cause) that stalled; a tenth are in progress."""

    name: str
    comms: int
    stalls: int


KINDS = (Kind("quiet", 4, 0), Kind("busy", 20, 10), Kind("worst", 100, 500))
"""worst: as many comms and holders as labels.limit allows, each comm with five holders."""


def source_like(samples: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]) -> FakeSource:
    """Return a source with the maps and the probes of a real agent; ``samples`` are its metrics."""
    uses: dict[str, MapUse] = {}
    statuses: dict[str, ProbeStatus] = {}
    for (name, labels), value in samples.items():
        if name == "spawnstall_map_max_entries":
            map_name = dict(labels)["map"]
            used = samples["spawnstall_map_entries", labels]
            evicts = ("spawnstall_map_evictions_total", labels) in samples
            uses[map_name] = MapUse(round(used), round(value), 0 if evicts else None)
        elif name == "spawnstall_probe_attached":
            statuses[dict(labels)["probe"]] = ProbeStatus(bool(value), None, None)
    return FakeSource(uses=uses, statuses=statuses)


def exposition(kind: Kind, like: FakeSource) -> str:
    """Return the metrics of such a host's agent after its first hour."""
    comms = [b"program-%03d" % number for number in range(kind.comms)]
    combinations = [_combination(number, comms) for number in range(kind.stalls)]
    ongoing = tuple(
        stall(holder(comm=held_by, cause=cause), ended=None, of=waiting(comm=comm))
        for comm, held_by, cause in combinations[::10]
    )
    late = tuple(StuckExec(waiting(comm=comm), {}) for comm in comms[:1] if kind.stalls >= 10)
    source = dataclasses.replace(
        like,
        by_comm={**like.by_comm, **{comm: _program() for comm in comms}},
        ongoing=ongoing,
        execs_in_progress=late,
    )
    metrics = metrics_of(source)
    for comm, held_by, cause in combinations:
        for number in range(_STALLS):
            metrics.add_stall(_ended(comm, held_by, cause, (number + 0.5) / _STALLS))
    return str(generate_latest(metrics.registry).decode())  # type: ignore[no-untyped-call]


def series_by_part(like: FakeSource) -> dict[str, int]:
    """Return the series of every host, and those that each comm and each (comm, holder, cause) adds."""

    def series(comms: int, stalls: int) -> int:
        return Template(exposition(Kind("", comms, stalls), like)).series

    return {
        "host": series(0, 0),
        "comm": series(2, 0) - series(1, 0),
        "comm, holder, cause": series(2, 2) - series(2, 1),
    }


def _combination(number: int, comms: list[bytes]) -> tuple[bytes, bytes, Cause]:
    """Return the comm, holder and cause of a stall: a comm has others at its next turn."""
    turn, index = divmod(number, len(comms))
    return comms[index], b"worker-%03d" % ((index + turn) % len(comms)), list(Cause)[turn]


def _program() -> CommStats:
    number = _SECONDS * _SPAWNS_A_SECOND
    fields: dict[str, Any] = {}
    for what, median in (("spawn", 900e-6), ("exec", 500e-6), ("vfork", 300e-6)):
        fields[f"{what}_buckets"] = tuple(round(number * part) for part in lognormal.shares(median, 0.8))
        fields[f"{what}_sum_ns"] = round(number * median * 1e9)
    return program(ok=round(number * 0.98), exec_failed=round(number * 0.02), **fields)


def _ended(comm: bytes, held_by: bytes, cause: Cause, quantile: float) -> Stall:
    seconds = math.exp(NormalDist(math.log(0.3), 0.7).inv_cdf(quantile))
    lasted = max(10 * MS, round(seconds * SECOND))
    return stall(holder(comm=held_by, cause=cause), of=spawn(comm=comm), ended=BEGAN + lasted)


class Template:
    """An exposition (OpenMetrics) after an agent's first hour, extrapolated to other times."""

    def __init__(self, text: str) -> None:
        parts: list[str] = []
        self._rates: list[float] = []
        counting = False
        for line in text.splitlines():
            if line.startswith("#"):
                counting = (
                    line.endswith((" counter", " histogram")) if line.startswith("# TYPE") else counting
                )
                parts.append(line.replace("%", "%%"))
                continue
            match = _LINE.match(line)
            assert match is not None, line
            series = match["series"].replace("%", "%%")
            name = series.partition("{")[0]
            if counting and not name.endswith("_created"):  # a time
                self._rates.append(float(match["value"]) / _SECONDS)
                whole = not name.endswith(("_sum", "_seconds_total"))
                parts.append(f"{series} {'%d' if whole else '%.9g'}")
            else:
                parts.append(f"{series} {match['value']}")
        self.series = sum(not part.startswith("#") for part in parts)
        self._format = "\n".join(parts) + "\n"

    def render(self, seconds: float) -> str:
        """Return the exposition at an age of the agent; counters only rise with it."""
        return self._format % tuple(rate * seconds for rate in self._rates)
