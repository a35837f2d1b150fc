# SPDX-License-Identifier: Apache-2.0
"""The panels on spawn latency, which both dashboards have."""

from __future__ import annotations

from dashboards.panels import PER_SECOND, About, Panel, heat, lines
from dashboards.queries import quantiles
from dashboards.runbook import runbook_url

__all__ = ["spawn_latency"]


def spawn_latency(buckets: str, runbooks: str, whose: str = "") -> list[Panel]:
    """Return heatmap and quantiles; ``buckets`` is a rate by ``le`` only, ``whose`` ends the descriptions."""
    high = runbook_url(runbooks, "SpawnLatencyHigh")
    taken = f"Spawns per second by duration{whose}."
    read = f"From the creation of the errpipe to the end of its read{whose}."
    return [
        heat(About("Spawn latency heatmap", taken, PER_SECOND, high), buckets),
        lines(About("Spawn latency quantiles", read, "s", high), quantiles(buckets)),
    ]
