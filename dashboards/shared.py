# SPDX-License-Identifier: Apache-2.0
"""The panels that both dashboards have."""

from __future__ import annotations

from dashboards.panels import PER_SECOND, About, Panel, heat, lines, stat
from dashboards.queries import oldest_stall, or_zero, quantiles, time_lost
from dashboards.runbook import runbook_url

__all__ = ["about_late_execs", "current_stalls", "spawn_latency"]


def current_stalls(hosts: str, runbooks: str) -> list[Panel]:
    """Return stalls in progress, the oldest one, and the time lost; ``hosts`` selects them."""
    ongoing = runbook_url(runbooks, "SpawnStallOngoing")
    return [
        stat(
            About(
                "Stalls in progress",
                "Readers that wait for foreign holders. Short stalls are harmless.",
                "none",
                ongoing,
            ),
            or_zero(f"sum(spawnstall_stalls_in_progress{{{hosts}}})"),
        ),
        stat(
            About("Oldest stall", "The age of the oldest stall in progress.", "s", ongoing),
            oldest_stall(hosts),
            orange_from=60,
            red_from=300,
        ),
        stat(
            About("Time lost", "Time in stalls in the time range, ended or in progress.", "s"),
            or_zero(time_lost(hosts, "")),
        ),
    ]


def about_late_execs(unit: str, runbooks: str) -> About:
    """Return the description of a panel on own children that have not called exec."""
    return About(
        "Own children late to exec",
        "Forked more than a second ago, and their parent waits for the exec. No holder is involved.",
        unit,
        runbook_url(runbooks, "SpawnExecStuck"),
    )


def spawn_latency(buckets: str, runbooks: str, whose: str = "") -> list[Panel]:
    """Return heatmap and quantiles; ``buckets`` is a rate by ``le`` only, ``whose`` ends the descriptions."""
    high = runbook_url(runbooks, "SpawnLatencyHigh")
    taken = f"Spawns per second by duration{whose}."
    read = f"From the creation of the errpipe to the end of its read{whose}."
    return [
        heat(About("Spawn latency heatmap", taken, PER_SECOND, high), buckets),
        lines(About("Spawn latency quantiles", read, "s", high), quantiles(buckets)),
    ]
