# SPDX-License-Identifier: Apache-2.0
"""The alerts: on symptoms (stalls, slow spawns), and on agents that miss them.

Only a program that is stuck, or a latency budget that is nearly spent, is critical.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from dashboards.recordings import (
    HOST_LABELS,
    INTERVAL_SECONDS,
    SLOW_SPAWN_BUCKET,
    STALLED_SECONDS,
    STALLS,
    lasting_stalls,
)
from dashboards.rules import Alert

__all__ = ["JOB", "OBJECTIVE", "alerts"]

JOB = "spawnstall"
"""The name of the scrape job. Only SpawnStallAgentDown depends on it: an absent agent has no metrics."""

OBJECTIVE = 0.99
"""The share of a host's spawns that has to be faster than recordings.SLOW_SPAWN_BUCKET."""

# Templates for Prometheus and Grafana.
_COMM, _HOLDER, _CAUSE = "{{ $labels.comm }}", "{{ $labels.holder }}", "{{ $labels.cause }}"
_HOST, _MAP, _PROBE = "{{ $labels.instance }}", "{{ $labels.map }}", "{{ $labels.probe }}"
_NUMBER, _SHARE = "{{ $value | humanize }}", "{{ $value | humanizePercentage }}"
_DURATION = "{{ $value | humanizeDuration }}"

_ALLOWED = round(1 - OBJECTIVE, 9)
_MIN_SPAWNS = 100
"""A percentage of fewer spawns in a burn rate's long window means nothing."""

_RESTART = "3m"
"""How long an alert survives missed scrapes: an agent restarts, and then exports the same start again."""

_STALLED_SECONDS_PER_HOUR = 60
_EXPOSURES_PER_HOUR = 10


