# SPDX-License-Identifier: Apache-2.0
"""Expressions for both dashboards, each with a selector of hosts."""

from __future__ import annotations

from dashboards.alerts import alerts
from dashboards.recordings import HOST_LABELS, INTERVAL_SECONDS, LASTING_STALLS, STALLED_SECONDS

__all__ = [
    "blind_agents",
    "losses",
    "oldest_stall",
    "or_zero",
    "over_the_range",
    "quantiles",
    "time_lost",
]

_LOSSES = {
    "records lost": "records_lost",
    "events missed": "probe_misses",
    "pipes not followed": "slots_overflowed",
    "spawns not counted": "spawns_unfinished",
    "copies not followed": "numbers_overflowed",
    "events cut short": "walks_cut",
    "map updates failed": "map_updates_failed",
    "map entries evicted": "map_evictions",
    "searches cut short": "searches_cut",
}


def or_zero(expr: str) -> str:
    """Return 0 if there is nothing to aggregate."""
    return f"{expr} or vector(0)"


def over_the_range(recorded: str, hosts: str, by: str) -> str:
    """Return the total of a recorded per-second rate over the dashboard's time range.

    Exact for series that come and go, as those of stalls do: each evaluation represents one interval.
    """
    summed = f"sum_over_time({recorded}{{{hosts}}}[$__range]) * {INTERVAL_SECONDS}"
    return f"sum by ({by}) ({summed})" if by else f"sum({summed})"


def time_lost(hosts: str, by: str) -> str:
    """Return the seconds of stalls in the dashboard's time range, ended or in progress.

    Ended stalls count in full. Stalls in progress are sampled at each evaluation, while the oldest has lasted
    for more than a minute; so for each (comm, holder, cause) the larger of the two is about what was lost.
    """
    ended, lasting = (
        f"sum_over_time({recorded}{{{hosts}}}[$__range]) * {INTERVAL_SECONDS}"
        for recorded in (STALLED_SECONDS, LASTING_STALLS)
    )
    summed = f"({ended} >= {lasting}) or {lasting} or {ended}"
    return f"sum by ({by}) ({summed})" if by else f"sum({summed})"


def oldest_stall(hosts: str) -> str:
    """Return the age of the oldest stall in seconds."""
    return or_zero(f"max(time() - (spawnstall_oldest_stall_start_timestamp_seconds{{{hosts}}} > 0))")


def blind_agents(hosts: str) -> str:
    """Return how many agents match SpawnStallAgentBlind with severity warning, before its wait."""
    reasons = " or ".join(
        f"group by ({HOST_LABELS}) ({alert.expr})"
        for alert in alerts()
        if alert.name == "SpawnStallAgentBlind" and alert.severity != "info"
    )
    return or_zero(f"count(({reasons}) and on ({HOST_LABELS}) up{{{hosts}}})")


def losses(hosts: str) -> dict[str, str]:
    """Return the losses of the agents per minute, by legend."""
    return {
        legend: f"sum(rate(spawnstall_{name}_total{{{hosts}}}[$__rate_interval])) * 60"
        for legend, name in _LOSSES.items()
    }


def quantiles(buckets: str) -> dict[str, str]:
    """Return quantiles of a histogram that is not empty; ``buckets`` is a rate by ``le`` only."""
    return {f"p{percent}": f"histogram_quantile({percent / 100}, {buckets}) >= 0" for percent in (50, 95, 99)}
