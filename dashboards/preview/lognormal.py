# SPDX-License-Identifier: Apache-2.0
"""Log-normal latencies in the agent's buckets, for simulated hosts."""

from __future__ import annotations

import math
from statistics import NormalDist

from agent.tracing.translate import BUCKET_BOUNDS_NS

__all__ = ["BOUNDS", "shares"]

BOUNDS = tuple(bound / 1e9 for bound in BUCKET_BOUNDS_NS)
"""Upper bounds in seconds of all buckets but the last, which has none."""


def shares(median: float, sigma: float) -> list[float]:
    """Return the share of each bucket, including the last; ``sigma`` is that of the logarithm."""
    distribution = NormalDist(math.log(median), sigma)
    below = [0.0, *(distribution.cdf(math.log(bound)) for bound in BOUNDS), 1.0]
    return [upto - before for before, upto in zip(below, below[1:])]
