# SPDX-License-Identifier: Apache-2.0
"""Many programs under one trace (tests/programs/side_by_side.py), with the reports about each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.live.lab import Lab, Object, Traced

__all__ = ["SideBySide", "play"]


@dataclass(frozen=True)
class SideBySide:
    """The result of one trace of many cases."""

    traced: Traced

    def case(self, name: str) -> Object:
        """Return the driver's line about a case: pid, pids, status, seconds, waited."""
        [case] = [line for line in self.traced.printed if line["kind"] == "case" and line["case"] == name]
        return case

    def printed(self, name: str) -> list[Object]:
        """Return the spawns that a case's program printed."""
        pids = set(self.case(name)["pids"])
        return [spawn for spawn in self.traced.spawns() if spawn["pid"] in pids]

    def of(self, name: str, kind: str) -> list[Object]:
        """Return the reports of one type, in any state, whose parent was a process of the case."""
        pids = set(self.case(name)["pids"])
        return [report for report in self._all(kind) if report["parent"]["pid"] in pids]

    def of_no_case(self, kind: str) -> list[Object]:
        """Return the reports whose parent belongs to no known case: it lived too briefly to be seen."""
        known = {pid for line in self.traced.printed if line["kind"] == "case" for pid in line["pids"]}
        return [report for report in self._all(kind) if report["parent"]["pid"] not in known]

    def _all(self, kind: str) -> list[Object]:
        return [report for report in self.traced.reports if report["type"] == kind]


def play(root: Path, folder: Path, cases: Mapping[str, Sequence[str]], at_once: int) -> SideBySide:
    """Run commands by name under one trace, at most ``at_once`` at a time."""
    lab = Lab(root, folder)
    file = folder / "cases.json"
    file.write_text(json.dumps(cases))
    command = lab.program("side_by_side.py", str(file), "--at-once", str(at_once))
    traced = lab.trace(command, timeout=120)
    assert traced.status == 0
    return SideBySide(traced)
