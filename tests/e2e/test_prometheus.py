# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus and Alertmanager beside a running agent, while real programs stall."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dashboards.alerts import JOB, alerts
from tests.e2e.servers import Alertmanager, Prometheus, alertmanager, eventually, prometheus
from tests.live.lab import PYTHON, Lab, RunningAgent
from tests.metrics_contract import contract
from tests.promql import Target, panel_targets, substituted

pytestmark = pytest.mark.alone

_WINDOW_SECONDS = 10
_COMM = "python3"  # of every program that runs here
_BPF_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


@dataclass(frozen=True)
class Monitoring:
    """An agent and the servers that monitor it."""

    agent: RunningAgent
    prometheus: Prometheus
    alertmanager: Alertmanager

    def firing(self) -> dict[str, list[dict[str, Any]]]:
        """Return the alerts in Alertmanager by title, without other programs: those of the host may stall."""
        telling = ("alertname", "lasting", "window", "reason")
        found: dict[str, list[dict[str, Any]]] = {}
        for alert in self.alertmanager.alerts():
            labels = alert["labels"]
            if labels.get("comm", _COMM) == _COMM:
                title = " ".join(labels[label] for label in telling if label in labels)
                found.setdefault(title, []).append(alert)
        return found


def _hurried(text: str) -> str:
    """Return the generated rules with short times; otherwise the test would take days.

    Windows and offsets are ten seconds, waits are zero, and a stall is old after two seconds. Any slow spawn
    exceeds the limit, because the number of fast spawns of other programs on this host is unknown.
    test_rules.py tests the real numbers.
    """
    text = re.sub(r"\[\d+[mhd]\]", f"[{_WINDOW_SECONDS}s]", text)
    text = text.replace("offset 5m", f"offset {_WINDOW_SECONDS}s").replace("/ 300", f"/ {_WINDOW_SECONDS}")
    text = re.sub(r"for: \d+[mh]", "for: 0s", text).replace("interval: 60s", "interval: 1s")
    text = re.sub(r"(timestamp_seconds >) \d+", r"\1 2", text)
    return re.sub(r"(ratio_rate\w+ >) [0-9.]+", r"\1 0", text)


@pytest.fixture(scope="module")
def monitoring(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """Run all three."""
    folder = tmp_path_factory.mktemp("monitoring")
    with contextlib.ExitStack() as stack:
        before = _BPF_STATS.read_text()
        _BPF_STATS.write_text("1")
        stack.callback(_BPF_STATS.write_text, before)
        agent = stack.enter_context(Lab(repo_root, folder).agent())
        alerting = stack.enter_context(alertmanager(folder))
        for name in ("recording.yaml", "alerts.yaml"):
            rules = (repo_root / "config" / "prometheus" / name).read_text()
            (folder / name).write_text(_hurried(rules))
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": JOB, "static_configs": _at(agent.port)}],
            "alerting": {"alertmanagers": [{"static_configs": _at(alerting.port)}]},
            "rule_files": ["recording.yaml", "alerts.yaml"],
        }
        asking = stack.enter_context(prometheus(folder, config))
        # Rates look back over a window, which has to be complete.
        eventually(
            lambda: sum(asking.over_time(f'up{{job="{JOB}"}}', 60)) > _WINDOW_SECONDS + 2,
            lambda: "the agent is not scraped",
        )
        yield Monitoring(agent, asking, alerting)


def _at(port: int) -> list[dict[str, list[str]]]:
    return [{"targets": [f"127.0.0.1:{port}"]}]


@contextlib.contextmanager
def _stalling(lab: Lab) -> Iterator[None]:
    """Run programs until the block ends: they stall, exec slowly or never, or use posix_spawn."""
    vfork = (
        "import os, time\n"
        "while True:\n"
        "    os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\n"
        "    time.sleep(0.2)\n"
    )
    commands = [
        lab.program("fork_beside_popen.py", "--force", "1000", "--live", "600"),
        lab.program("fork_beside_popen.py", "--force", "100000", "--live", "0.3"),
        lab.program("slow_preexec_own.py", "--count", "100000", "--sleep", "0.8"),
        lab.program("slow_preexec_own.py", "--count", "1", "--sleep", "600"),
        [PYTHON, "-c", vfork],
    ]
    with contextlib.ExitStack() as stack:
        for command in commands:
            program = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
            stack.callback(program.wait)
            stack.callback(os.killpg, program.pid, signal.SIGKILL)  # with its holders
        yield


