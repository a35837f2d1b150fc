# SPDX-License-Identifier: Apache-2.0
"""The JSON object of /api/stalls (HTTP.md): stalls and the agent's own health."""

from __future__ import annotations

import itertools
import math
import platform
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import cast

from agent import __version__
from agent.clock import Clock
from agent.reports.kinds import buckets
from agent.reports.losses import LOSSES
from agent.reports.objects import stall_object
from agent.reports.types import AgentObject, SpawnsObject, StatusObject, WaitObject
from agent.serve.history import History
from agent.serve.metrics import BOUNDS_SECONDS, Source
from agent.serve.stallkinds import StallKinds

__all__ = ["Status"]

_P99 = 0.99


class Status:
    """The agent's status; create it when tracing starts, so that CPU time excludes the start.

    spawns: returns how many spawns took how long, by the buckets of the metrics.
    """

    def __init__(
        self,
        source: Source,
        history: History,
        kinds: StallKinds,
        spawns: Callable[[], Sequence[int]],
        clock: Clock,
        healthy: Callable[[], bool],
        bcc_version: str,
    ) -> None:
        self._source = source
        self._history = history
        self._kinds = kinds
        self._spawns = spawns
        self._clock = clock
        self._healthy = healthy
        self._bcc_version = bcc_version
        self._began = time.monotonic_ns()
        self._cpu_began = time.process_time()

    def read(self) -> StatusObject:
        """The object with ``kinds``, ``ongoing`` (oldest first), ``ended`` (newest first) and ``agent``."""
        # A stall that ends between the two reads is in both lists: drop it from ongoing.
        ongoing = sorted(self._source.ongoing, key=lambda stall: stall.began)
        ended, total = self._history.read()
        ended_ids = {stall.spawn.id for stall in ended}
        in_progress = [
            stall_object(stall, self._clock) for stall in ongoing if stall.spawn.id not in ended_ids
        ]
        return {
            "kinds": self._kinds.read(in_progress),
            "spawns": _spawns(self._spawns()),
            "ongoing": in_progress,
            "waits": [cast(WaitObject, stuck.wait) for stuck in self._source.execs_in_progress],
            "ended": [stall_object(stall, self._clock) for stall in ended],
            "agent": self._agent(total),
        }

    def _agent(self, ended: int) -> AgentObject:
        now = time.monotonic_ns()
        counters = self._source.counters()
        return {
            "host": socket.gethostname(),
            "version": __version__,
            "kernel": platform.release(),
            "bcc": self._bcc_version,
            "time": self._clock.rfc3339(now),
            "started": self._clock.rfc3339(self._began),
            "uptime_seconds": (now - self._began) / 1e9,
            "cpu_seconds": time.process_time() - self._cpu_began,
            "healthy": self._healthy(),
            "self_test_failure": self._source.self_test_failure,
            "stalls_ended": ended,
            "history_limit": self._history.limit,
            "probes": {
                name: {
                    "attached": probe.attached,
                    "runs": probe.runs,
                    "run_seconds": None if probe.run_ns is None else probe.run_ns / 1e9,
                }
                for name, probe in self._source.probes().items()
            },
            "losses": {name: counters[counter] for name, counter, _ in LOSSES},
            "confirmations": {result.value: number for result, number in self._source.confirmations.items()},
            "maps": {
                name: {
                    "entries": use.entries,
                    "max_entries": use.max_entries,
                    "evictions": use.evictions,
                }
                for name, use in self._source.map_uses().items()
            },
        }


def _spawns(counts: Sequence[int]) -> SpawnsObject:
    up_to = [*itertools.accumulate(counts)]
    number = up_to[-1]
    place = bisect_left(up_to, math.ceil(_P99 * number))
    is_known = number > 0 and place < len(BOUNDS_SECONDS)
    return {
        "count": number,
        "p99_seconds": BOUNDS_SECONDS[place] if is_known else None,
        "histogram": buckets(BOUNDS_SECONDS, dict(enumerate(counts))),
    }
