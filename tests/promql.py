# SPDX-License-Identifier: Apache-2.0
"""The metrics and labels that the expressions of rules and panels use, after variables are replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser

from dashboards.recordings import recordings
from dashboards.rules import Recording

__all__ = ["Target", "Use", "known_metrics", "panel_targets", "recorded_labels", "substituted", "uses"]

TARGET_LABELS = frozenset({"cluster", "job", "instance"})
"""The labels that Prometheus adds to every sample, if there are clusters."""


class Target(NamedTuple):
    """A query of a panel or an annotation."""

    dashboard: str
    panel: str
    ref_id: str
    expr: str
    instant: bool


class Use(NamedTuple):
    """A metric in an expression, with the labels that the expression expects."""

    metric: str
    labels: frozenset[str]


def panel_targets(repo_root: Path) -> Iterator[Target]:
    """Yield every query of every panel of the generated dashboards."""
    for file in sorted((repo_root / "dashboards" / "generated").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                instant = bool(target.get("instant"))
                yield Target(file.stem, panel["title"], target["refId"], target["expr"], instant)


def substituted(expr: str, variables: Mapping[str, str]) -> str:
    """Replace Grafana's variables, longer names first: one may be the prefix of another."""
    for name in sorted(variables, key=len, reverse=True):
        expr = expr.replace(f"${name}", variables[name])
    assert "$" not in expr, f"unknown variable: {expr}"
    return expr


def recorded_labels(recording: Recording) -> frozenset[str]:
    """Return the labels that the name of a recording rule promises."""
    level = recording.record.split(":")[0].split("_")
    return frozenset(level) | {"cluster", "job"}


def uses(expr: str) -> list[Use]:
    """Parse and type-check; an aggregation expects its labels of every metric in it."""
    found: list[Use] = []
    _collect(promql_parser.parse(expr), frozenset(), found)
    return found


def _collect(node: Any, labels: frozenset[str], found: list[Use]) -> None:
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        labels |= frozenset(node.modifier.labels)
    if isinstance(node, promql_parser.MatrixSelector):
        node = node.vector_selector
    if isinstance(node, promql_parser.VectorSelector):
        assert node.name is not None, "selector without a metric name"
        matched = frozenset(matcher.name for matcher in node.matchers.matchers)
        found.append(Use(node.name, labels | matched))
        return
    for name in ("expr", "lhs", "param"):
        _collect_child(getattr(node, name, None), labels, found)
    # The right side of these adds no labels to the result.
    filtering = isinstance(node, promql_parser.BinaryExpr) and str(node.op) in ("and", "unless")
    _collect_child(getattr(node, "rhs", None), frozenset() if filtering else labels, found)
    for argument in getattr(node, "args", ()):
        _collect_child(argument, labels, found)


def _collect_child(child: object, labels: frozenset[str], found: list[Use]) -> None:
    if isinstance(child, promql_parser.Expr):
        _collect(child, labels, found)


def known_metrics(contract: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the labels of the contract's samples, of recorded ones, and of those that Prometheus adds."""
    recorded = {recording.record: recorded_labels(recording) for recording in recordings()}
    return {"up": frozenset(), **contract, **recorded}
