# SPDX-License-Identifier: Apache-2.0
"""Recording rules, which keep fleet panels and alerts fast at a thousand hosts.

A host has up to a hundred comms with 23 buckets each. Recorded, it has one series of each kind, one for each
(comm, holder, cause) that stalled, and one for its thirty or so probes.
"""

from __future__ import annotations

from dashboards.rules import Recording

__all__ = [
    "BURN_WINDOWS",
    "HOST_LABELS",
    "INTERVAL_SECONDS",
    "LASTING_STALLS",
    "MAP_FULLNESS",
    "PROBES_ATTACHED",
    "SLOW_SPAWN_BUCKET",
    "STALLED_SECONDS",
    "STALLS",
    "STALL_LABELS",
    "lasting_stalls",
    "recordings",
]

INTERVAL_SECONDS = 60
"""The evaluation interval. Panels multiply by it to turn per-second rates into totals over a range."""

SLOW_SPAWN_BUCKET = "0.131072"
"""The latency objective in seconds, a bucket of the histogram: slower spawns miss it."""

BURN_WINDOWS = ("30m", "1h", "2h", "6h", "1d", "3d")
"""The windows of the burn rates, besides 5m, the window of every other rule."""

HOST_LABELS = "cluster, job, instance"
"""Identify a host. Samples without a label ``cluster`` match each other."""

STALL_LABELS = f"{HOST_LABELS}, comm, holder, cause"

STALLS = "instance_comm_holder_cause:spawnstall_stalls:rate5m"
"""Ended stalls per second."""

STALLED_SECONDS = "instance_comm_holder_cause:spawnstall_stall_seconds:rate5m"
"""Seconds of ended stalls per second."""

LASTING_STALLS = "instance_comm_holder_cause:spawnstall_stalls_lasting:sum"
"""Stalls in progress whose labels have a stall that is older than a minute."""

PROBES_ATTACHED = "instance:spawnstall_probe_attached:min"
"""0 if a probe of the host is not attached."""

MAP_FULLNESS = "instance_map:spawnstall_map_entries:ratio"
"""The share of a map that is in use, from 0 to 1."""


def recordings() -> list[Recording]:
    """Return all rules in evaluation order: later ones read earlier ones."""
    return [
        Recording(
            "instance_outcome:spawnstall_spawns:rate5m",
            f"sum by ({HOST_LABELS}, outcome) (rate(spawnstall_spawns_total[5m]))",
        ),
        Recording(STALLS, _stall_rate("count")),
        Recording(STALLED_SECONDS, _stall_rate("sum")),
        Recording(
            LASTING_STALLS,
            f"sum by ({STALL_LABELS}) (spawnstall_stalls_in_progress and {lasting_stalls(1)})",
        ),
        *_latency("spawn"),
        *_latency("exec"),
        Recording(
            "instance:spawnstall_spawn_seconds:p99_5m",
            "histogram_quantile(0.99, instance_le:spawnstall_spawn_seconds_bucket:rate5m)",
        ),
        *_burn_rates(),
        Recording(PROBES_ATTACHED, f"min by ({HOST_LABELS}) (spawnstall_probe_attached)"),
        Recording(MAP_FULLNESS, "spawnstall_map_entries / spawnstall_map_max_entries"),
    ]


def lasting_stalls(minutes: int) -> str:
    """Return an expression for the age in seconds of stalls that have lasted for more than these minutes.

    Each series is the oldest stall in progress of one (comm, holder, cause).
    """
    return f"time() - spawnstall_stall_start_timestamp_seconds > {minutes * 60}"


def _stall_rate(suffix: str) -> str:
    """Return stalls (``count``) or stalled seconds (``sum``) per second.

    A series with these labels begins with its first stall, which ``rate`` does not see. So a series that did
    not exist five minutes ago counts in full, provided that its host was already scraped then; otherwise
    it is Prometheus that is new.
    """
    metric = f"spawnstall_stall_seconds_{suffix}"
    begun = f"{metric} unless {metric} offset 5m and on ({HOST_LABELS}) up offset 5m"
    return f"sum by ({STALL_LABELS}) (({begun}) / 300 or rate({metric}[5m]))"


def _latency(what: str) -> list[Recording]:
    metric = f"spawnstall_{what}_seconds_bucket"
    return [
        Recording(f"instance_le:{metric}:rate5m", f"sum by ({HOST_LABELS}, le) (rate({metric}[5m]))"),
        Recording(f"job_le:{metric}:rate5m", f"sum by (cluster, job, le) (instance_le:{metric}:rate5m)"),
    ]


def _burn_rates() -> list[Recording]:
    """Return spawns and slow spawns per second, then their ratio over each window."""
    rates = "instance_le:spawnstall_spawn_seconds_bucket:rate5m"
    every, slow = "instance:spawnstall_spawns:rate5m", "instance:spawnstall_spawns_slow:rate5m"
    return [
        Recording(every, f'sum without (le) ({rates}{{le="+Inf"}})'),
        Recording(slow, f'{every} - sum without (le) ({rates}{{le="{SLOW_SPAWN_BUCKET}"}})'),
        Recording("instance:spawnstall_spawns_slow:ratio_rate5m", f"{slow} / {every}"),
        *(
            Recording(
                f"instance:spawnstall_spawns_slow:ratio_rate{window}",
                f"avg_over_time({slow}[{window}]) / avg_over_time({every}[{window}])",
            )
            for window in BURN_WINDOWS
        ),
    ]
