"""Expressions that both dashboards need, each for a selector of hosts."""

from __future__ import annotations

from dashboards.alerts import alerts
from dashboards.recordings import INTERVAL_SECONDS

__all__ = [
    "STALLED_SECONDS",
    "STALLS",
    "blind_agents",
    "losses",
    "oldest_stall",
    "or_zero",
    "over_the_range",
    "quantiles",
]

STALLS = "instance_comm_holder_cause:spawnstall_stalls:rate5m"
STALLED_SECONDS = "instance_comm_holder_cause:spawnstall_stall_seconds:rate5m"

_LOSSES = {
    "records lost": "records_lost",
    "events missed": "probe_misses",
    "pipes not followed": "slots_overflowed",
    "copies not followed": "numbers_overflowed",
    "events cut short": "walks_cut",
    "map updates refused": "map_updates_failed",
    "map entries dropped": "map_evictions",
}


def or_zero(expr: str) -> str:
    """An aggregate, and 0 when there is nothing to aggregate."""
    return f"{expr} or vector(0)"


def over_the_range(recorded: str, hosts: str, by: str) -> str:
    """What a recorded per-second rate adds up to in the dashboard's time range.

    Exact for series that come and go, as stalls' do: each evaluation stands for one interval.
    """
    summed = f"sum_over_time({recorded}{{{hosts}}}[$__range]) * {INTERVAL_SECONDS}"
    return f"sum by ({by}) ({summed})" if by else f"sum({summed})"


def oldest_stall(hosts: str) -> str:
    """Its age in seconds."""
    return or_zero(f"max(time() - (spawnstall_oldest_stall_start_timestamp_seconds{{{hosts}}} > 0))")


def blind_agents(hosts: str) -> str:
    """How many agents SpawnStallAgentBlind is about, before it waits."""
    reasons = " or ".join(
        f"group by (job, instance) ({alert.expr})"
        for alert in alerts()
        if alert.name == "SpawnStallAgentBlind"
    )
    return or_zero(f"count(({reasons}) and on (job, instance) up{{{hosts}}})")


def losses(hosts: str) -> dict[str, str]:
    """What the agents could not see, a minute."""
    return {
        legend: f"sum(rate(spawnstall_{name}_total{{{hosts}}}[$__rate_interval])) * 60"
        for legend, name in _LOSSES.items()
    }


def quantiles(buckets: str) -> dict[str, str]:
    """Of a histogram, where it had anything; ``buckets`` is a rate by ``le`` alone."""
    return {f"p{percent}": f"histogram_quantile({percent / 100}, {buckets}) >= 0" for percent in (50, 95, 99)}
