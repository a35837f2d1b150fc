# SPDX-License-Identifier: Apache-2.0
"""The fleet dashboard: which hosts and programs stall, which holders stall them, and the agents' health.

Made for a thousand hosts: metrics with a series for each comm and bucket are read from recording rules.
"""

from __future__ import annotations

from dashboards.alerts import OBJECTIVE
from dashboards.frame import JOBS, dashboard_json, instance_variable
from dashboards.host import HOST_UID
from dashboards.panels import PER_MINUTE, PER_SECOND, About, Column, Panel, lines, stat, table
from dashboards.queries import (
    blind_agents,
    losses,
    or_zero,
    over_the_range,
    quantiles,
    time_lost,
)
from dashboards.recordings import (
    MAP_FULLNESS,
    PROBES_ATTACHED,
    SLOW_SPAWN_BUCKET,
    STALLED_SECONDS,
    STALLS,
)
from dashboards.runbook import runbook_url
from dashboards.shared import about_late_execs, current_stalls, spawn_latency

__all__ = ["fleet_dashboard"]

_HOSTS = f'{JOBS}, instance=~"$instance"'
_ALLOWED = round(1 - OBJECTIVE, 9)
_NOTEWORTHY = _ALLOWED / 10  # every host has some slow spawns
_HOST_LINK = (
    f"/d/{HOST_UID}?${{datasource:queryparam}}&${{cluster:queryparam}}&${{job:queryparam}}"
    "&var-instance=${__value.text}"
    "&${__url_time_range}"
)


def fleet_dashboard(runbooks: str) -> str:
    """Return the dashboard's JSON; ``runbooks`` is the URL of the folder with the runbooks."""
    return dashboard_json(
        "spawnstall-fleet",
        "Spawn stalls: fleet",
        "Which hosts and programs stall when they start others, and which processes hold them up.",
        instance_variable(many=True),
        {
            "Now": _now(runbooks),
            "Who stalls": _stalls(runbooks),
            "Spawn latency (the first three: all hosts of the jobs)": _latency(runbooks),
            "Agent health": _health(runbooks),
        },
        runbooks,
    )


def _now(runbooks: str) -> list[Panel]:
    def runbook(alert: str) -> str:
        return runbook_url(runbooks, alert)

    return [
        stat(
            About("Agents up", "Agents that Prometheus can scrape.", "none"),
            or_zero(f"sum(up{{{_HOSTS}}})"),
        ),
        stat(
            About(
                "Agents down",
                "Agents that cannot be scraped: stalls on their hosts go unnoticed.",
                "none",
                runbook("SpawnStallAgentDown"),
            ),
            or_zero(f"count(up{{{_HOSTS}}} == 0)"),
            orange_from=1,
        ),
        stat(
            About(
                "Agents blind",
                "Agents that run but lose records, failed their self-test, miss a probe or have a full map.",
                "none",
                runbook("SpawnStallAgentBlind"),
            ),
            blind_agents(_HOSTS),
            orange_from=1,
        ),
        *current_stalls(_HOSTS, runbooks),
    ]


def _stalls(runbooks: str) -> list[Panel]:
    time = runbook_url(runbooks, "SpawnStallTimeHigh")

    in_range = "In the time range; the time includes stalls in progress."
    by = "instance, comm"

    def worst(title: str, description: str, *labels: tuple[str, str]) -> Panel:
        by = ", ".join(label for label, _ in labels)
        return table(
            About(title, description, "short", time),
            [
                *(
                    Column(name, label=label, link=_HOST_LINK if label == "instance" else "")
                    for label, name in labels
                ),
                Column("Ended stalls", f"topk(20, {over_the_range(STALLS, _HOSTS, by)} > 0)"),
                Column("Time lost", f"topk(20, {time_lost(_HOSTS, by)} > 0)", unit="s"),
            ],
            sort_by="Time lost",
        )

    return [
        lines(
            About(
                "Stalls in progress, by host",
                "The ten hosts with the most readers that wait for foreign holders.",
                "none",
                runbook_url(runbooks, "SpawnStallOngoing"),
            ),
            {"{{instance}}": f"topk(10, sum by (instance) (spawnstall_stalls_in_progress{{{_HOSTS}}}))"},
        ),
        lines(
            About(
                "Ended stalls, by program",
                "The ten programs with the most, averaged over five minutes.",
                PER_MINUTE,
                time,
            ),
            {"{{comm}}": f"topk(10, sum by (comm) ({STALLS}{{{_HOSTS}}}) * 60)"},
        ),
        lines(
            About(
                "Time lost in ended stalls, by host",
                "Seconds per minute, averaged over five minutes, of the ten worst hosts. A stall counts when "
                "it ends.",
                "suffix: s/min",
                time,
            ),
            {"{{instance}}": f"topk(10, sum by (instance) ({STALLED_SECONDS}{{{_HOSTS}}}) * 60)"},
        ),
        worst("Hosts that stall", in_range, ("instance", "Host")),
        worst("Programs that stall", in_range, ("comm", "Program")),
        worst(
            "Worst holders",
            "The processes whose copies of an errpipe stalled others. " + in_range,
            ("holder", "Holder"),
            ("cause", "Cause"),
        ),
        table(
            about_late_execs("short", runbooks),
            [
                Column("Host", label="instance", link=_HOST_LINK),
                Column("Program", label="comm"),
                Column(
                    "Own children",
                    f"topk(20, sum by ({by}) (spawnstall_execs_in_progress{{{_HOSTS}}}))",
                ),
                Column(
                    "Oldest",
                    f"topk(20, max by ({by}) (time() - spawnstall_exec_start_timestamp_seconds{{{_HOSTS}}}))",
                    unit="s",
                ),
            ],
            sort_by="Oldest",
        )
        .span(24)
        .height(5),
    ]


