"""How long spawns take, as both dashboards show it."""

from __future__ import annotations

from dashboards.panels import About, Panel, heat, lines
from dashboards.queries import quantiles
from dashboards.runbook import runbook_url

__all__ = ["spawn_latency"]


def spawn_latency(buckets: str, runbooks: str, whose: str = "") -> list[Panel]:
    """Heatmap and quantiles; ``buckets`` is a rate by ``le`` alone, ``whose`` ends their descriptions."""
    high = runbook_url(runbooks, "SpawnLatencyHigh")
    taken = f"Spawns a second by how long they took{whose}."
    read = f"From the errpipe's creation to the end of its read{whose}."
    return [
        heat(About("Spawn latency heatmap", taken, "cps", high), buckets),
        lines(About("Spawn latency quantiles", read, "s", high), quantiles(buckets)),
    ]
