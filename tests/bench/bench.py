"""What every group of benchmarks is given, and what it gives back."""

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
    """folder: has the compiled programs; rounds: of each measurement; seconds: that one takes.

    other: another checkout, whose agent is a peer.
    """

    folder: Path
    rounds: int
    seconds: float
    other: Optional[Path] = None
    lab: Lab = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lab", Lab(ROOT, self.folder))

    @property
    def labs(self) -> dict[str, Lab]:
        """The agents that are measured, by name."""
        named = {"the agent": self.lab}
        if self.other is not None:
            named[f"the agent of {self.other.name}"] = Lab(self.other, self.folder)
        return named

    def program(self, name: str, *arguments: object) -> list[str]:
        """The command line of one of tests.bench.native."""
        return [str(self.folder / name), *map(str, arguments)]

    def say(self, text: str) -> None:
        """A line about how far it is, to standard error."""
        print(f"bench: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Group:
    """A group's result.

    data: for the JSON file; tables: title, header and rows of text; figures: by the name in targets.py.
    """

    data: dict[str, Any]
    tables: list[tuple[str, list[str], list[list[str]]]]
    figures: dict[str, float]
