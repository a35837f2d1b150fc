"""Log-normal latencies in the agent's buckets, for hosts that are made up."""

from __future__ import annotations

import math
from statistics import NormalDist

from agent.tracing.tracer import BUCKET_BOUNDS_NS

__all__ = ["BOUNDS", "shares"]

BOUNDS = tuple(bound / 1e9 for bound in BUCKET_BOUNDS_NS)
"""Upper bounds of the buckets but the last, which has none (seconds)."""


def shares(median: float, sigma: float) -> list[float]:
    """The share of each bucket, the last one included; ``sigma`` is that of the logarithm."""
    distribution = NormalDist(math.log(median), sigma)
    below = [0.0, *(distribution.cdf(math.log(bound)) for bound in BOUNDS), 1.0]
    return [upto - before for before, upto in zip(below, below[1:])]
