# SPDX-License-Identifier: Apache-2.0
"""The host dashboard: one instance's stalls and latencies, the overhead, and the losses."""

from __future__ import annotations

from dashboards.frame import JOBS, dashboard_json, instance_variable
from dashboards.panels import PER_MINUTE, PER_SECOND, About, Column, Panel, lines, stat, table
from dashboards.queries import (
    blind_agents,
    losses,
    or_zero,
    over_the_range,
    quantiles,
    time_lost,
)
from dashboards.recordings import STALLS
from dashboards.runbook import runbook_url
from dashboards.shared import about_late_execs, current_stalls, spawn_latency

__all__ = ["HOST_UID", "host_dashboard"]

HOST_UID = "spawnstall-host"

_HOST = f'{JOBS}, instance="$instance"'
_WHOM = "{{comm}} held by {{holder}} ({{cause}})"
_YES_NO = {0: "no", 1: "yes"}


def host_dashboard(runbooks: str) -> str:
    """Return the dashboard's JSON; ``runbooks`` is the URL of the folder with the runbooks."""
    return dashboard_json(
        HOST_UID,
        "Spawn stalls: host",
        "One host: its stalls and latencies, the overhead of tracing, and the agent's health.",
        instance_variable(many=False),
        {
            "Now": _now(runbooks),
            "Stalls": _stalls(runbooks),
            "Spawn latency": _latency(runbooks),
            "Overhead": _overhead(),
            "Losses and health": _health(runbooks),
        },
        runbooks,
    )


def _buckets(what: str, by: str = "") -> str:
    return f"sum by ({by}le) (rate(spawnstall_{what}_seconds_bucket{{{_HOST}}}[$__rate_interval]))"


def _now(runbooks: str) -> list[Panel]:
    def runbook(alert: str) -> str:
        return runbook_url(runbooks, alert)

    return [
        stat(
            About(
                "Agent up", "Whether Prometheus can scrape the agent.", "none", runbook("SpawnStallAgentDown")
            ),
            f"up{{{_HOST}}}",
            words=_YES_NO,
        ),
        stat(
            About(
                "Agent sees all",
                "No if it loses records, failed its self-test, misses a probe or has a full map.",
                "none",
                runbook("SpawnStallAgentBlind"),
            ),
            f"1 - ({blind_agents(_HOST)})",
            words=_YES_NO,
        ),
        *current_stalls(_HOST, runbooks),
        stat(
            About("Spawns", "Ended spawns, averaged over five minutes.", PER_SECOND),
            f"sum(instance_outcome:spawnstall_spawns:rate5m{{{_HOST}}})",
        ),
    ]


def _stalls(runbooks: str) -> list[Panel]:
    ongoing, time, exposure = (
        runbook_url(runbooks, name)
        for name in ("SpawnStallOngoing", "SpawnStallTimeHigh", "SpawnStallExposure")
    )
    by = "comm, holder, cause"
    return [
        lines(
            About("Who waits for whom", "Stalls in progress by program, holder and cause.", "none", ongoing),
            {_WHOM: f"sum by ({by}) (spawnstall_stalls_in_progress{{{_HOST}}})"},
        ),
        lines(
            About("Ended stalls", "Averaged over five minutes.", PER_MINUTE, time),
            {_WHOM: f"topk(10, sum by ({by}) ({STALLS}{{{_HOST}}}) * 60)"},
        ),
        lines(
            About(
                "Stall length",
                "Quantiles of ended stalls. Each exemplar is one stall; its stall_id is the id in the log "
                "and on the agent's page.",
                "s",
                time,
            ),
            quantiles(_buckets("stall")),
            exemplars=True,
        ),
        table(
            About(
                "Worst holders",
                "In the time range; the time includes stalls in progress.",
                "short",
                time,
            ),
            [
                Column("Program", label="comm"),
                Column("Holder", label="holder"),
                Column("Cause", label="cause"),
                Column("Ended stalls", f"topk(20, {over_the_range(STALLS, _HOST, by)} > 0)"),
                Column("Time lost", f"topk(20, {time_lost(_HOST, by)} > 0)", unit="s"),
            ],
            sort_by="Time lost",
        ).span(16),
        lines(
            About(
                "Exposures, by cause",
                "Foreign processes that still held a copy when the own child had released its own: each can"
                " stall a reader.",
                PER_MINUTE,
                exposure,
            ),
            {
                "{{cause}}": "sum by (cause) "
                f"(rate(spawnstall_exposures_total{{{_HOST}}}[$__rate_interval])) * 60"
            },
        ),
        lines(
            About(
                "Late wake-ups",
                "Long reads without a foreign holder, of the ten programs with the most: the reader was"
                " stopped or frozen, or the host is busy.",
                PER_MINUTE,
            ),
            {
                "{{comm}}": "topk(10, sum by (comm) "
                f"(rate(spawnstall_late_wakeups_total{{{_HOST}}}[$__rate_interval])) * 60)"
            },
        ),
        lines(
            About(
                "Confirmations",
                "Holders of stalls in progress that the agent found among the open files of the host.",
                PER_MINUTE,
            ),
            {
                "{{result}}": "sum by (result) "
                f"(rate(spawnstall_confirmations_total{{{_HOST}}}[$__rate_interval])) * 60"
            },
        ),
        lines(
            about_late_execs("none", runbooks),
            {"{{comm}}": f"sum by (comm) (spawnstall_execs_in_progress{{{_HOST}}})"},
        ),
    ]