def _latency(runbooks: str) -> list[Panel]:
    def job_wide(what: str) -> str:
        return f"sum by (le) (job_le:spawnstall_{what}_seconds_bucket:rate5m{{{JOBS}}})"

    high = runbook_url(runbooks, "SpawnLatencyHigh")
    slow = "instance:spawnstall_spawns_slow:ratio_rate1h"
    return [
        *spawn_latency(job_wide("spawn"), runbooks, ", on all hosts of the jobs"),
        lines(
            About(
                "Exec latency quantiles",
                "From the fork to the own child's exec, on all hosts of the jobs. No holder is involved.",
                "s",
                runbook_url(runbooks, "SpawnExecSlow"),
            ),
            quantiles(job_wide("exec")),
        ),
        lines(
            About("Spawns, by outcome", "Averaged over five minutes.", PER_SECOND),
            {"{{outcome}}": f"sum by (outcome) (instance_outcome:spawnstall_spawns:rate5m{{{_HOSTS}}})"},
        ),
        lines(
            About(
                "Spawn latency p99, slowest hosts", "The five slowest hosts, over five minutes.", "s", high
            ),
            {"{{instance}}": f"topk(5, instance:spawnstall_spawn_seconds:p99_5m{{{_HOSTS}}} > 0)"},
        ),
        lines(
            About(
                f"Spawns slower than {float(SLOW_SPAWN_BUCKET) * 1000:.0f} ms, worst hosts",
                "Their share over an hour, on the five worst hosts. The dashed line is the objective.",
                "percentunit",
                high,
            ),
            {"{{instance}}": f"topk(5, {slow}{{{_HOSTS}}} > {_NOTEWORTHY})"},
            limit=_ALLOWED,
        ),
    ]


def _health(runbooks: str) -> list[Panel]:
    blind = runbook_url(runbooks, "SpawnStallAgentBlind")

    def typical_and_worst(expr: str) -> dict[str, str]:
        return {"median": f"quantile(0.5, {expr})", "worst": f"max({expr})"}

    return [
        lines(
            About(
                "Losses",
                "Events and records that the agents missed, on all hosts together. Normally 0.",
                PER_MINUTE,
                blind,
            ),
            losses(_HOSTS),
        ),
        lines(
            About(
                "Fullest maps",
                "The share of each map that is in use, on the host where it is fullest.",
                "percentunit",
                blind,
            ),
            {"{{map}}": f"max by (map) ({MAP_FULLNESS}{{{_HOSTS}}})"},
            limit=0.8,
        ),
        lines(
            About(
                "Agents that fail",
                "Agents by what failed: the self-test at startup, attaching a probe, the last reload of the "
                "configuration.",
                "none",
                blind,
            ),
            {
                "self-test": or_zero(f"count(spawnstall_selftest_success{{{_HOSTS}}} == 0)"),
                "probe": or_zero(f"count({PROBES_ATTACHED}{{{_HOSTS}}} == 0)"),
                "reload": or_zero(f"count(spawnstall_config_last_reload_successful{{{_HOSTS}}} == 0)"),
            },
        ),
        lines(
            About("Agent CPU", "In user space, as a share of one processor.", "percentunit"),
            typical_and_worst(f"rate(process_cpu_seconds_total{{{_HOSTS}}}[$__rate_interval])"),
        ),
        lines(
            About("Agent memory", "Resident memory.", "bytes"),
            typical_and_worst(f"process_resident_memory_bytes{{{_HOSTS}}}"),
        ),
        lines(
            About("Agents, by version", "The number of agents with each version.", "none"),
            {"{{version}}": f"count by (version) (spawnstall_build_info{{{_HOSTS}}})"},
        ),
    ]
