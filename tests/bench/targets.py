# SPDX-License-Identifier: Apache-2.0
"""The targets, and whether a run met them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HEADER", "TARGETS", "Target", "rows"]

HEADER = ("", "target", "median", "")


@dataclass(frozen=True)
class Target:
    """A target.

    figure: its name in Group.figures; it must be at most (with least: at least) the limit."""

    figure: str
    limit: float
    unit: str
    least: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a median meets the target."""
        return value >= self.limit if self.least else value <= self.limit


TARGETS = (
    Target("close of the empty program's", 1.25, "times"),
    Target("read /dev/zero of the empty program's", 1.25, "times"),
    Target("fcntl of the empty program's", 1.25, "times"),
    Target("dup + close of the empty program's", 1.25, "times"),
    Target("Popen, Python of the empty program's", 0.99, "times", least=True),
    Target("posix_spawn, C of the empty program's", 0.99, "times", least=True),
    Target("fork + exec, 8 threads, C of the empty program's", 0.99, "times", least=True),
    Target("storm of 64 threads of untraced", 0.97, "times", least=True),
    Target("storm of 256 threads of untraced", 0.97, "times", least=True),
    Target("lost spawns of all storms", 0, "spawns"),
    Target("CPU of the agent at 1,000", 0.5, "% of a core"),
    Target("lost records at the highest rate", 0, "records"),
    Target("start to first traced event", 0.8, "s"),
    Target("private memory", 30, "MiB"),
    Target("eBPF maps", 12, "MiB"),
    Target("RSS", 80, "MiB"),
    Target("scrape with 1,000 series", 20, "ms"),
    Target("snapshot.py beside 2,000 processes", 1000, "ms"),
)


def rows(figures: Mapping[str, float]) -> list[list[str]]:
    """Return target, limit, median and verdict of each; a missing figure was not measured."""
    made = []
    for target in TARGETS:
        limit = f"{'at least' if target.least else 'at most'} {target.limit:g} {target.unit}"
        value = figures.get(target.figure)
        if value is None:
            made.append([target.figure, limit, "", "not measured"])
        else:
            verdict = "met" if target.is_met(value) else "not met"
            made.append([target.figure, limit, f"{value:.3g}", verdict])
    return made
