"""The agent's metrics as the README lists them: what dashboards and rules may use."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["PENDING", "contract"]

PENDING = {
    "spawnstall_vfork_seconds": "histogram: comm",
    "spawnstall_probe_attached": "gauge: probe",
    "spawnstall_probe_run_seconds_total": "counter: probe",
    "spawnstall_probe_runs_total": "counter: probe",
    "spawnstall_bpf_stats_enabled": "gauge",
    "spawnstall_scrape_duration_seconds": "gauge",
    "spawnstall_config_last_reload_successful": "gauge",
    "spawnstall_config_last_reload_success_timestamp_seconds": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_open_fds": "gauge",
    "process_start_time_seconds": "gauge",
}
"""Metrics that the agent is about to export: to be emptied when the README lists them (a test says so)."""

_ROW = re.compile(
    r"^\| (?P<names>`[a-z_`, ]+`) \| (?P<kind>gauge|counter|histogram)(: (?P<labels>[a-z, ]+))? \|"
)
_SUFFIXES = {"gauge": ("",), "counter": ("",), "histogram": ("_bucket", "_sum", "_count")}


def contract(readme: Path) -> dict[str, frozenset[str]]:
    """The labels of every sample by its name, PENDING ones included."""
    found = {}
    rows = readme.read_text().splitlines()
    for line in [*rows, *(f"| `{name}` | {kind} | |" for name, kind in PENDING.items())]:
        match = _ROW.match(line)
        for name in re.findall(r"\w+", match["names"]) if match else ():
            assert match is not None
            assert name not in found, f"{name} is listed twice: is it still in PENDING?"
            found[name] = (match["kind"], frozenset(re.findall(r"\w+", match["labels"] or "")))
    return {
        name + suffix: labels | ({"le"} if suffix == "_bucket" else set())
        for name, (kind, labels) in found.items()
        for suffix in _SUFFIXES[kind]
    }
