"""The recording rules: what keeps fleet panels and alerts fast at a thousand hosts.

A host has up to a hundred comms with 23 buckets each; recorded, it has one series of each kind, and
stalls have one for each (comm, holder, cause) that was really seen.  Of its probes, some thirty, it has one.
"""

from __future__ import annotations

from dashboards.model import Recording

__all__ = [
    "BURN_WINDOWS",
    "INTERVAL_SECONDS",
    "MAP_FULLNESS",
    "PROBES_ATTACHED",
    "SLOW_SPAWN_BUCKET",
    "STALL_LABELS",
    "recordings",
]

INTERVAL_SECONDS = 60
"""How often the rules are evaluated. Panels multiply by it to sum up per-second rates over a range."""

SLOW_SPAWN_BUCKET = "0.131072"
"""The latency objective's bound, one of the histogram's buckets: slower spawns are bad ones (seconds)."""

BURN_WINDOWS = ("30m", "1h", "2h", "6h", "1d", "3d")
"""Windows of the burn rates, besides 5m, which is what everything is recorded over."""

PROBES_ATTACHED = "instance:spawnstall_probe_attached:min"
"""0 when a probe of the host is not attached."""

MAP_FULLNESS = "instance_map:spawnstall_map_entries:ratio"
"""How full a map is, from 0 to 1."""

STALL_LABELS = "job, instance, comm, holder, cause"


def recordings() -> list[Recording]:
    """All of them, in the order of evaluation: later ones read earlier ones."""
    return [
        Recording(
            "instance_outcome:spawnstall_spawns:rate5m",
            "sum by (job, instance, outcome) (rate(spawnstall_spawns_total[5m]))",
        ),
        Recording("instance_comm_holder_cause:spawnstall_stalls:rate5m", _stall_rate("count")),
        Recording("instance_comm_holder_cause:spawnstall_stall_seconds:rate5m", _stall_rate("sum")),
        *_latency("spawn"),
        *_latency("exec"),
        Recording(
            "instance:spawnstall_spawn_seconds:p99_5m",
            "histogram_quantile(0.99, instance_le:spawnstall_spawn_seconds_bucket:rate5m)",
        ),
        *_burn_rates(),
        Recording(PROBES_ATTACHED, "min by (job, instance) (spawnstall_probe_attached)"),
        Recording(MAP_FULLNESS, "spawnstall_map_entries / spawnstall_map_max_entries"),
    ]


def _stall_rate(suffix: str) -> str:
    """Stalls (``count``) or stalled seconds (``sum``) per second, the first ones of a series included.

    A series of these labels begins with its first stall, and ``rate`` does not see what a series begins
    with.  So a series that was not there five minutes ago counts in full, if its host was scraped then
    (otherwise Prometheus, not the series, is what is new).
    """
    metric = f"spawnstall_stall_seconds_{suffix}"
    begun = f"{metric} unless {metric} offset 5m and on (job, instance) up offset 5m"
    return f"sum by ({STALL_LABELS}) (({begun}) / 300 or rate({metric}[5m]))"


def _latency(what: str) -> list[Recording]:
    metric = f"spawnstall_{what}_seconds_bucket"
    return [
        Recording(f"instance_le:{metric}:rate5m", f"sum by (job, instance, le) (rate({metric}[5m]))"),
        Recording(f"job_le:{metric}:rate5m", f"sum by (job, le) (instance_le:{metric}:rate5m)"),
    ]


def _burn_rates() -> list[Recording]:
    """Spawns, and those that miss the objective, per second; then their ratio over each window."""
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
