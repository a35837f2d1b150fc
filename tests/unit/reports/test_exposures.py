# SPDX-License-Identifier: Apache-2.0
"""agent.reports.exposures."""

from __future__ import annotations

from agent.model import Cause
from agent.reports.exposures import Exposures, exposure_lines

ONE = ((Cause.FORKED, 1),)


def test_number_of_kinds_is_limited() -> None:
    exposures = Exposures()
    for number in range(1_002):
        exposures.add(b"%d" % number, ONE)
    exposures.add(b"5", ONE)
    objects = exposures.objects()
    assert len(objects) == 1_001
    assert {each["comm"]: each["count"] for each in objects[:2]} == {"5": 2, "~other": 2}


def test_lines() -> None:
    exposures = Exposures()
    assert list(exposure_lines(exposures.objects())) == []
    for number in range(1, 8):
        exposures.add(b"p%d" % number, [(Cause.LEAKED, number)])
    assert list(exposure_lines(exposures.objects())) == [
        *(f"{number} exposures of p{number}, cause leaked" for number in range(7, 2, -1)),
        "exposures of more kinds: 2",
    ]
