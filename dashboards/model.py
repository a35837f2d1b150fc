"""Plain data for rules: what is recorded, and what alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Alert", "Recording"]


@dataclass(frozen=True)
class Recording:
    """A recording rule; the name is level:metric:operations."""

    record: str
    expr: str


@dataclass(frozen=True)
class Alert:
    """An alert rule.

    Several rules may share a name, each with labels that tell them apart.  The description is a
    Prometheus template: ``$labels``, ``$value`` and the humanize functions, which Grafana has too.
    """

    name: str
    expr: str
    wait: str
    """How long the expression has to hold (``for``)."""
    severity: Literal["critical", "warning", "info"]
    summary: str
    description: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name and what tells the rule from others of that name."""
        return " ".join([self.name, *self.labels.values()])
