"""The fleet dashboard: which hosts and programs stall, who holds them up, and whether the agents see it.

Made for a thousand hosts: what has a series for each comm and bucket is read from recording rules.
"""

from __future__ import annotations

from dashboards.alerts import OBJECTIVE
from dashboards.frame import dashboard_json, instance_variable
from dashboards.host import HOST_UID
from dashboards.latency import spawn_latency
from dashboards.panels import About, Column, Panel, lines, stat, table
from dashboards.queries import (
    STALLED_SECONDS,
    STALLS,
    blind_agents,
    losses,
    oldest_stall,
    or_zero,
    over_the_range,
    quantiles,
)
from dashboards.recordings import MAP_FULLNESS, PROBES_ATTACHED, SLOW_SPAWN_BUCKET
from dashboards.runbook import runbook_url

__all__ = ["fleet_dashboard"]

_HOSTS = 'job="$job", instance=~"$instance"'
_ALLOWED = round(1 - OBJECTIVE, 9)
_NOTEWORTHY = _ALLOWED / 10  # less is what every host has
_HOST_LINK = (
    f"/d/{HOST_UID}?var-datasource=${{datasource}}&var-job=${{job}}&var-instance=${{__value.text}}"
    "&${__url_time_range}"
)


def fleet_dashboard(runbooks: str) -> str:
    """The text of its file; ``runbooks`` is the URL of the folder with the runbooks."""
    return dashboard_json(
        "spawnstall-fleet",
        "Spawn stalls: fleet",
        "Which hosts and programs stall when they start others, and who holds them up.",
        instance_variable(many=True),
        {
            "Now": _now(runbooks),
            "Who stalls": _stalls(runbooks),
            "Spawn latency (the first three: all hosts of the job)": _latency(runbooks),
            "Agent health": _health(runbooks),
        },
        runbooks,
    )


def _now(runbooks: str) -> list[Panel]:
    def runbook(alert: str) -> str:
        return runbook_url(runbooks, alert)

    return [
        stat(
            About("Agents up", "Agents that Prometheus could scrape.", "none"),
            or_zero(f"sum(up{{{_HOSTS}}})"),
        ),
        stat(
            About(
                "Agents down",
                "Agents that do not answer: stalls on their hosts go unseen.",
                "none",
                runbook("SpawnStallAgentDown"),
            ),
            or_zero(f"count(up{{{_HOSTS}}} == 0)"),
            red_from=1,
        ),
        stat(
            About(
                "Agents blind",
                "Agents that run, but lose records, fail their self-test, miss a probe or have a full map.",
                "none",
                runbook("SpawnStallAgentBlind"),
            ),
            blind_agents(_HOSTS),
            red_from=1,
        ),
        stat(
            About(
                "Stalls in progress",
                "Readers that wait for foreign holders now.",
                "none",
                runbook("SpawnStallOngoing"),
            ),
            or_zero(f"sum(spawnstall_stalls_in_progress{{{_HOSTS}}})"),
            red_from=1,
        ),
        stat(
            About(
                "Oldest stall",
                "How long the oldest stall in progress has lasted.",
                "s",
                runbook("SpawnStallOngoing"),
            ),
            oldest_stall(_HOSTS),
            red_from=60,
        ),
        stat(
            About("Time lost", "Seconds that programs were stalled, in the whole time range.", "s"),
            or_zero(over_the_range(STALLED_SECONDS, _HOSTS, "")),
        ),
    ]