def _latency(runbooks: str) -> list[Panel]:
    high, slow_exec = (runbook_url(runbooks, name) for name in ("SpawnLatencyHigh", "SpawnExecSlow"))

    def p99_by_program(what: str) -> dict[str, str]:
        return {"{{comm}}": f"topk(10, histogram_quantile(0.99, {_buckets(what, 'comm, ')}) > 0)"}

    return [
        *spawn_latency(_buckets("spawn"), runbooks),
        lines(
            About("Spawns, by outcome", "Ended spawns of all programs.", PER_SECOND),
            {"{{outcome}}": f"sum by (outcome) (rate(spawnstall_spawns_total{{{_HOST}}}[$__rate_interval]))"},
        ),
        lines(
            About("Spawn latency p99, by program", "The ten slowest programs.", "s", high),
            p99_by_program("spawn"),
        ),
        lines(
            About(
                "Exec latency p99, by program",
                "From the fork to the own child's exec, of the ten slowest programs. No holder is involved.",
                "s",
                slow_exec,
            ),
            p99_by_program("exec"),
        ),
        lines(
            About(
                "vfork latency p99, by program",
                "How long posix_spawn, which has no errpipe, blocks the parent. The ten slowest programs.",
                "s",
                slow_exec,
            ),
            p99_by_program("vfork"),
        ),
    ]


def _overhead() -> list[Panel]:
    run_seconds = f"rate(spawnstall_probe_run_seconds_total{{{_HOST}}}[$__rate_interval])"
    runs = f"rate(spawnstall_probe_runs_total{{{_HOST}}}[$__rate_interval])"
    stats = " Measured only while the sysctl kernel.bpf_stats_enabled is 1."
    return [
        lines(
            About("Time in probes", "As a share of one processor, by probe." + stats, "percentunit"),
            {"{{probe}}": f"sum by (probe) ({run_seconds})"},
        ),
        lines(
            About("Time per run", "By probe." + stats, "s"),
            {"{{probe}}": f"sum by (probe) ({run_seconds}) / (sum by (probe) ({runs}) > 0)"},
        ),
        lines(
            About("Runs", "By probe." + stats, PER_SECOND),
            {"{{probe}}": f"sum by (probe) ({runs})"},
        ),
        lines(
            About("Agent CPU", "In user space, as a share of one processor.", "percentunit"),
            {"agent": f"rate(process_cpu_seconds_total{{{_HOST}}}[$__rate_interval])"},
        ),
        lines(
            About("Agent memory", "Resident memory.", "bytes"),
            {"agent": f"process_resident_memory_bytes{{{_HOST}}}"},
        ),
        lines(
            About("Scrape", "How long the agent takes to read the kernel side for a scrape.", "s"),
            {"agent": f"spawnstall_scrape_duration_seconds{{{_HOST}}}"},
        ),
    ]


def _health(runbooks: str) -> list[Panel]:
    blind = runbook_url(runbooks, "SpawnStallAgentBlind")
    return [
        lines(
            About(
                "Losses",
                "Events and records that the agent missed. Normally 0.",
                PER_MINUTE,
                blind,
            ),
            losses(_HOST),
        ),
        lines(
            About("Maps", "The share of each map that is in use.", "percentunit", blind),
            {"{{map}}": f"spawnstall_map_entries{{{_HOST}}} / spawnstall_map_max_entries"},
            limit=0.8,
        ),
        lines(
            About(
                "Not followed, not recorded, not served",
                "Pipes that were displaced before their first fork, fd tables that are shared, spawns counted"
                " under ~other because the kernel's map was full, stacks of forks without room, stalls"
                " above the log's limit, and HTTP requests that were refused.",
                PER_MINUTE,
                blind,
            ),
            {
                legend: f"rate(spawnstall_{name}_total{{{_HOST}}}[$__rate_interval]) * 60"
                for legend, name in (
                    ("pipes forgotten", "pipes_forgotten"),
                    ("shared tables", "tables_shared"),
                    ("programs full", "programs_full"),
                    ("stacks", "stacks_lost"),
                    ("stalls not logged", "stalls_not_logged"),
                    ("HTTP: {{reason}}", "http_refusals"),
                )
            },
        ),
        stat(
            About("Self-test", "The result of the self-test at startup.", "none", blind),
            f"spawnstall_selftest_success{{{_HOST}}}",
            words={0: "failed", 1: "passed"},
        ),
        stat(
            About("Probes not attached", "The number of probes that could not be attached.", "none", blind),
            or_zero(f"count(spawnstall_probe_attached{{{_HOST}}} == 0)"),
            orange_from=1,
        ),
        stat(
            About("Last reload", "Whether the last reload of the configuration succeeded.", "none"),
            f"spawnstall_config_last_reload_successful{{{_HOST}}}",
            words={0: "failed", 1: "succeeded"},
        ),
        stat(
            About("Configuration loaded", "The last successful load.", "dateTimeFromNow"),
            f"spawnstall_config_last_reload_success_timestamp_seconds{{{_HOST}}} * 1000",
        ),
        stat(
            About("Agent started", "The start of the agent's process.", "dateTimeFromNow"),
            f"process_start_time_seconds{{{_HOST}}} * 1000",
        ),
        stat(About("Open files", "File descriptors of the agent.", "none"), f"process_open_fds{{{_HOST}}}"),
        table(
            About(
                "Versions", "The versions of the agent, the kernel and the BPF Compiler Collection.", "short"
            ),
            [
                Column("Agent", label="version"),
                Column("Kernel", label="kernel"),
                Column("bcc", label="bcc"),
                Column("Agents", f"count by (version, kernel, bcc) (spawnstall_build_info{{{_HOST}}})"),
            ],
            sort_by="Agents",
        )
        .span(24)
        .height(4),
    ]
