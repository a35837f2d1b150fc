# SPDX-License-Identifier: Apache-2.0
"""Decides whether a run passes in CI (``--fail-on-stall``).

A process that can keep its copy fails the gate, however short the stall was: how long it keeps the copy is a
matter of chance.  A copy that an exec will close (``late_exec``), and one without an explanation
(``unknown``), fail the gate only if the stall was long: short ones occur on any busy machine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from agent.advice import advise
from agent.model import KEEPS_COPY, Cause
from agent.reports.kinds import Kinds
from agent.reports.losses import loss_lines
from agent.reports.types import ReportObject, SummaryObject

__all__ = ["DEFAULT_MAX_STALL_MS", "DEFAULT_STATUS", "Finding", "Gate"]

DEFAULT_MAX_STALL_MS = 1000.0
DEFAULT_STATUS = 3
_MAX_ADVICE = 1000
_NO_DOUBT = {"records_lost", "programs_full", "stacks_lost"}
"""Losses that hide nothing from the gate, and the one that fails it."""


@dataclass(frozen=True)
class Finding:
    """The stalls and exposures of the parents with one comm, by one cause.

    longest: of the stalls, in seconds.
    exposures: those that became stalls are among them.
    fails: whether the gate fails on it.
    advice: one sentence.
    """

    comm: str
    cause: Cause
    stalls: int
    longest: float
    exposures: int
    fails: bool
    advice: str


class Gate:
    """Takes the objects of a report, of one run or several.

    max_stall_ms: the length up to which stalls by an exec or by an unknown holder are tolerated.
    seconds: how long the runs took.  lost_records: their number; they can hide what would fail the gate.
    doubts: other reasons why the result is not certain.
    """

    def __init__(self, max_stall_ms: float = DEFAULT_MAX_STALL_MS) -> None:
        self._max_seconds = max_stall_ms / 1e3
        self._kinds = Kinds()
        self._advice: dict[tuple[str, Cause], str] = {}
        self._unmeasured: set[tuple[str, Cause]] = set()
        self._exposures: Counter[tuple[str, Cause]] = Counter()
        self.seconds = 0.0
        self.lost_records = 0
        self.doubts: list[str] = []

    def write(self, report: ReportObject) -> None:
        """Take one object."""
        if report["type"] == "stall":
            key = (report["parent"]["comm"], Cause(report["holders"][0]["cause"]))
            if self._kinds.add(report) and len(self._advice) < _MAX_ADVICE:
                self._advice.setdefault(key, report.get("advice", ""))
            if report["stall_seconds"] is None:  # how long it has lasted is not known
                self._unmeasured.add(key)
        elif report["type"] == "summary":
            self._add_summary(report)

    def _add_summary(self, summary: SummaryObject) -> None:
        self.seconds += summary["seconds"]
        self.lost_records += summary["lost_records"]
        exposures = summary.get("exposures")
        if exposures is None:
            self.doubts.append("exposures were not counted, so only stalls of at least --min-ms decide")
        for each in exposures or ():
            self._exposures[each["comm"], Cause(each["cause"])] += each["count"]
        lost = summary.get("not_followed", {})
        self.doubts += loss_lines({name: lost[name] for name in lost if name not in _NO_DOUBT})

    def findings(self) -> list[Finding]:
        """Return what was found, first what fails the gate, and then the largest numbers."""
        stalls: Counter[tuple[str, Cause]] = Counter()
        longest: dict[tuple[str, Cause], float] = {}
        for kind in self._kinds.worst_first():
            key = (kind.name.comm, kind.name.cause)
            stalls[key] += kind.count
            longest[key] = max(longest.get(key, 0.0), *kind.quantiles(1))
        found = [
            self._finding(key, stalls[key], longest.get(key, 0.0), self._exposures[key])
            for key in dict.fromkeys((*stalls, *self._exposures))
        ]
        return sorted(found, key=lambda one: (not one.fails, -one.stalls - one.exposures))

    def _finding(self, key: tuple[str, Cause], stalls: int, longest: float, exposures: int) -> Finding:
        comm, cause = key
        fails = cause in KEEPS_COPY or longest > self._max_seconds or key in self._unmeasured
        advice = self._advice.get(key) or advise(cause).text
        return Finding(comm, cause, stalls, longest, exposures, fails, advice)

    @property
    def fails(self) -> bool:
        """Whether something was found that fails the gate, or records were lost that could show it."""
        return self.lost_records > 0 or any(finding.fails for finding in self.findings())
