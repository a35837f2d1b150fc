# SPDX-License-Identifier: Apache-2.0
"""The generated files are up to date, well-formed, and use existing metrics only."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from agent.cli.arguments import trace_parser
from agent.reports.losses import LOSSES
from dashboards.__main__ import main
from dashboards.alerts import alerts
from dashboards.files import generated_files
from dashboards.grafana_rules import DATASOURCE_UID
from dashboards.host import HOST_UID
from dashboards.mixin import mixin_files
from dashboards.recordings import recordings
from dashboards.runbook import DEFAULT_BASE
from tests.metrics_contract import contract
from tests.promql import TARGET_LABELS, known_metrics, panel_targets, recorded_labels, substituted, uses

VARIABLES = {
    "cluster": ".*",
    "job": "spawnstall",
    "instance": "web1:9848",
    "__rate_interval": "5m",
    "__range": "3h",
}
_BOARDS = ("fleet", "host")
_GRID_WIDTH = 24
_DURATION = re.compile(r"(?!$)(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?")


def _board(repo_root: Path, name: str) -> dict[str, Any]:
    text = (repo_root / "dashboards" / "generated" / f"{name}.json").read_text()
    board: dict[str, Any] = json.loads(text)
    return board


def _panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_committed_files_are_what_the_code_generates(repo_root: Path) -> None:
    for path, text in generated_files(DEFAULT_BASE).items():
        assert (repo_root / path).read_text() == text, f"{path} is out of date: run make dashboards"
    boards = {file.stem for file in (repo_root / "dashboards" / "generated").iterdir()}
    assert boards == set(_BOARDS)


def test_another_base_for_the_runbooks() -> None:
    for path, text in generated_files("https://wiki.example/spawnstall/").items():
        assert DEFAULT_BASE not in text
        assert ("https://wiki.example/spawnstall/SpawnStallTimeHigh.md" in text) == (
            "recording.yaml" not in path
        )


def _unknown_to_grafana(board: dict[str, Any]) -> list[str]:
    """Return the paths that the SDK's types drop, such as misspelt keys."""
    register_default_plugins()
    return list(_lost(board, json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder)), ""))


