# SPDX-License-Identifier: Apache-2.0
"""Counts exposures: foreign processes that had a copy when the own child had released its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from agent.escape import printable
from agent.model import Cause
from agent.reports.types import ExposureCountObject

__all__ = ["Exposures", "exposure_lines"]

_MAX_KINDS = 1000
_MAX_LINES = 5
_OTHER = "~other"


class Exposures:
    """Exposures by the parent's comm and by cause.

    There are at most 1,000 kinds, because a process chooses its own comm; further exposures count as
    ``~other``.
    """

    def __init__(self) -> None:
        self._numbers: Counter[tuple[str, Cause]] = Counter()

    def add(self, comm: bytes, exposures: Iterable[tuple[Cause, int]]) -> None:
        """Add the exposures of one spawn."""
        for cause, number in exposures:
            key = (printable(comm), cause)
            if key not in self._numbers and len(self._numbers) >= _MAX_KINDS:
                key = (_OTHER, cause)
            self._numbers[key] += number

    def objects(self) -> list[ExposureCountObject]:
        """Make the objects, the largest number first."""
        return [
            {"comm": comm, "cause": cause, "count": number}
            for (comm, cause), number in self._numbers.most_common()
        ]


def exposure_lines(exposures: Sequence[ExposureCountObject]) -> Iterator[str]:
    """Yield a line for each kind, such as ``12 exposures of python3, cause forked``, up to a limit."""
    for each in exposures[:_MAX_LINES]:
        noun = "exposure" if each["count"] == 1 else "exposures"
        yield f"{each['count']:,} {noun} of {each['comm']}, cause {each['cause']}"
    if len(exposures) > _MAX_LINES:
        yield f"exposures of more kinds: {len(exposures) - _MAX_LINES:,}"
