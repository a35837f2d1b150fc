# SPDX-License-Identifier: Apache-2.0
"""The cost of a Prometheus with a fleet, from its own metrics, and its response times."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

from tests.bench.fleet.queries import targets_of, without_recordings
from tests.e2e.servers import Prometheus
from tests.promql import Target

__all__ = ["RANGE_SECONDS", "Shape", "load", "panels", "rules", "storage"]

_LOOK_SECONDS = 5
_QUERY_SECONDS = 120
RANGE_SECONDS = 6 * 3600


class Shape(NamedTuple):
    """The shape of queries: over ``seconds`` of data, with a scrape each ``interval`` seconds.

    They stand for queries over 6 h: a graph has as many points, so as many evaluations of its expression,
    in less time; a table over the time range is repeated until as many samples have been read.
    patience: timeout in seconds of a query without recording rules.
    """

    seconds: int
    interval: int
    points: int
    rounds: int
    patience: int

    def variables(self, instance: str) -> dict[str, str]:
        """Return the dashboards' variables."""
        return {
            "cluster": ".*",
            "job": "spawnstall",
            "instance": instance,
            "__rate_interval": f"{4 * self.interval}s",  # as Grafana sets it for a shorter step
            "__range": f"{self.seconds}s",
        }


def load(server: Prometheus, seconds: int) -> dict[str, float]:
    """Let it scrape for some seconds; CPU and samples are those of the second half, the steady state."""
    first = _watch(server, seconds / 2)
    before, began = server.own_metrics(), time.monotonic()
    second = _watch(server, seconds / 2)
    after, elapsed = server.own_metrics(), time.monotonic() - began

    def a_second(name: str) -> float:
        return (after[name] - before[name]) / elapsed

    job = '{job="spawnstall"}'
    return {
        "head_series": after["prometheus_tsdb_head_series"],
        "recorded_series": server.instant('count({__name__=~".+:.+"})')[0],
        "resident_bytes": after["process_resident_memory_bytes"],
        "resident_bytes_most": max(first, second),
        "cpus": a_second("process_cpu_seconds_total"),
        "samples_a_second": a_second("prometheus_tsdb_head_samples_appended_total"),
        "scrape_seconds_median": server.instant(f"quantile(0.5, scrape_duration_seconds{job})")[0],
        "scrape_seconds_most": server.instant(
            f"max(max_over_time(scrape_duration_seconds{job}[{seconds}s]))"
        )[0],
        "scrapes_failed": server.instant(
            f"sum(count_over_time(up{job}[{seconds}s]) - sum_over_time(up{job}[{seconds}s]))"
        )[0],
    }


def _watch(server: Prometheus, seconds: float) -> float:
    """Return the maximum of its memory during these seconds."""
    most, deadline = 0.0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, server.own_metrics()["process_resident_memory_bytes"])
        time.sleep(_LOOK_SECONDS)
    return most


def rules(server: Prometheus) -> dict[str, Any]:
    """Return the seconds of the last evaluation of each group, and of its slowest rules."""
    groups = server.get("/api/v1/rules", {})["data"]["groups"]
    return {
        group["name"]: {
            "seconds": group["evaluationTime"],
            "slowest": {
                rule["name"]: rule["evaluationTime"]
                for rule in sorted(group["rules"], key=lambda rule: -float(rule["evaluationTime"]))[:5]
            },
            "failed": [rule["name"] for rule in group["rules"] if rule["health"] != "ok"],
        }
        for group in groups
    }


def panels(
    server: Prometheus, repo_root: Path, shape: Shape, hosts: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the seconds of every panel, the sum of its queries, which Grafana sends at once; None: timeout.

    The host dashboard is measured for each of ``hosts``, instances by their kind.
    """
    until = time.time()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    raw: list[tuple[dict[str, Any], Target, float]] = []
    views = [("fleet", "fleet", ".*"), *((f"host, {kind}", "host", host) for kind, host in hosts.items())]
    for view, dashboard, instance in views:
        for target in targets_of(repo_root, dashboard, shape.variables(instance)):
            panel = found.setdefault(
                (view, target.panel), {"dashboard": view, "panel": target.panel, "queries": 0}
            )
            panel["queries"] += 1
            seconds = _median(server, target._replace(instant=True), shape, until)
            _add(panel, "instant", seconds)
            if not target.instant:
                seconds = _median(server, target, shape, until)
                _add(panel, "range", seconds)
            elif shape.variables("")["__range"] in target.expr:
                again = shape._replace(points=RANGE_SECONDS // shape.seconds)
                _add(panel, "range", _median(server, target._replace(instant=False), again, until))
            if dashboard == "fleet":
                raw.append((panel, target, seconds))
    # Last, because these use the whole CPU, and the rules fall behind.
    for panel, target, seconds in raw:
        expr = without_recordings(target.expr)
        if expr != target.expr:
            panel["recordings"] = True
            took = _seconds(server, target._replace(expr=expr), shape, until, shape.patience)
            _add(panel, "without_recordings", took)
        else:
            _add(panel, "without_recordings", seconds)
    return list(found.values())


def _add(panel: dict[str, Any], name: str, seconds: Optional[float]) -> None:
    so_far = panel.get(name, 0.0)
    panel[name] = None if so_far is None or seconds is None else so_far + seconds


def _median(server: Prometheus, target: Target, shape: Shape, until: float) -> float:
    took = [_seconds(server, target, shape, until, _QUERY_SECONDS) for _ in range(shape.rounds)]
    answered = [seconds for seconds in took if seconds is not None]
    assert len(answered) == len(took), f"not answered: {target}"
    return statistics.median(answered)


def _seconds(
    server: Prometheus, target: Target, shape: Shape, until: float, patience: float
) -> Optional[float]:
    """Return the seconds of a query, or None: no answer within ``patience`` seconds, or an error."""
    query: Mapping[str, str] = {"query": target.expr, "timeout": f"{patience}s"}
    if target.instant:
        path, when = "/api/v1/query", {"time": str(until)}
    else:
        path = "/api/v1/query_range"
        step = shape.seconds / shape.points
        when = {"start": str(until - shape.seconds), "end": str(until), "step": str(step)}
    began = time.monotonic()
    try:
        server.get(path, {**query, **when}, patience + 30)
    except OSError:
        return None
    return time.monotonic() - began


def storage(server: Prometheus, data: Path) -> dict[str, float]:
    """Return the bytes on disk of all scraped data, as a block, without and with its index."""
    url = f"http://127.0.0.1:{server.port}/api/v1/admin/tsdb/snapshot"
    with urllib.request.urlopen(url, data=b"", timeout=600) as answer:
        name = json.load(answer)["data"]["name"]
    [block] = (data / "snapshots" / name).iterdir()
    samples = json.loads((block / "meta.json").read_text())["stats"]["numSamples"]
    chunks = sum(file.stat().st_size for file in (block / "chunks").iterdir())
    index = (block / "index").stat().st_size
    return {"samples": samples, "bytes_a_sample": chunks / samples, "index_bytes": index}