def _lost(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from _lost(value, after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _lost(*pair, f"{path}[{index}]")
    elif before != after:
        yield path


@pytest.mark.parametrize("name", _BOARDS)
def test_grafana_knows_every_key(repo_root: Path, name: str) -> None:
    board = _board(repo_root, name)
    for annotation in board["annotations"]["list"]:  # of the data source, which the SDK does not know
        assert annotation.pop("titleFormat") and annotation.pop("textFormat")
    assert _unknown_to_grafana(board) == []
    panel = _panels(board)[0]
    panel["descripton"] = panel["options"]["reduceOption"] = "misspelt"
    assert _unknown_to_grafana(board) == [".panels[1].options.reduceOption", ".panels[1].descripton"]


@pytest.mark.parametrize("name", _BOARDS)
def test_panels_are_complete(repo_root: Path, name: str) -> None:
    board = _board(repo_root, name)
    ids = Counter(panel["id"] for panel in board["panels"])
    titles = Counter(panel["title"] for panel in board["panels"])
    assert max(ids.values()) == max(titles.values()) == 1
    for panel in _panels(board):
        title = panel["title"]
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["targets"], title
        for source in (panel, *panel["targets"]):
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, title


@pytest.mark.parametrize("name", _BOARDS)
def test_panels_do_not_overlap(repo_root: Path, name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _board(repo_root, name)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < _GRID_WIDTH, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", _BOARDS)
def test_variables_and_links(repo_root: Path, name: str) -> None:
    board = _board(repo_root, name)
    assert board["uid"] == f"spawnstall-{name}"
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "cluster", "job", "instance"]
    assert variables["job"]["multi"] and variables["cluster"]["allValue"] == ".*"
    assert variables["datasource"]["type"] == "datasource"
    urls = {link.get("url") for link in board["links"]}
    assert {f"{DEFAULT_BASE}/{alert.name}.md" for alert in alerts()} <= urls
    linked = {link["url"] for panel in _panels(board) for link in panel.get("links", ())}
    assert linked <= urls


@pytest.mark.parametrize("name", _BOARDS)
def test_annotations_mark_alerts_and_agent_starts(repo_root: Path, name: str) -> None:
    annotations = _board(repo_root, name)["annotations"]["list"]
    fired, started = (uses(substituted(annotation["expr"], VARIABLES)) for annotation in annotations)
    assert [metric for metric, _ in fired] == ["ALERTS"]
    assert [metric for metric, _ in started] == ["process_start_time_seconds"]
    assert all(re.match("Spawn.+", alert.name) for alert in alerts())


def _every_expression(repo_root: Path) -> dict[str, str]:
    panels = {
        f"{target.dashboard}: {target.panel} {target.ref_id}": substituted(target.expr, VARIABLES)
        for target in panel_targets(repo_root)
    }
    rules = {recording.record: recording.expr for recording in recordings()}
    return {**panels, **rules, **{alert.title: alert.expr for alert in alerts()}}


def test_expressions_use_existing_metrics_and_labels(repo_root: Path) -> None:
    known = known_metrics(contract(repo_root))
    for name, expr in _every_expression(repo_root).items():
        used = uses(expr)
        assert used, name
        for metric, labels in used:
            assert metric in known, name
            assert labels <= known[metric] | TARGET_LABELS, (name, metric)


def test_every_metric_is_used(repo_root: Path) -> None:
    """Except metrics that only say whether others are exported."""
    used = {metric for expr in _every_expression(repo_root).values() for metric, _ in uses(expr)}
    names = {metric.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for metric in used}
    wanted = contract(repo_root)
    assert {
        metric
        for metric in wanted
        if metric.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") not in names
    } == {"spawnstall_bpf_stats_enabled", "process_max_fds", "process_virtual_memory_bytes"}


def test_recordings_are_named_after_their_labels(repo_root: Path) -> None:
    known = known_metrics(contract(repo_root))
    assert set(Counter(recording.record for recording in recordings()).values()) == {1}
    for recording in recordings():
        available = frozenset().union(*(known[metric] for metric, _ in uses(recording.expr)))
        assert recorded_labels(recording) <= available | TARGET_LABELS, recording.record


def test_the_contract_is_read(repo_root: Path) -> None:
    found = contract(repo_root)
    assert found["spawnstall_stall_seconds_bucket"] == {"comm", "holder", "cause", "le"}
    assert found["spawnstall_map_max_entries"] == {"map"}
    assert "process_cpu_seconds_total" in found


def test_a_shard_sends_on_what_the_fleet_dashboard_reads(repo_root: Path) -> None:
    shard = yaml.safe_load((repo_root / "config" / "prometheus" / "shard.yaml").read_text())
    [relabelling] = shard["remote_write"][0]["write_relabel_configs"]
    stays = re.compile(relabelling["regex"])
    read = {
        metric
        for target in panel_targets(repo_root)
        if target.dashboard == "fleet"
        for metric, _ in uses(substituted(target.expr, VARIABLES))
    }
    assert len(read) > 20
    assert not {metric for metric in read if stays.fullmatch(metric)}
    by_comm = {metric for metric, labels in contract(repo_root).items() if "comm" in labels}
    assert {metric for metric in by_comm if not stays.fullmatch(metric)} == {
        "spawnstall_stalls_in_progress",
        "spawnstall_stall_start_timestamp_seconds",
        "spawnstall_execs_in_progress",
        "spawnstall_exec_start_timestamp_seconds",
    }


def test_alerts_are_complete(repo_root: Path) -> None:
    titles = Counter(alert.title for alert in alerts())
    assert set(titles.values()) == {1}
    runbooks = {file.stem for file in (repo_root / "dashboards" / "runbooks").glob("*.md")}
    assert {alert.name for alert in alerts()} == runbooks
    for alert in alerts():
        assert alert.severity in ("critical", "warning", "info")
        assert "{" not in alert.summary and alert.summary.endswith("."), alert.title
        assert "{{ $" in alert.description or "absent" in alert.title, alert.title


def test_runbooks_are_complete(repo_root: Path) -> None:
    causes = ("forked", "leaked", "late_exec", "own_descendant", "passed", "unknown")
    for file in (repo_root / "dashboards" / "runbooks").glob("*.md"):
        text = file.read_text()
        headings = ("## What it means", "## How to confirm", "## Release it now", "## How to fix")
        assert tuple(re.findall("^## .*", text, re.MULTILINE)) == headings, file.name
        if file.stem in ("SpawnStallOngoing", "SpawnStallTimeHigh"):
            assert "trace-popen --pid" in text
            assert all(f"`{cause}`" in text for cause in causes), file.name
        if file.stem == "SpawnExecStuck":
            assert "trace-popen --pid PID --snapshot" in text


def test_every_loss_has_an_alert_or_a_reason_for_none(repo_root: Path) -> None:
    """The runbook names those without, and says why."""
    blind = [alert for alert in alerts() if alert.name == "SpawnStallAgentBlind"]
    watched = {metric for alert in blind for metric, _ in uses(alert.expr)}
    text = (repo_root / "dashboards" / "runbooks" / "SpawnStallAgentBlind.md").read_text()
    assert {alert.labels["reason"] for alert in blind} == set(re.findall(r"(?m)^\| `(\w+)` \|", text))
    [excused] = re.findall(r"(?s)These losses have no alert of their own: (.*?)\n\n", text)
    without = {name for name, _, _ in LOSSES if f"spawnstall_{name}_total" not in watched}
    assert without == set(re.findall(r"`(\w+)` \(", excused)) - {"map_nearly_full"}


def test_runbooks_quote_what_exists(repo_root: Path) -> None:
    """Panels, headlines of stalls, and options of trace-popen."""
    titles = {panel["title"] for name in _BOARDS for panel in _panels(_board(repo_root, name))}
    headlines = set(re.findall(r'"([A-Z ]*STALL[A-Z ]*)"', (repo_root / "agent/render/text.py").read_text()))
    for file in (repo_root / "dashboards" / "runbooks").glob("*.md"):
        text = file.read_text()
        assert set(re.findall(r'"([A-Z][^":]+)"', text.replace("\n", " "))) <= titles, file.name
        assert set(re.findall(r"`([A-Z ]*(?:STALL|BLOCKED)[A-Z ]*)`", text)) <= headlines, file.name
        for command in re.findall(r"trace-popen (--[^|#`\n]+)", text):
            trace_parser().parse_args(command.replace("PID", "1").split())


def test_the_readme_lists_every_alert(repo_root: Path) -> None:
    text = (repo_root / "dashboards" / "README.md").read_text()
    assert {alert.name for alert in alerts()} == set(re.findall(r"`(Spawn\w+)`", text))


def test_grafana_alerts_are_the_same_as_prometheus(repo_root: Path) -> None:
    """Expression, times, labels and annotations of each rule; only the name of the value differs."""
    prometheus = yaml.safe_load((repo_root / "config" / "prometheus" / "alerts.yaml").read_text())
    folder = repo_root / "dashboards" / "provisioning"
    grafana = yaml.safe_load((folder / "alerting" / "spawnstall.yaml").read_text())
    rules = grafana["groups"][0]["rules"]
    panels = {
        (f"spawnstall-{name}", str(panel["id"]))
        for name in _BOARDS
        for panel in _panels(_board(repo_root, name))
    }
    assert max(Counter(rule["uid"] for rule in rules).values()) == 1
    assert max(len(rule["uid"]) for rule in rules) <= 40  # Grafana's limit
    for ours, theirs in zip(prometheus["groups"][0]["rules"], rules, strict=True):
        query, condition = theirs["data"]
        assert query["model"]["expr"] == ours["expr"]
        assert query["datasourceUid"] == DATASOURCE_UID
        assert condition["refId"] == theirs["condition"]
        assert f"${query['refId']})" in condition["model"]["expression"]
        assert theirs["for"] == ours.get("for", "0s")
        assert theirs.get("keepFiringFor") == ours.get("keep_firing_for")
        assert theirs["labels"] == ours["labels"]
        annotations = theirs["annotations"]
        panel = annotations.pop("__dashboardUid__"), annotations.pop("__panelId__")
        assert panel in panels, theirs["title"]
        text = annotations["description"].replace("$values.A.Value", "$value")
        assert {**annotations, "description": text} == ours["annotations"]


def test_the_kubernetes_rules_are_the_same_and_valid(repo_root: Path) -> None:
    """Kinds, keys and durations as the operator's CRD demands; promtool checks the rest in tests/e2e."""
    document = yaml.safe_load((repo_root / "config" / "kubernetes" / "prometheusrule.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"} and set(document["spec"]) == {"groups"}
    files = [
        yaml.safe_load((repo_root / "config" / "prometheus" / f"{name}.yaml").read_text())
        for name in ("recording", "alerts")
    ]
    groups = document["spec"]["groups"]
    assert groups == [group for file in files for group in file["groups"]]
    for group in groups:
        assert set(group) == {"name", "interval", "rules"} and _DURATION.fullmatch(group["interval"])
        for rule in group["rules"]:
            kind = {"record"} if "record" in rule else {"alert", "labels", "annotations"}
            times = set(rule) & {"for", "keep_firing_for"}
            assert set(rule) - times == kind | {"expr"}
            assert all(_DURATION.fullmatch(rule[time]) for time in times)
            texts = (rule["expr"], *rule.get("labels", {}).values(), *rule.get("annotations", {}).values())
            assert all(isinstance(text, str) for text in texts)


_ENV = 'env="a b", zone=~"x|y"'
"""Selects the agents by labels that no expression has."""


def _mixin_expressions(files: dict[str, str]) -> Iterator[str]:
    for name, text in files.items():
        if name.endswith(".yaml"):
            [group] = yaml.safe_load(text)["groups"]
            yield from (rule["expr"] for rule in group["rules"])
        elif name.endswith(".json"):
            board = json.loads(text)
            sources = [*board["annotations"]["list"], *(t for p in _panels(board) for t in p["targets"])]
            yield from (source["expr"] for source in sources)
            variables = [each for each in board["templating"]["list"] if each["type"] == "query"]
            yield from (re.sub(r"^label_values\((.*), \w+\)$", r"\1", each["query"]) for each in variables)


def test_a_mixin_selects_every_scraped_series() -> None:
    """Recorded series and alerts are computed from these, and may lack the labels."""
    seen = set()
    for expr in _mixin_expressions(mixin_files(DEFAULT_BASE, _ENV, "k8s_cluster")):
        for metric, labels in uses(substituted(expr, VARIABLES)):
            scraped = ":" not in metric and metric != "ALERTS"
            assert ({"env", "zone"} <= labels) == scraped, expr
            assert "cluster" not in labels, expr
            seen.add((scraped, "k8s_cluster" in labels))
        assert 'job="spawnstall"' not in expr
    assert len(seen) == 4


def test_a_mixin_changes_only_the_selectors(repo_root: Path) -> None:
    """Without the matchers, its expressions are those of the committed files."""
    files = mixin_files(DEFAULT_BASE, _ENV)
    committed = {
        "prometheus_alerts.yaml": "config/prometheus/alerts.yaml",
        "prometheus_rules.yaml": "config/prometheus/recording.yaml",
        **{f"dashboards_out/spawnstall-{name}.json": f"dashboards/generated/{name}.json" for name in _BOARDS},
    }
    assert set(files) == {"mixin.libsonnet", *committed}
    ours = {name: (repo_root / path).read_text() for name, path in committed.items()}
    for before, after in zip(_mixin_expressions(ours), _mixin_expressions(files), strict=True):
        stripped = re.sub(r"\{\}", "", after.replace(f", {_ENV}", "").replace(_ENV, ""))
        assert stripped == before.replace('{job="spawnstall"}', "")
    for name in _BOARDS:
        variables = json.loads(files[f"dashboards_out/spawnstall-{name}.json"])["templating"]["list"]
        assert variables[2]["current"]["value"] == "$__all"
    assert f"no target that matches {_ENV}:" in files["prometheus_alerts.yaml"]


def test_the_library_of_a_mixin_imports_its_files() -> None:
    files = mixin_files(DEFAULT_BASE)
    library = files.pop("mixin.libsonnet")
    assert set(re.findall(r"import(?:str)? '([^']+)'", library)) == set(files)
    assert re.findall(r"^  (\w+)\+::", library, re.MULTILINE) == [
        "grafanaDashboards",
        "prometheusAlerts",
        "prometheusRules",
    ]


def test_the_command_writes_a_mixin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["dashboards", "--mixin", str(tmp_path), "--runbooks", "https://wiki.example/r", "--selector"]
    monkeypatch.setattr(sys, "argv", [*arguments, _ENV])
    main()
    written = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*.*")}
    assert written == mixin_files("https://wiki.example/r", _ENV)
    for wrong in ("job", 'job="x"}', 'job="x', "", 'job="x" env="y"'):
        monkeypatch.setattr(sys, "argv", [*arguments, wrong])
        with pytest.raises(SystemExit):
            main()
        assert f"{wrong!r} is not a list of label matchers" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*arguments, _ENV, "--cluster-label", "k8s-cluster"])
    with pytest.raises(SystemExit):
        main()
    assert "'k8s-cluster' is not the name of a label" in capsys.readouterr().err


def test_dashboards_import_no_tests(repo_root: Path) -> None:
    for file in (repo_root / "dashboards").rglob("*.py"):
        assert not re.search(r"^(from|import) tests\b", file.read_text(), re.MULTILINE), file.name


def test_provisioning_agrees_with_itself(repo_root: Path) -> None:
    folder = repo_root / "dashboards" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "spawnstall.yaml").read_text())
    assert [source["uid"] for source in sources["datasources"]] == [DATASOURCE_UID]
    providers = yaml.safe_load((folder / "dashboards" / "spawnstall.yaml").read_text())
    assert providers["providers"][0]["type"] == "file"


