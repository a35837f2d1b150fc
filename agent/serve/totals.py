# SPDX-License-Identifier: Apache-2.0
"""Counts by label value that never go back, made from the kernel side's counts by comm.

The kernel side forgets a comm that had no spawn for an hour, and counts from 0 when it returns.  A label
value stands for one comm or several, and a comm moves from ~other to a value of its own when there is room.
Prometheus takes a counter that goes back for one that started again, and would count all of ~other twice.  So
what is added to each value is the increase of each comm since the last look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Optional

from agent.serve.labels import OTHER
from agent.tracing.translate import NOTHING, CommStats

__all__ = ["Totals"]


class Totals:
    """The counts of each label value; OTHER always has some."""

    def __init__(self) -> None:
        self._last: dict[bytes, tuple[CommStats, Optional[str]]] = {}
        """By comm: the counts at the last call, and the value to which the latest increase was added."""
        self._totals = {OTHER: NOTHING}

    def update(self, found: Mapping[bytes, CommStats], value_of: Callable[[bytes], Optional[str]]) -> None:
        """Add what was counted since the last call; a value ends when all its comms are forgotten.

        value_of: the value of a comm, or None to leave it out; called only for comms whose counts have
        changed, because an unused comm takes no value.
        """
        last, self._last = self._last, {}
        for comm, stats in sorted(found.items()):
            before, value = last.get(comm, (None, None))
            if stats != before:
                value = value_of(comm)
                increase = stats if before is None or before.since != stats.since else stats - before
                if value is not None:
                    self._totals[value] = self._totals.get(value, NOTHING) + increase
            self._last[comm] = stats, value
        used = {OTHER, *(value for _stats, value in self._last.values())}
        self._totals = {value: total for value, total in self._totals.items() if value in used}

    def end(self, value: str) -> None:
        """Forget the counts of a value; it counts from 0 if it returns."""
        self._totals.pop(value, None)

    def clear(self) -> None:
        """Count from 0 again."""
        self._totals = {OTHER: NOTHING}

    def read(self) -> dict[str, CommStats]:
        """The counts of each value."""
        return dict(self._totals)
