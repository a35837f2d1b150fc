# SPDX-License-Identifier: Apache-2.0
"""Plain data for recording rules and alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Alert", "Recording"]


@dataclass(frozen=True)
class Recording:
    """A recording rule, named level:metric:operations."""

    record: str
    expr: str


@dataclass(frozen=True)
class Alert:
    """An alert rule.

    Rules that share a name have labels that distinguish them. The description is a Prometheus template:
    ``$labels``, ``$value`` and the humanize functions, which Grafana supports too.
    """

    name: str
    expr: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    description: str
    panel: str
    """The title of the panel that shows the cause."""
    wait: str = ""
    """How long the expression has to hold (``for``); empty: not at all."""
    keep: str = ""
    """How long the alert keeps firing after the expression has ceased to hold (``keep_firing_for``)."""
    board: Literal["host", "fleet"] = "host"
    """The dashboard with that panel."""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name and the labels that distinguish the rule from others with that name."""
        return " ".join([self.name, *self.labels.values()])
