"""The host dashboard: one instance's stalls and latencies, what watching costs it, and what was lost."""

from __future__ import annotations

from dashboards.frame import dashboard_json, instance_variable
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
from dashboards.runbook import runbook_url

__all__ = ["HOST_UID", "host_dashboard"]

HOST_UID = "spawnstall-host"

_HOST = 'job="$job", instance="$instance"'
_WHOM = "{{comm}} held by {{holder}} ({{cause}})"
_YES_NO = {0: "no", 1: "yes"}


def host_dashboard(runbooks: str) -> str:
    """The text of its file; ``runbooks`` is the URL of the folder with the runbooks."""
    return dashboard_json(
        HOST_UID,
        "Spawn stalls: host",
        "One host: its stalls and latencies, what watching costs, and what was lost.",
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
            About("Agent up", "Whether Prometheus could scrape it.", "none", runbook("SpawnStallAgentDown")),
            f"up{{{_HOST}}}",
            mapping=_YES_NO,
        ),
        stat(
            About(
                "Agent sees",
                "No, if it loses records, fails its self-test, misses a probe or has a full map.",
                "none",
                runbook("SpawnStallAgentBlind"),
            ),
            f"1 - ({blind_agents(_HOST)})",
            mapping=_YES_NO,
        ),
        stat(
            About(
                "Stalls in progress",
                "Readers that wait for foreign holders now.",
                "none",
                runbook("SpawnStallOngoing"),
            ),
            or_zero(f"sum(spawnstall_stalls_in_progress{{{_HOST}}})"),
            red_from=1,
        ),
        stat(
            About(
                "Oldest stall",
                "How long the oldest stall in progress has lasted.",
                "s",
                runbook("SpawnStallOngoing"),
            ),
            oldest_stall(_HOST),
            red_from=60,
        ),
        stat(
            About("Time lost", "Seconds that programs were stalled, in the whole time range.", "s"),
            or_zero(over_the_range(STALLED_SECONDS, _HOST, "")),
        ),
        stat(
            About("Spawns a second", "Ended spawns, over five minutes.", "cps"),
            f"sum(instance_outcome:spawnstall_spawns:rate5m{{{_HOST}}})",
        ),
    ]


def _stalls(runbooks: str) -> list[Panel]:
    ongoing, rate = (runbook_url(runbooks, name) for name in ("SpawnStallOngoing", "SpawnStallRate"))
    by = "comm, holder, cause"
    return [
        lines(
            About("Who waits for whom", "Stalls in progress, and why.", "none", ongoing),
            {_WHOM: f"sum by ({by}) (spawnstall_stalls_in_progress{{{_HOST}}})"},
        ),
        lines(
            About("Ended stalls a minute", "Averages over five minutes.", "none", rate),
            {_WHOM: f"topk(10, sum by ({by}) ({STALLS}{{{_HOST}}}) * 60)"},
        ),
        lines(
            About(
                "Stall length",
                "Quantiles of the stalls that ended; the points are single ones, with the id that the log "
                "and the agent's page have.",
                "s",
                rate,
            ),
            quantiles(_buckets("stall")),
            exemplars=True,
        ),
        table(
            About("Worst holders", "Ended stalls in the whole time range.", "short", rate),
            [
                Column("Program", label="comm"),
                Column("Holder", label="holder"),
                Column("Cause", label="cause"),
                Column("Stalls", f"topk(20, {over_the_range(STALLS, _HOST, by)} > 0)"),
                Column("Time lost", f"topk(20, {over_the_range(STALLED_SECONDS, _HOST, by)} > 0)", unit="s"),
            ],
            sort_by="Time lost",
        ).span(16),
        lines(
            About(
                "Exposures a minute, by cause",
                "Foreign processes that still had a copy when the own child had let go: each can stall a"
                " reader.",
                "none",
                rate,
            ),
            {
                "{{cause}}": "sum by (cause) "
                f"(rate(spawnstall_exposures_total{{{_HOST}}}[$__rate_interval])) * 60"
            },
        ),
        lines(
            About(
                "Readers woken late, a minute",
                "Long reads that nobody foreign kept waiting, of the ten programs with the most: they were"
                " stopped or frozen, or the machine is busy.",
                "none",
            ),
            {
                "{{comm}}": "topk(10, sum by (comm) "
                f"(rate(spawnstall_late_wakeups_total{{{_HOST}}}[$__rate_interval])) * 60)"
            },
        ),
        lines(
            About(
                "Holders looked for, a minute",
                "Of stalls in progress, in the open files of the host: confirmed, or gone before anybody"
                " looked.",
                "none",
            ),
            {
                "{{result}}": "sum by (result) "
                f"(rate(spawnstall_confirmations_total{{{_HOST}}}[$__rate_interval])) * 60"
            },
        ),
    ]


