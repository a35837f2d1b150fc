# SPDX-License-Identifier: Apache-2.0
"""The generated rules in promtool: each alert fires when it should, and only then."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from dashboards.alerts import alerts
from dashboards.queries import time_lost
from dashboards.recordings import LASTING_STALLS
from dashboards.rules import Alert
from tests.e2e.rule_cases import CASES, Case, constant, rising

_FILES = ("recording.yaml", "alerts.yaml")
_TELLING = ("alertname", "severity", "lasting", "window", "reason")
_HOST = {"job": "spawnstall", "instance": "web1:9848"}


def _selector(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ", ".join(f"{key}={json.dumps(value)}" for key, value in labels.items()) + "}"


def _run(repo_root: Path, folder: Path, case: dict[str, object]) -> None:
    """Run one promtool test group (JSON is YAML)."""
    document = {
        "rule_files": [str(repo_root / "config" / "prometheus" / name) for name in _FILES],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", **case}],
    }
    file = folder / "case.yaml"
    file.write_text(json.dumps(document))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _input(series: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def _expected(alert: Alert) -> str:
    return _selector("", {"alertname": alert.name, "severity": alert.severity, **alert.labels})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_alerts(repo_root: Path, tmp_path: Path, case: Case) -> None:
    """Exactly the alerts that the case names fire, for the programs that it names."""
    by_title = {alert.title: alert for alert in alerts()}
    samples = [{"labels": _expected(by_title[title]), "value": 1} for title in case.firing]
    query = f'count by ({", ".join(_TELLING)}) (ALERTS{{alertstate="firing"}})'
    checks = [{"expr": query, "eval_time": f"{case.at}m", "exp_samples": samples}]
    if case.accused:
        query = 'group by (comm, holder) (ALERTS{alertstate="firing"})'
        samples = [
            {"labels": _selector("", {"comm": comm, **({"holder": holder} if holder else {})}), "value": 1}
            for comm, holder in case.accused
        ]
        checks.append({"expr": query, "eval_time": f"{case.at}m", "exp_samples": samples})
    _run(repo_root, tmp_path, {"input_series": _input(case.series), "promql_expr_test": checks})


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    titles = Counter(alert.title for alert in alerts())
    assert set(titles.values()) == {1}
    assert {title for case in CASES for title in case.firing} == set(titles)
    assert {title for case in CASES for title in case.quiet} == set(titles)
    for case in CASES:
        assert not set(case.firing) & set(case.quiet), case.name


_STALL = {**_HOST, "comm": "web-app", "holder": "pool-worker", "cause": "forked"}


@pytest.mark.parametrize(
    ("sample", "recorded"),
    [
        ("spawnstall_stall_seconds_count", "instance_comm_holder_cause:spawnstall_stalls:rate5m"),
        ("spawnstall_stall_seconds_sum", "instance_comm_holder_cause:spawnstall_stall_seconds:rate5m"),
    ],
)
@pytest.mark.parametrize(
    ("up", "stalls", "at", "in_five_minutes"),
    [
        pytest.param(constant(1), f"_x19 {constant(3)}", 21, 3, id="a series begins with three stalls"),
        pytest.param(constant(1), f"_x19 {constant(3)}", 27, 0, id="which are counted once"),
        pytest.param(
            f"_x19 {constant(1)}", f"_x19 {constant(3)}", 21, 0, id="the host was not scraped before"
        ),
        pytest.param(constant(1), rising((2, 60)), 30, 10, id="a series that continues"),
    ],
)
def test_the_first_stalls_of_a_series_count(
    repo_root: Path,
    tmp_path: Path,
    sample: str,
    recorded: str,
    up: str,
    stalls: str,
    at: int,
    in_five_minutes: float,
) -> None:
    check = {
        "expr": f"round({recorded} * 300, 0.001)",
        "eval_time": f"{at}m",
        "exp_samples": [{"labels": _selector("", _STALL), "value": in_five_minutes}],
    }
    series = {_selector("up", _HOST): up, _selector(sample, _STALL): stalls}
    _run(repo_root, tmp_path, {"input_series": _input(series), "promql_expr_test": [check]})


def test_recorded_latency(repo_root: Path, tmp_path: Path) -> None:
    """Two hosts with two comms each, recorded by host and by job."""
    spawns = {"0.000064": 0.0, "0.131072": 30.0, "0.262144": 60.0, "+Inf": 60.0}
    series = {
        _selector(
            f"spawnstall_{what}_seconds_bucket",
            {"job": "spawnstall", "instance": host, "comm": comm, "le": le},
        ): rising((step, 60))
        for what in ("spawn", "exec")
        for host in ("web1:9848", "web2:9848")
        for comm in ("web-app", "cron")
        for le, step in spawns.items()
    } | {
        _selector("spawnstall_spawns_total", {**_HOST, "comm": comm, "outcome": "ok"}): rising((60, 60))
        for comm in ("web-app", "cron")
    }

    def check(expr: str, value: float, **labels: str) -> dict[str, object]:
        sample = {"labels": _selector("", labels), "value": value}
        return {"expr": f"round({expr}, 0.0001)", "eval_time": "30m", "exp_samples": [sample]}

    half = 'bucket:rate5m{le="0.131072"}'
    host = '{instance="web1:9848"}'
    checks = [
        check("instance_outcome:spawnstall_spawns:rate5m", 2, **_HOST, outcome="ok"),
        check(f"job_le:spawnstall_spawn_seconds_{half}", 2, job="spawnstall", le="0.131072"),
        check(f"job_le:spawnstall_exec_seconds_{half}", 2, job="spawnstall", le="0.131072"),
        check(f"instance:spawnstall_spawns:rate5m{host}", 2, **_HOST),
        check(f"instance:spawnstall_spawns_slow:rate5m{host}", 1, **_HOST),
        check(f"instance:spawnstall_spawns_slow:ratio_rate5m{host}", 0.5, **_HOST),
        check(f"instance:spawnstall_spawns_slow:ratio_rate3d{host}", 0.5, **_HOST),
        check(f"instance:spawnstall_spawn_seconds:p99_5m{host}", 0.2595, **_HOST),
    ]
    _run(repo_root, tmp_path, {"input_series": _input(series), "promql_expr_test": checks})


def test_recorded_health(repo_root: Path, tmp_path: Path) -> None:
    """A host without one of its probes, with two maps."""
    values = {
        ("probe_attached", "probe", "close"): 1,
        ("probe_attached", "probe", "fork"): 0,
        ("map_entries", "map", "spawns"): 90,
        ("map_entries", "map", "tables"): 30,
        ("map_max_entries", "map", "spawns"): 100,
        ("map_max_entries", "map", "tables"): 200,
    }
    series = {
        _selector(f"spawnstall_{name}", {**_HOST, label: value}): constant(number)
        for (name, label, value), number in values.items()
    }
    recorded: dict[str, list[tuple[dict[str, str], float]]] = {
        "instance:spawnstall_probe_attached:min": [({}, 0)],
        "instance_map:spawnstall_map_entries:ratio": [({"map": "spawns"}, 0.9), ({"map": "tables"}, 0.15)],
    }
    checks = [
        {
            "expr": name,
            "eval_time": "5m",
            "exp_samples": [
                {"labels": _selector(name, {**_HOST, **labels}), "value": value} for labels, value in samples
            ],
        }
        for name, samples in recorded.items()
    ]
    _run(repo_root, tmp_path, {"input_series": _input(series), "promql_expr_test": checks})


def test_recorded_lasting_stalls(repo_root: Path, tmp_path: Path) -> None:
    """A program that hangs, beside one with short stalls and one with two holders."""
    number, start = "spawnstall_stalls_in_progress", "spawnstall_stall_start_timestamp_seconds"
    series = {
        _selector(number, _STALL): constant(2),
        _selector(start, _STALL): constant(60),
        **{
            _selector(name, {**_STALL, label: "other"}): values
            for label in ("comm", "holder")
            for name, values in ((number, constant(1)), (start, "0+60x60"))
        },
    }
    samples = [{"labels": _selector(LASTING_STALLS, _STALL), "value": 2}]
    check = {"expr": LASTING_STALLS, "eval_time": "30m", "exp_samples": samples}
    _run(repo_root, tmp_path, {"input_series": _input(series), "promql_expr_test": [check]})


@pytest.mark.parametrize(
    ("ended", "ongoing", "lost"),
    [
        pytest.param(f"_x9 {constant(5)}", "_x60", 5, id="ended only"),
        pytest.param("_x60", f"_x9 {constant(1)}", 29 * 60, id="in progress only"),
        pytest.param(f"_x9 {constant(5)}", f"_x9 {constant(1)}", 29 * 60, id="a short one has ended"),
        pytest.param(f"_x29 {constant(1200)}", "_x9 1x19 stale", 1200, id="a long one has ended"),
    ],
)
def test_time_lost(repo_root: Path, tmp_path: Path, ended: str, ongoing: str, lost: float) -> None:
    """Of 40 minutes, in which a stall lasts from minute 10 on."""
    series = {
        _selector("up", _HOST): constant(1),
        _selector("spawnstall_stall_seconds_sum", _STALL): ended,
        _selector("spawnstall_stalls_in_progress", _STALL): ongoing,
        _selector("spawnstall_stall_start_timestamp_seconds", _STALL): f"_x9 {constant(600)}",
    }
    check = {
        "expr": f"round({time_lost('', 'comm')}, 0.001)".replace("$__range", "40m"),
        "eval_time": "40m",
        "exp_samples": [{"labels": _selector("", {"comm": "web-app"}), "value": lost}],
    }
    _run(repo_root, tmp_path, {"input_series": _input(series), "promql_expr_test": [check]})


def test_the_kubernetes_rules_are_valid(repo_root: Path, tmp_path: Path) -> None:
    """Their groups, as the operator hands them to Prometheus."""
    document = yaml.safe_load((repo_root / "config" / "kubernetes" / "prometheusrule.yaml").read_text())
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(document["spec"]))
    command = ["promtool", "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("promtool", "check", "rules"), "recording.yaml"),
        (("promtool", "check", "rules"), "alerts.yaml"),
        (("promtool", "check", "config"), "prometheus.yaml"),
        (("promtool", "check", "config"), "shard.yaml"),
        (("amtool", "check-config"), "alertmanager.yaml"),
    ],
)
def test_files_are_valid(repo_root: Path, command: tuple[str, ...], file: str) -> None:
    path = str(repo_root / "config" / "prometheus" / file)
    done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