def _stalls(runbooks: str) -> list[Panel]:
    rate = runbook_url(runbooks, "SpawnStallRate")

    def worst(title: str, description: str, *labels: tuple[str, str]) -> Panel:
        by = ", ".join(label for label, _ in labels)
        return table(
            About(title, description, "short", rate),
            [
                *(
                    Column(name, label=label, link=_HOST_LINK if label == "instance" else "")
                    for label, name in labels
                ),
                Column("Stalls", f"topk(20, {over_the_range(STALLS, _HOSTS, by)} > 0)"),
                Column("Time lost", f"topk(20, {over_the_range(STALLED_SECONDS, _HOSTS, by)} > 0)", unit="s"),
            ],
            sort_by="Time lost",
        )

    return [
        lines(
            About(
                "Stalls in progress, by host",
                "Readers that wait for foreign holders, of the ten hosts with the most.",
                "none",
                runbook_url(runbooks, "SpawnStallOngoing"),
            ),
            {"{{instance}}": f"topk(10, sum by (instance) (spawnstall_stalls_in_progress{{{_HOSTS}}}))"},
        ),
        lines(
            About(
                "Ended stalls a minute, by program",
                "Averages over five minutes, of the ten programs with the most.",
                "none",
                rate,
            ),
            {"{{comm}}": f"topk(10, sum by (comm) ({STALLS}{{{_HOSTS}}}) * 60)"},
        ),
        lines(
            About(
                "Time lost a minute, by host",
                "Seconds that programs were stalled in each minute: averages over five minutes, of the worst "
                "ten hosts.",
                "s",
                rate,
            ),
            {"{{instance}}": f"topk(10, sum by (instance) ({STALLED_SECONDS}{{{_HOSTS}}}) * 60)"},
        ),
        worst("Hosts that stall", "Ended stalls in the whole time range.", ("instance", "Host")),
        worst("Programs that stall", "Ended stalls in the whole time range.", ("comm", "Program")),
        worst(
            "Worst holders",
            "Whose copies of other programs' errpipes they waited for, in the whole time range.",
            ("holder", "Holder"),
            ("cause", "Cause"),
        ),
    ]


def _latency(runbooks: str) -> list[Panel]:
    def job_wide(what: str) -> str:
        return f'sum by (le) (job_le:spawnstall_{what}_seconds_bucket:rate5m{{job="$job"}})'

    high = runbook_url(runbooks, "SpawnLatencyHigh")
    slow = "instance:spawnstall_spawns_slow:ratio_rate1h"
    return [
        *spawn_latency(job_wide("spawn"), runbooks, ", of all hosts of the job"),
        lines(
            About(
                "Exec latency quantiles",
                "From the fork to the own child's release, of all hosts of the job: nobody else's fault.",
                "s",
                runbook_url(runbooks, "SpawnExecSlow"),
            ),
            quantiles(job_wide("exec")),
        ),
        lines(
            About("Spawns a second, by outcome", "Averages over five minutes.", "cps"),
            {"{{outcome}}": f"sum by (outcome) (instance_outcome:spawnstall_spawns:rate5m{{{_HOSTS}}})"},
        ),
        lines(
            About(
                "Spawn latency p99, slowest hosts", "Of the five slowest hosts, over five minutes.", "s", high
            ),
            {"{{instance}}": f"topk(5, instance:spawnstall_spawn_seconds:p99_5m{{{_HOSTS}}} > 0)"},
        ),
        lines(
            About(
                f"Spawns slower than {float(SLOW_SPAWN_BUCKET) * 1000:.0f} ms, worst hosts",
                "Their share in an hour, of the worst five hosts. The dashed line: what is allowed.",
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
                "Losses a minute",
                "What the agents could not see or keep, of all hosts together. All of them should be 0.",
                "none",
                blind,
            ),
            losses(_HOSTS),
        ),
        lines(
            About(
                "Fullest maps", "How full each map is on the host where it is fullest.", "percentunit", blind
            ),
            {"{{map}}": f"max by (map) ({MAP_FULLNESS}{{{_HOSTS}}})"},
            limit=0.8,
        ),
        lines(
            About(
                "Agents that fail",
                "By what fails: the self-test at their start, a probe that could not be attached, the last "
                "reload of the configuration.",
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
            About("Agent CPU", "Share of one processor, of user space alone.", "percentunit"),
            typical_and_worst(f"rate(process_cpu_seconds_total{{{_HOSTS}}}[$__rate_interval])"),
        ),
        lines(
            About("Agent memory", "Resident.", "bytes"),
            typical_and_worst(f"process_resident_memory_bytes{{{_HOSTS}}}"),
        ),
        lines(
            About("Agents, by version", "How many run each version.", "none"),
            {"{{version}}": f"count by (version) (spawnstall_build_info{{{_HOSTS}}})"},
        ),
    ]