def test_exemplars_link_to_the_host_dashboard_at_their_time(repo_root: Path) -> None:
    board = _board(repo_root, "host")
    showing = [p for p in _panels(board) if any(target.get("exemplar") for target in p["targets"])]
    assert [panel["title"] for panel in showing] == ["Stall length"]
    assert all("spawnstall_stall_seconds_bucket{" in target["expr"] for target in showing[0]["targets"])
    folder = repo_root / "dashboards" / "provisioning" / "datasources"
    [source] = yaml.safe_load((folder / "spawnstall.yaml").read_text())["datasources"]
    [destination] = source["jsonData"]["exemplarTraceIdDestinations"]
    exporter = (repo_root / "agent" / "serve" / "metrics.py").read_text()
    assert f'{{"{destination["name"]}": stall_id(stall)}}' in exporter
    assert not re.search(
        r"(?<!\$)\$(?!\$)", destination["url"]
    )  # Grafana would take it for the environment's
    url = urlsplit(destination["url"].replace("$$", "$"))
    assert url.path == f"/d/{HOST_UID}"
    parameters = {name: value for name, [value] in parse_qs(url.query, strict_parsing=True).items()}
    assert parameters == {
        "var-datasource": DATASOURCE_UID,
        "var-job": "${__data.fields.job}",
        "var-instance": "${__data.fields.instance}",
        "time": "${__value.time}",
        "time.window": "600000",
    }
    variables = {f"var-{variable['name']}" for variable in board["templating"]["list"]}
    assert {name for name in parameters if name.startswith("var-")} <= variables