def _latency(runbooks: str) -> list[Panel]:
    high, slow_exec = (runbook_url(runbooks, name) for name in ("SpawnLatencyHigh", "SpawnExecSlow"))

    def p99_by_program(what: str) -> dict[str, str]:
        return {"{{comm}}": f"topk(10, histogram_quantile(0.99, {_buckets(what, 'comm, ')}) > 0)"}

    return [
        *spawn_latency(_buckets("spawn"), runbooks),
        lines(
            About("Spawns a second, by outcome", "Ended spawns, of all programs.", "cps"),
            {"{{outcome}}": f"sum by (outcome) (rate(spawnstall_spawns_total{{{_HOST}}}[$__rate_interval]))"},
        ),
        lines(
            About("Spawn latency p99, by program", "Of the ten slowest programs.", "s", high),
            p99_by_program("spawn"),
        ),
        lines(
            About(
                "Exec latency p99, by program",
                "From the fork to the own child's release: nobody else's fault. The ten slowest programs.",
                "s",
                slow_exec,
            ),
            p99_by_program("exec"),
        ),
        lines(
            About(
                "vfork latency p99, by program",
                "How long posix_spawn blocked its parent (there is no errpipe). The ten slowest programs.",
                "s",
                slow_exec,
            ),
            p99_by_program("vfork"),
        ),
    ]


def _overhead() -> list[Panel]:
    run_seconds = f"rate(spawnstall_probe_run_seconds_total{{{_HOST}}}[$__rate_interval])"
    runs = f"rate(spawnstall_probe_runs_total{{{_HOST}}}[$__rate_interval])"
    stats = " Only while the sysctl kernel.bpf_stats_enabled is 1."
    return [
        lines(
            About("Time in probes", "Share of one processor, by probe." + stats, "percentunit"),
            {"{{probe}}": f"sum by (probe) ({run_seconds})"},
        ),
        lines(
            About("Time of one run", "By probe." + stats, "s"),
            {"{{probe}}": f"sum by (probe) ({run_seconds}) / (sum by (probe) ({runs}) > 0)"},
        ),
        lines(
            About("Runs a second", "By probe." + stats, "cps"),
            {"{{probe}}": f"sum by (probe) ({runs})"},
        ),
        lines(
            About("Agent CPU", "Share of one processor, of user space alone.", "percentunit"),
            {"agent": f"rate(process_cpu_seconds_total{{{_HOST}}}[$__rate_interval])"},
        ),
        lines(
            About("Agent memory", "Resident.", "bytes"),
            {"agent": f"process_resident_memory_bytes{{{_HOST}}}"},
        ),
        lines(
            About("Scrape", "How long the agent takes to answer Prometheus.", "s"),
            {"agent": f"spawnstall_scrape_duration_seconds{{{_HOST}}}"},
        ),
    ]


def _health(runbooks: str) -> list[Panel]:
    blind = runbook_url(runbooks, "SpawnStallAgentBlind")
    return [
        lines(
            About(
                "Losses a minute",
                "What the agent could not see or keep. All of them should be 0.",
                "none",
                blind,
            ),
            losses(_HOST),
        ),
        lines(
            About("Maps", "How full each one is.", "percentunit", blind),
            {"{{map}}": f"spawnstall_map_entries{{{_HOST}}} / spawnstall_map_max_entries"},
            limit=0.8,
        ),
        lines(
            About(
                "Not followed or kept, a minute",
                "Pipes that made room for others before anybody had forked for them, forks that share an fd"
                " table, spawns counted under ~other as the kernel's map was full, stacks of forks that found"
                " no room, and stalls that the log had no room for.",
                "none",
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
                )
            },
        ),
        stat(
            About("Self-test", "Whether the one at the agent's start passed.", "none", blind),
            f"spawnstall_selftest_success{{{_HOST}}}",
            mapping={0: "failed", 1: "passed"},
        ),
        stat(
            About("Probes not attached", "How many.", "none", blind),
            or_zero(f"count(spawnstall_probe_attached{{{_HOST}}} == 0)"),
            red_from=1,
        ),
        stat(
            About("Last reload", "Whether the configuration was taken.", "none"),
            f"spawnstall_config_last_reload_successful{{{_HOST}}}",
            mapping={0: "failed", 1: "taken"},
        ),
        stat(
            About("Configuration is of", "When it was last taken.", "dateTimeFromNow"),
            f"spawnstall_config_last_reload_success_timestamp_seconds{{{_HOST}}} * 1000",
        ),
        stat(
            About("Agent runs since", "When it was started.", "dateTimeFromNow"),
            f"process_start_time_seconds{{{_HOST}}} * 1000",
        ),
        stat(About("Open files", "File descriptors of the agent.", "none"), f"process_open_fds{{{_HOST}}}"),
        table(
            About("Versions", "Of the agent, the kernel and the BPF Compiler Collection.", "short"),
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