class _Burn(NamedTuple):
    """A burn rate alert: the error budget is consumed ``factor`` times too fast in both windows.

    The factors are those of the SRE workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts", for an
    objective over 30 days: 2 % of the budget in 1h, 5 % in 6h, 10 % in 1d and 3d.
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
    """Return all alerts."""
    return [
        _ongoing(1, "warning"),
        _ongoing(5, "critical"),
        _exec_stuck(1, "warning"),
        _exec_stuck(5, "critical"),
        _stalled_time(),
        _exposed(),
        *(_latency_high(burn) for burn in _BURNS),
        Alert(
            "SpawnExecSlow",
            f'1 - sum by ({HOST_LABELS}, comm) (rate(spawnstall_exec_seconds_bucket{{le="0.524288"}}[15m]))'
            f" / (sum by ({HOST_LABELS}, comm) (rate(spawnstall_exec_seconds_count[15m])) > 10 / 900) > 0.05",
            wait="5m",
            severity="warning",
            summary="The children of a program are slow to exec.",
            description=(
                f"{_SHARE} of the children of {_COMM} on {_HOST} took more "
                "than half a second from fork to exec. No foreign process holds them up."
            ),
            panel="Exec latency p99, by program",
        ),
        Alert(
            "SpawnStallAgentDown",
            f'up{{job="{JOB}"}} == 0',
            wait="5m",
            severity="warning",
            summary="An agent cannot be scraped.",
            description=f"The agent at {_HOST} cannot be scraped: stalls on that host go unnoticed.",
            panel="Agent up",
            labels={"reason": "unreachable"},
        ),
        Alert(
            "SpawnStallAgentDown",
            f'absent(up{{job="{JOB}"}})',
            wait="15m",
            severity="warning",
            summary="No agent is scraped.",
            description=f"Prometheus has no target with job {JOB}: service discovery finds no agent.",
            panel="Agents up",
            board="fleet",
            labels={"reason": "absent"},
        ),
        *_blind(),
    ]


def _ongoing(minutes: int, severity: Literal["critical", "warning"]) -> Alert:
    return Alert(
        "SpawnStallOngoing",
        lasting_stalls(minutes),
        keep=_RESTART,
        severity=severity,
        summary="A program is stuck starting another program.",
        description=(
            f"{_COMM} on {_HOST} has been stuck for {_DURATION}: "
            f"{_HOLDER} holds its errpipe (cause {_CAUSE})."
        ),
        panel="Who waits for whom",
        labels={"lasting": f"{minutes}m"},
    )


def _exec_stuck(minutes: int, severity: Literal["critical", "warning"]) -> Alert:
    return Alert(
        "SpawnExecStuck",
        f"time() - spawnstall_exec_start_timestamp_seconds > {minutes * 60}",
        keep=_RESTART,
        severity=severity,
        summary="An own child is stuck between fork and exec.",
        description=(
            f"{_COMM} on {_HOST} is starting a program: its own child was forked {_DURATION} ago and has "
            "not called exec. No foreign process holds it up."
        ),
        panel="Own children late to exec",
        labels={"lasting": f"{minutes}m"},
    )


def _stalled_time() -> Alert:
    """Return the alert for a program that lost much time in an hour and, in a short window, still does."""
    by = f"{HOST_LABELS}, comm"

    def stalled(window: str) -> str:
        return f"sum by ({by}) (sum_over_time({STALLED_SECONDS}[{window}])) * {INTERVAL_SECONDS}"

    return Alert(
        "SpawnStallTimeHigh",
        f"{stalled('1h')} > {_STALLED_SECONDS_PER_HOUR}"
        f" and {stalled('15m')} > {_STALLED_SECONDS_PER_HOUR // 4}",
        wait="5m",
        severity="warning",
        summary="A program loses much time in stalls.",
        description=(
            f"{_COMM} on {_HOST} was stalled for {_DURATION} in the last hour: foreign processes hold copies "
            "of its errpipes."
        ),
        panel="Worst holders",
    )


def _exposed() -> Alert:
    """Return the alert for a race that has not stalled the program yet.

    Copies with cause ``late_exec`` are gone after milliseconds on any healthy multithreaded host, and
    ``own_descendant`` is no race.
    """
    by = f"{HOST_LABELS}, comm"
    return Alert(
        "SpawnStallExposure",
        f"sum by ({by}, cause)"
        f' (increase(spawnstall_exposures_total{{cause=~"forked|leaked"}}[1h])) > {_EXPOSURES_PER_HOUR}'
        f" unless on ({by}) sum by ({by}) (sum_over_time({STALLS}[1h])) > 0",
        wait="15m",
        severity="info",
        summary="A program has a race that can stall it.",
        description=(
            f"A race in {_COMM} on {_HOST}, not yet felt: in the last hour, about {_NUMBER} foreign "
            f"processes held copies of its errpipes (cause {_CAUSE}), too briefly for a stall."
        ),
        panel="Exposures, by cause",
    )


def _latency_high(burn: _Burn) -> Alert:
    limit = round(burn.factor * _ALLOWED, 9)
    ratio = "instance:spawnstall_spawns_slow:ratio_rate"
    return Alert(
        "SpawnLatencyHigh",
        f"{ratio}{burn.long} > {limit} and {ratio}{burn.short} > {limit} and "
        f"avg_over_time(instance:spawnstall_spawns:rate5m[{burn.long}]) * {burn.long_hours * 3600}"
        f" > {_MIN_SPAWNS}",
        wait=burn.wait,
        severity=burn.severity,
        summary="Too many spawns on a host are slow.",
        description=(
            f"In the last {burn.long}, {_SHARE} of the spawns on {_HOST} took more than "
            f"{float(SLOW_SPAWN_BUCKET) * 1000:.0f} ms (the objective allows {_ALLOWED:.0%})."
        ),
        panel="Spawn latency p99, by program",
        labels={"window": burn.long},
    )


def _blind() -> list[Alert]:
    """Return one rule for each reason why an agent misses stalls."""

    def rule(
        reason: str,
        expr: str,
        what: str,
        *,
        panel: str,
        wait: str = "",
        severity: Literal["warning", "info"] = "warning",
    ) -> Alert:
        return Alert(
            "SpawnStallAgentBlind",
            expr,
            wait=wait,
            severity=severity,
            summary="An agent runs but may miss stalls.",
            description=f"The agent at {_HOST} {what}.",
            panel=panel,
            labels={"reason": reason},
        )

    return [
        rule(
            "selftest",
            "spawnstall_selftest_success == 0",
            "failed its self-test: its reports may be wrong or missing",
            panel="Self-test",
            wait="5m",
        ),
        rule(
            "probe",
            "spawnstall_probe_attached == 0",
            f"could not attach its probe {_PROBE}",
            panel="Probes not attached",
            wait="5m",
        ),
        rule(
            "records_lost",
            "increase(spawnstall_records_lost_total[15m]) > 0",
            f"lost about {_NUMBER} records in 15 minutes: this many stalls may be missing",
            panel="Losses",
        ),
        rule(
            "probe_misses",
            "increase(spawnstall_probe_misses_total[15m]) > 0",
            f"missed about {_NUMBER} events in 15 minutes because its programs were interrupted: some causes"
            " may be unknown",
            panel="Losses",
            wait="15m",
            severity="info",
        ),
        rule(
            "map_updates_failed",
            "increase(spawnstall_map_updates_failed_total[15m]) > 0",
            f"failed to update its maps about {_NUMBER} times in 15 minutes",
            panel="Losses",
        ),
        rule(
            "spawns_unfinished",
            "increase(spawnstall_spawns_unfinished_total[15m]) > 0",
            f"did not count about {_NUMBER} spawns in 15 minutes because it lost track of their processes",
            panel="Losses",
        ),
        rule(
            "map_evictions",
            "increase(spawnstall_map_evictions_total[15m]) > 0",
            f"evicted about {_NUMBER} entries from its full map {_MAP} in 15 minutes",
            panel="Losses",
        ),
        rule(
            "map_nearly_full",
            "spawnstall_map_entries / spawnstall_map_max_entries > 0.8",
            f"uses {_SHARE} of its map {_MAP}",
            panel="Maps",
            wait="10m",
        ),
        rule(
            "slots_overflowed",
            "increase(spawnstall_slots_overflowed_total[15m]) > 0",
            f"could not follow about {_NUMBER} pipes in 15 minutes because too many were open at once",
            panel="Losses",
            wait="15m",
            severity="info",
        ),
        rule(
            "numbers_overflowed",
            "increase(spawnstall_numbers_overflowed_total[15m]) > 0",
            f"could not follow about {_NUMBER} copies in 15 minutes because they were at too many fds",
            panel="Losses",
            wait="15m",
            severity="info",
        ),
        rule(
            "walks_cut",
            "increase(spawnstall_walks_cut_total[15m]) > 0",
            f"cut about {_NUMBER} events short in 15 minutes because each concerned too many spawns: some"
            " causes may be unknown",
            panel="Losses",
            wait="15m",
            severity="info",
        ),
        rule(
            "searches_cut",
            "increase(spawnstall_searches_cut_total[15m]) > 0",
            f"cut about {_NUMBER} searches of open files short in 15 minutes: some holders and hangs may not"
            " be found",
            panel="Losses",
            wait="15m",
            severity="info",
        ),
    ]
