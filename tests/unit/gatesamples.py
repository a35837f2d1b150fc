# SPDX-License-Identifier: Apache-2.0
"""Gates with samples of what they judge."""

from __future__ import annotations

from typing import Any

from agent.model import Cause
from agent.reports.gate import Gate
from tests.unit.reportsamples import ended, summary

__all__ = ["gate", "run", "stall"]


def stall(cause: Cause, seconds: float, comm: str = "app", **changes: Any) -> Any:
    """An ended stall of a parent with this comm; changes: of the spawn."""
    made = ended(**changes)
    made["holders"][0]["cause"] = cause
    made["parent"]["comm"] = comm
    return {**made, "stall_seconds": seconds}


def run(*exposures: tuple[str, Cause, int], lost: int = 0, **not_followed: int) -> Any:
    """The summary of a run."""
    made = [{"comm": comm, "cause": cause, "count": count} for comm, cause, count in exposures]
    return {**summary(), "exposures": made, "lost_records": lost, "not_followed": not_followed}


def gate(*reports: Any, **options: float) -> Gate:
    """A gate that has taken these objects."""
    made = Gate(**options)
    for report in reports:
        made.write(report)
    return made
