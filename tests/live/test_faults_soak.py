# SPDX-License-Identifier: Apache-2.0
"""The short form of `make soak-spawns`: counts are exact, memory is flat, nothing is lost."""

from __future__ import annotations

import pytest

from tests.live.lab import Lab
from tests.soak_spawns import soak

pytestmark = pytest.mark.alone


def test_every_spawn_is_counted_and_nothing_grows(lab: Lab) -> None:
    result = soak(lab, spawns=5_000, round_seconds=1, say=print)
    assert result.problems() == []
    assert min(result.made.values()) > 0