def test_the_agent_exports_what_the_metrics_page_lists(repo_root: Path, monitoring: Monitoring) -> None:
    """Histograms of stalls and label values appear with the first of each, so programs have to run."""
    wanted = set(contract(repo_root))

    def missing() -> set[str]:
        return wanted - {name for name, _ in monitoring.agent.metrics()}

    with _stalling(Lab(repo_root, repo_root)):
        eventually(lambda: not missing(), lambda: f"not exported: {missing()}")


def test_promtool_finds_nothing_wrong_with_the_metrics(monitoring: Monitoring) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=monitoring.agent.get("/metrics"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_panel_shows_data(repo_root: Path, monitoring: Monitoring) -> None:
    instance = f"127.0.0.1:{monitoring.agent.port}"
    seconds = f"{_WINDOW_SECONDS}s"
    variables = {
        "cluster": ".*",
        "job": JOB,
        "instance": instance,
        "__rate_interval": seconds,
        "__range": "60s",
    }
    waiting = list(panel_targets(repo_root))
    assert len(waiting) > 30

    def still_empty() -> list[Target]:
        def empty(target: Target) -> bool:
            expr = substituted(target.expr, variables)
            ask = monitoring.prometheus
            return not (ask.instant(expr) if target.instant else ask.over_time(expr, 60))

        waiting[:] = [target for target in waiting if empty(target)]
        return waiting

    with _stalling(Lab(repo_root, repo_root)):
        eventually(lambda: not still_empty(), lambda: f"no data: {waiting}")


def test_alerts_reach_alertmanager_and_end(repo_root: Path, monitoring: Monitoring) -> None:
    names = {
        "SpawnStallOngoing",
        "SpawnExecStuck",
        "SpawnStallTimeHigh",
        "SpawnLatencyHigh",
        "SpawnExecSlow",
    }
    expected = {alert.title: alert for alert in alerts() if alert.name in names}
    played = {"comm": _COMM, "holder": _COMM, "cause": "forked"}

    def descriptions() -> list[str]:
        """Return those of the alerts about this test's stall."""
        ongoing = monitoring.firing().get("SpawnStallOngoing 1m", [])
        return [
            one["annotations"]["description"] for one in ongoing if played.items() <= one["labels"].items()
        ]

    with _stalling(Lab(repo_root, repo_root)):
        eventually(
            lambda: set(monitoring.firing()) >= set(expected),
            lambda: f"missing: {set(expected) - set(monitoring.firing())}",
        )
        firing = monitoring.firing()
        assert "SpawnStallAgentBlind selftest" not in firing
        for title in set(expected) & set(firing):
            for alert in firing[title]:
                annotations = alert["annotations"]
                assert alert["labels"]["severity"] == expected[title].severity
                assert annotations["summary"] == expected[title].summary
                assert annotations["runbook_url"].endswith(f"{expected[title].name}.md")
                assert "{{" not in annotations["description"]
                assert "error" not in annotations["description"]
        eventually(lambda: bool(descriptions()), lambda: f"missing: {monitoring.firing()}")
        assert f"{_COMM} holds its errpipe (cause forked)" in descriptions()[0]
    # Other Python programs on this host may exec slowly now and then.
    ours = set(expected) - {"SpawnExecSlow"}
    eventually(lambda: not ours & set(monitoring.firing()), lambda: f"still there: {monitoring.firing()}")


def test_an_agent_that_does_not_answer(monitoring: Monitoring) -> None:
    title = "SpawnStallAgentDown unreachable"
    monitoring.agent.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: title in monitoring.firing(), lambda: f"only {monitoring.firing()}")
    finally:
        monitoring.agent.process.send_signal(signal.SIGCONT)
    eventually(lambda: title not in monitoring.firing(), lambda: f"still there: {monitoring.firing()}")
