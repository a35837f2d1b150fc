# SPDX-License-Identifier: Apache-2.0
"""The input and the result of each group of benchmarks."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from tests.live.lab import Lab

__all__ = ["ROOT", "Bench", "Group"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Bench:
    """Settings of a run.

    folder: of the compiled programs; rounds: of each measurement; seconds: duration of one measurement;
    other: another checkout, whose agent is a peer.  alone: leave out the tracers of other projects.
    """

    folder: Path
    rounds: int
    seconds: float
    other: Optional[Path] = None
    alone: bool = False
    lab: Lab = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lab", Lab(ROOT, self.folder))

    @property
    def labs(self) -> dict[str, Lab]:
        """Return the agents to measure, by name."""
        named = {"the agent": self.lab}
        if self.other is not None:
            named[f"the agent of {self.other.name}"] = Lab(self.other, self.folder)
        return named

    def program(self, name: str, *arguments: object) -> list[str]:
        """Return the command line of a program of tests.bench.native."""
        return [str(self.folder / name), *map(str, arguments)]

    def say(self, text: str) -> None:
        """Print a line of progress to standard error."""
        print(f"bench: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Group:
    """The result of a group.

    data: for the JSON file; tables: title, header and rows of text; figures: by their name in targets.py.
    """

    data: dict[str, Any]
    tables: list[tuple[str, list[str], list[list[str]]]]
    figures: dict[str, float]
