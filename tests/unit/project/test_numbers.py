# SPDX-License-Identifier: Apache-2.0
"""Numbers in documents are those of the code, or those that tests/bench/README.md has measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib

from agent.cli.arguments import trace_parser
from agent.host import pyspy
from agent.model import Cause
from agent.reports.gate import DEFAULT_MAX_STALL_MS, DEFAULT_STATUS
from agent.serve import metrics
from agent.settings.agentfile import Config
from agent.tracing import stuckexecs, tracer
from dashboards import alerts, recordings
from dashboards.rules import Alert
from probes import openfiles, records

_ROOT = Path(__file__).resolve().parents[3]
_WORDS = {
    1: "one",
    2: "two",
    3: "three",
    4: "four",
    5: "five",
    6: "six",
    10: "ten",
    15: "a quarter of an hour",
}
_RUNBOOKS = "dashboards/runbooks/"


def _text(document: str) -> str:
    return " ".join((_ROOT / document).read_text().split())


def _c_constant(file: str, name: str) -> int:
    [value] = re.findall(rf"#define {name} +(\d+)", (_ROOT / "probes" / file).read_text())
    return int(value)


def _alert(name: str, **labels: str) -> Alert:
    [found] = [
        each for each in alerts.alerts() if each.name == name and labels.items() <= each.labels.items()
    ]
    return found


def _minutes(name: str, **labels: str) -> int:
    [minutes] = re.findall(r"^(\d+)m$", _alert(name, **labels).wait)
    return int(minutes)


def _limits(name: str) -> list[str]:
    """The last number of each comparison in an alert's expression."""
    return re.findall(r" > ([\d.]+)", _alert(name).expr)


def _cells(row: str, number: int) -> list[str]:
    """The other cells of the only row of tests/bench/README.md that begins so and has this number of them."""
    text = (_ROOT / "tests" / "bench" / "README.md").read_text()
    lines = re.findall(rf"(?m)^\| {re.escape(row)} \| (.*) \|$", text)
    [line] = [line for line in lines if line.count(" | ") == number - 1]
    return str(line).split(" | ")


def _facts() -> list[tuple[str, str]]:
    """Pairs of a document and a sentence, or a part of one, that it contains."""
    config = Config()
    slow_ms = f"{float(recordings.SLOW_SPAWN_BUCKET) * 1000:.0f} ms"
    objective = f"{alerts.OBJECTIVE:.0%}".replace("%", " %")
    late = {10**9: "more than a second"}[stuckexecs.LATE_NS]
    look = {250_000_000: "a quarter of a second"}[tracer._LOOK_NS]
    pairs = metrics._PAIRS_PER_LABEL * config.labels.limit
    restart = f"for {_WORDS[int(alerts._RESTART[:-1])]} minutes after"
    lasting = [
        int(each.labels["lasting"][:-1]) for each in alerts.alerts() if each.name == "SpawnStallOngoing"
    ]
    warning, critical = (_WORDS[minutes] for minutes in lasting)
    stalled, stalled_now = _limits("SpawnStallTimeHigh")
    [exposures, _zero] = _limits("SpawnStallExposure")
    unreachable, absent = (
        _WORDS[_minutes("SpawnStallAgentDown", reason=reason)] for reason in ("unreachable", "absent")
    )
    slow_bucket = re.findall(r'le="([\d.]+)"', _alert("SpawnExecSlow").expr)[0]
    share = float(_limits("SpawnExecSlow")[-1])
    return [
        ("README.md", f"metrics on {config.web.listen}."),
        ("agent/cli/TRACE-POPEN.md", f"the shortest stall to report; default {config.stalls.min_ms:g} |"),
        ("agent/cli/TRACE-POPEN.md", f"once it has lasted {look} (with"),
        ("agent/cli/TRACE-POPEN.md", f"It has {_WORDS[int(pyspy._TIMEOUT_SECONDS)]} seconds"),
        ("agent/serve/HTTP.md", f"{config.web.listen} by default"),
        ("agent/serve/HTTP.md", f"the last `web.history` ({config.web.history})"),
        ("agent/serve/HTTP.md", f"have not called exec for {late}"),
        ("agent/serve/METRICS.md", f"was forked {late} ago"),
        ("config/SIZING.md", f"{_WORDS[metrics._PAIRS_PER_LABEL]} times `labels.limit`"),
        ("config/SIZING.md", f"at most {pairs} pairs with {_WORDS[len(Cause)]} causes each"),
        (
            "probes/LIMITS.md",
            f"less than about {tracer._SOONEST_NS // 10**6} ms ends before the first look",
        ),
        ("probes/LIMITS.md", f"only waits of at least {look} are reported"),
        ("probes/LIMITS.md", f"stalls of at least {look}"),
        ("probes/LIMITS.md", {10**9: "idle for a second"}[_c_constant("errpipe.bpf.c", "IDLE_NS")]),
        ("probes/LIMITS.md", {3600 * 10**9: "without spawns for an hour"}[tracer._UNUSED_NS]),
        ("probes/README.md", f"at most {_WORDS[_c_constant('errpipe.h', 'MAX_PENDING')]})"),
        ("probes/README.md", f"{_c_constant('errpipe.bpf.c', 'MAX_STEPS')} spawns per run"),
        ("probes/openfiles.py", f"for every {openfiles._MAX_ASKED:,} pipes"),
        ("dashboards/README.md", f"{objective} of spawns below {slow_ms}"),
        ("dashboards/README.md", f"a program is stuck for {warning} minute, or for {critical}"),
        ("dashboards/README.md", f"called exec for {warning} minute, or for {critical}"),
        (f"{_RUNBOOKS}SpawnExecSlow.md", f"more than {share * 100:g} % of the children"),
        (f"{_RUNBOOKS}SpawnExecSlow.md", f"more than {float(slow_bucket) * 1000:.0f} ms from the fork"),
        (f"{_RUNBOOKS}SpawnExecStuck.md", f"a warning after {warning} minute and critical after {critical};"),
        (f"{_RUNBOOKS}SpawnExecStuck.md", restart),
        (f"{_RUNBOOKS}SpawnLatencyHigh.md", f"{objective} of a host's spawns take less than {slow_ms}"),
        (
            f"{_RUNBOOKS}SpawnStallOngoing.md",
            f"a warning after {warning} minute and critical after {critical}.",
        ),
        (f"{_RUNBOOKS}SpawnStallOngoing.md", restart),
        (
            f"{_RUNBOOKS}SpawnStallTimeHigh.md",
            f"more than {stalled} seconds, and more than {stalled_now} seconds",
        ),
        (f"{_RUNBOOKS}SpawnStallExposure.md", f"more than {_WORDS[int(exposures)]} foreign processes"),
        (f"{_RUNBOOKS}SpawnStallAgentDown.md", f"`reason: unreachable`: for {unreachable} minutes,"),
        (f"{_RUNBOOKS}SpawnStallAgentDown.md", f"`reason: absent`: for {absent},"),
    ]


