"""The alerts: on the symptom (stalls, slow spawns), and on the agent that should see it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from dashboards.model import Alert
from dashboards.recordings import SLOW_SPAWN_BUCKET

__all__ = ["JOB", "OBJECTIVE", "alerts"]

JOB = "spawnstall"
"""The scrape job's name. Only SpawnStallAgentDown needs it: nothing else tells that an agent is missing."""

OBJECTIVE = 0.99
"""The share of a host's spawns that has to be faster than recordings.SLOW_SPAWN_BUCKET."""

# Prometheus' and Grafana's templates of what an alert is about.
_COMM, _HOLDER, _CAUSE = "{{ $labels.comm }}", "{{ $labels.holder }}", "{{ $labels.cause }}"
_HOST, _MAP, _PROBE = "{{ $labels.instance }}", "{{ $labels.map }}", "{{ $labels.probe }}"
_NUMBER, _SHARE = "{{ $value | humanize }}", "{{ $value | humanizePercentage }}"

_ALLOWED = round(1 - OBJECTIVE, 9)
_LEAST_SPAWNS = 100
"""A host that spawned less in a burn rate's long window says nothing about a percentage."""


class _Burn(NamedTuple):
    """A burn rate alert: so much of the allowance is used up if the long window goes on like that.

    The factors are those of the SRE workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts", for an
    objective over 30 days: 2 % of the allowance in 1h, 5 % in 6h, 10 % in 1d and 3d.
    """

    long: str
    short: str
    long_hours: int
    factor: float
    wait: str
    severity: Literal["critical", "warning"]


_BURNS = (
    _Burn("1h", "5m", 1, 14.4, "2m", "critical"),
    _Burn("6h", "30m", 6, 6, "15m", "critical"),
    _Burn("1d", "2h", 24, 3, "1h", "warning"),
    _Burn("3d", "6h", 72, 1, "3h", "warning"),
)


def alerts() -> list[Alert]:
    """All of them."""
    return [
        _ongoing("1m", 60, "warning"),
        _ongoing("10m", 600, "critical"),
        Alert(
            "SpawnStallRate",
            "sum by (job, instance, comm) (instance_comm_holder_cause:spawnstall_stalls:rate5m) * 60 > 1",
            wait="10m",
            severity="warning",
            summary="A program stalls again and again when it starts others.",
            description=(
                f"{_COMM} on {_HOST} has {_NUMBER} stalls a minute: foreign processes hold its errpipes, "
                "and it waits."
            ),
        ),
        *(_latency_high(burn) for burn in _BURNS),
        Alert(
            "SpawnExecSlow",
            '1 - sum by (job, instance, comm) (rate(spawnstall_exec_seconds_bucket{le="0.524288"}[15m]))'
            " / (sum by (job, instance, comm) (rate(spawnstall_exec_seconds_count[15m])) > 10 / 900) > 0.05",
            wait="5m",
            severity="warning",
            summary="A program's own children take long from fork to exec.",
            description=(
                f"{_SHARE} of the children of {_COMM} on {_HOST} took more "
                "than half a second from fork to exec. No foreign process is to blame."
            ),
        ),
        Alert(
            "SpawnStallAgentDown",
            f'up{{job="{JOB}"}} == 0',
            wait="5m",
            severity="critical",
            summary="An agent does not answer.",
            description=f"The agent at {_HOST} cannot be scraped: stalls there go unseen.",
            labels={"reason": "unreachable"},
        ),
        Alert(
            "SpawnStallAgentDown",
            f'absent(up{{job="{JOB}"}})',
            wait="15m",
            severity="critical",
            summary="No agent is scraped at all.",
            description=f"Prometheus has no target of job {JOB}: service discovery has lost every agent.",
            labels={"reason": "absent"},
        ),
        *_blind(),
    ]


def _ongoing(lasting: str, seconds: int, severity: Literal["critical", "warning"]) -> Alert:
    return Alert(
        "SpawnStallOngoing",
        "spawnstall_stalls_in_progress > 0 and on (job, instance) "
        f"time() - (spawnstall_oldest_stall_start_timestamp_seconds > 0) > {seconds}",
        wait="1m",
        severity=severity,
        summary="A program hangs in starting another one.",
        description=(
            f"{_COMM} on {_HOST} hangs; {_HOLDER} holds its errpipe (cause {_CAUSE}). "
            f"The oldest stall of that host has lasted for more than {lasting}."
        ),
        labels={"lasting": lasting},
    )


def _latency_high(burn: _Burn) -> Alert:
    limit = round(burn.factor * _ALLOWED, 9)
    ratio = "instance:spawnstall_spawns_slow:ratio_rate"
    return Alert(
        "SpawnLatencyHigh",
        f"{ratio}{burn.long} > {limit} and {ratio}{burn.short} > {limit} and "
        f"avg_over_time(instance:spawnstall_spawns:rate5m[{burn.long}]) * {burn.long_hours * 3600}"
        f" > {_LEAST_SPAWNS}",
        wait=burn.wait,
        severity=burn.severity,
        summary="Too many spawns of a host are slow.",
        description=(
            f"{_SHARE} of the spawns of {_HOST} in the last {burn.long} took more than "
            f"{float(SLOW_SPAWN_BUCKET) * 1000:.0f} ms ({_ALLOWED:.0%} is allowed), and it goes on."
        ),
        labels={"window": burn.long},
    )


def _blind() -> list[Alert]:
    """One rule for each way of missing stalls."""

    def rule(
        reason: str, expr: str, wait: str, severity: Literal["critical", "warning", "info"], what: str
    ) -> Alert:
        return Alert(
            "SpawnStallAgentBlind",
            expr,
            wait,
            severity,
            summary="An agent runs, but does not see every stall.",
            description=f"The agent at {_HOST} {what}.",
            labels={"reason": reason},
        )

    return [
        rule(
            "selftest",
            "spawnstall_selftest_success == 0",
            "5m",
            "critical",
            "has failed its self-test: what it reports may be wrong, or missing",
        ),
        rule(
            "probe",
            "spawnstall_probe_attached == 0",
            "5m",
            "critical",
            f"could not attach its probe {_PROBE}",
        ),
        rule(
            "records_lost",
            "increase(spawnstall_records_lost_total[15m]) > 0",
            "0m",
            "warning",
            f"has lost about {_NUMBER} records in 15 minutes: so many stalls may be missing",
        ),
        rule(
            "probe_misses",
            "increase(spawnstall_probe_misses_total[15m]) > 0",
            "15m",
            "info",
            f"has missed about {_NUMBER} events in 15 minutes, as its programs were interrupted: some answers"
            " may be unknown",
        ),
        rule(
            "map_updates_failed",
            "increase(spawnstall_map_updates_failed_total[15m]) > 0",
            "0m",
            "warning",
            f"had about {_NUMBER} updates of its maps refused by the kernel in 15 minutes",
        ),
        rule(
            "map_evictions",
            "increase(spawnstall_map_evictions_total[15m]) > 0",
            "0m",
            "warning",
            f"had about {_NUMBER} entries dropped from its full map {_MAP} in 15 minutes",
        ),
        rule(
            "map_nearly_full",
            "spawnstall_map_entries / spawnstall_map_max_entries > 0.8",
            "10m",
            "warning",
            f"has filled {_SHARE} of its map {_MAP}",
        ),
        rule(
            "slots_overflowed",
            "increase(spawnstall_slots_overflowed_total[15m]) > 0",
            "15m",
            "info",
            f"could not follow about {_NUMBER} pipes in 15 minutes, as there were too many at once",
        ),
    ]
