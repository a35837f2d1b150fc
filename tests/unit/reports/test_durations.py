# SPDX-License-Identifier: Apache-2.0
"""agent.reports.durations: quantiles in bounded memory."""

from __future__ import annotations

import random

from agent.reports.durations import Durations


def test_no_duration_has_no_quantile() -> None:
    assert Durations().quantile(0.99) is None
    assert Durations().quantile(0.99, missing=3) is None


def test_quantile_is_rounded_up_by_less_than_a_thousandth() -> None:
    durations = Durations()
    random.seed(1)
    made = sorted(int(10 ** random.uniform(0, 13)) for _ in range(1000))
    for each in made:
        durations.add(each)
    for rank in (1, 500, 990, 1000):
        found = durations.quantile(rank / 1000)
        assert found is not None
        assert made[rank - 1] <= found < made[rank - 1] * 1.001
    assert durations.quantile(1) == max(made) == durations.longest


def test_missing_durations_may_have_been_the_longest() -> None:
    durations = Durations()
    for each in range(1, 101):
        durations.add(each)
    assert durations.quantile(0.5) == 50
    assert durations.quantile(0.5, missing=40) == 70
    assert durations.quantile(0.5, missing=100) == 100
    assert durations.quantile(0.5, missing=101) is None


def test_memory_does_not_grow_with_their_number() -> None:
    durations = Durations()
    for each in range(200_000):
        durations.add(1_000_000 + each)
    assert durations.count == 200_000
    assert len(durations._counts) < 500