@pytest.mark.parametrize(("document", "fact"), _facts())
def test_a_document_has_the_number_of_the_code(document: str, fact: str) -> None:
    assert fact in _text(document)


def test_the_burn_rates_of_the_runbook() -> None:
    text = (_ROOT / _RUNBOOKS / "SpawnLatencyHigh.md").read_text()
    rows = re.findall(r"(?m)^\| (\w+) \((\w+)\) \| more than ([\d.]+) % \| (\w+) \|$", text)
    allowed = 100 * (1 - alerts.OBJECTIVE)
    assert rows == [
        (burn.long, burn.short, f"{burn.factor * allowed:g}", burn.severity) for burn in alerts._BURNS
    ]
    assert alerts._MIN_SPAWNS == 100 and "fewer than a hundred spawns in the long window" in " ".join(
        text.split()
    )


def test_defaults_in_the_help() -> None:
    stated = {
        action.dest: re.findall(r"\(default: ([\d.]+)\)", action.help or "")
        for action in trace_parser()._actions
    }
    actions = {action.dest: action for action in trace_parser()._actions}
    found = {dest: float(values[0]) for dest, values in stated.items() if values}
    gate = {"max_stall_ms": DEFAULT_MAX_STALL_MS, "exit_code": DEFAULT_STATUS}  # they need --fail-on-stall
    assert found == {dest: gate.get(dest, actions[dest].default) for dest in found} and len(found) == 4


def test_bounds_of_the_histograms_end_where_the_header_says() -> None:
    *_, last = records.BUCKET_BOUNDS_NS
    assert f"the last of the first {len(records.BUCKET_BOUNDS_NS)} ends at {last / 1e9:.0f} s" in _text(
        "probes/errpipe.h"
    )


def test_the_version_in_the_installation() -> None:
    version = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert set(re.findall(r"spawnstall:(\d[\d.]*\d)", _text("config/INSTALL.md"))) == {version}


# -- measured: the table in tests/bench/README.md is the source --


def test_the_cost_of_system_calls() -> None:
    for row, sentence in (
        ("added by the agent", "Tracing adds {} ns (getppid) to {} ns (read from a FIFO)"),
        ("added by an empty program", "adds {} to {} ns"),
    ):
        added = [int(cell) for cell in _cells(row, 9)[:5]]
        assert sentence.format(min(added), max(added)) in _text("README.md")


def test_the_cost_of_spawns_and_of_the_agent() -> None:
    readme = _text("README.md")
    shares = [float(cell.split()[0]) for cell in _cells("the agent", 6)[:3]]
    storms = ("16 threads", "64 threads", "256 threads")
    shares += [float(_cells(f"the same, {storm}", 4)[1].split()[0]) for storm in storms]
    forks = ("1 thread", "8 threads", "64 threads")
    shares += [float(_cells(f"fork, {storm}", 4)[1].split()[0]) for storm in forks]
    assert f"keeps {min(shares) * 100:.0f} to 100 % of its rate" in readme
    assert f"{float(_cells('1,000', 3)[0].split()[0]):.1f} % of a core at 1,000 spawns a second" in readme
    *_, rss, _private, maps = _cells("20,479 spawns later", 5)
    assert f"{float(rss):.0f} MiB of memory, and {float(maps):.0f} MiB of eBPF maps" in readme


def test_the_duration_of_a_snapshot() -> None:
    few, many = (float(_cells(row, 4)[1].replace(",", "")) / 1000 for row in ("1,000", "5,000"))
    fact = f"It takes {few:.1f} s on a host with 1,000 processes and {many:.1f} s with 5,000"
    assert fact in _text("agent/cli/TRACE-POPEN.md")


def test_both_sides_agree_on_the_time_between_two_notices() -> None:
    assert _c_constant("errpipe.bpf.c", "NOTICE_NS") == tracer._SOONEST_NS


@pytest.mark.parametrize(
    "document",
    [
        "config/SIZING.md",
        "probes/DECISIONS.md",
        "probes/ERRPIPES.md",
        "probes/PLATFORMS.md",
        "tests/README.md",
        "tests/bench/README.md",
        "tests/kernels/README.md",
    ],
)
def test_measurements_have_a_date(document: str) -> None:
    """They are records of one day, which no test can repeat."""
    assert re.search(r"[0-9] (us|ms|MB|MiB|s)\b", _text(document))
    assert re.search(r"2026-\d\d-\d\d|November 2026", _text(document))
