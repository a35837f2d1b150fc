# SPDX-License-Identifier: Apache-2.0
"""The panels' queries, and the same without recording rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dashboards.recordings import INTERVAL_SECONDS, recordings
from tests.promql import Target, panel_targets, substituted

__all__ = ["targets_of", "without_recordings"]

_SELECTOR = re.compile(
    r"(?P<name>\b[a-z_]+(?::\w+)+|\bspawnstall_\w+)(?:\{(?P<matchers>[^}]*)\})?(?P<range>\[\w+\])?"
)


def targets_of(repo_root: Path, dashboard: str, variables: Mapping[str, str]) -> list[Target]:
    """Return the queries of a dashboard's panels, with variables replaced."""
    return [
        target._replace(expr=substituted(target.expr, variables))
        for target in panel_targets(repo_root)
        if target.dashboard == dashboard
    ]


def without_recordings(expr: str) -> str:
    """Replace each recorded series by its rule's expression over raw series, a range by a subquery.

    Matchers move down to the raw series, because sums keep the labels by which a rule's series are selected.
    """
    rules = {recording.record: recording.expr for recording in recordings()}

    def replaced(match: re.Match[str]) -> str:
        rule = rules.get(match["name"])
        if rule is None:
            return match[0]
        raw = f"({without_recordings(_narrowed(rule, match['matchers'] or ''))})"
        return f"{raw}[{match['range'][1:-1]}:{INTERVAL_SECONDS}s]" if match["range"] else raw

    return _SELECTOR.sub(replaced, expr)


def _narrowed(expr: str, matchers: str) -> str:
    def narrower(match: re.Match[str]) -> str:
        every = ", ".join(part for part in (match["matchers"], matchers) if part)
        return f"{match['name']}{{{every}}}{match['range'] or ''}"

    return _SELECTOR.sub(narrower, expr) if matchers else expr
