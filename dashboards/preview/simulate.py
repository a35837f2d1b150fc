# SPDX-License-Identifier: Apache-2.0
"""Three hours of metrics of a simulated fleet, as OpenMetrics text to back-fill a Prometheus."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping

from dashboards.preview import lognormal

__all__ = ["STALLING_HOST", "openmetrics"]

STALLING_HOST = "web06:9848"
"""A host with a stall in progress at the end."""

_HOSTS = 24
_STEP = 60  # seconds from sample to sample
_COMMS = {"web-app": 3.0, "cron": 0.2, "puppet": 0.6, "node": 1.2}  # spawns a second
_HOLDERS = (("pool-worker", "forked"), ("import-job", "late_exec"), ("python2.7", "leaked"))
_PROBES = ("sys_enter_close", "sys_exit_pipe2", "sys_exit_read", "sched_process_fork", "sched_process_exec")

Labels = Mapping[str, str]
_Sample = tuple[str, Labels, float]


class _Histogram:
    """A log-normal histogram with the agent's buckets."""

    def __init__(self, median: float, sigma: float) -> None:
        self._median, self._sigma = median, sigma
        self._counts = [0.0] * (len(lognormal.BOUNDS) + 1)
        self._sum = 0.0

    def add(self, number: float, slow: float = 0.0, slow_seconds: float = 0.4) -> None:
        """Add values; the share ``slow`` of them takes about ``slow_seconds``."""
        for share, median in ((1 - slow, self._median), (slow, slow_seconds)):
            for index, part in enumerate(lognormal.shares(median, self._sigma)):
                self._counts[index] += number * share * part
            self._sum += number * share * median

    def samples(self, name: str, labels: Labels) -> Iterator[_Sample]:
        total = 0.0
        for bound, count in zip([*map(repr, lognormal.BOUNDS), "+Inf"], self._counts):
            total += count
            yield f"{name}_bucket", {**labels, "le": bound}, total
        yield f"{name}_count", labels, total
        yield f"{name}_sum", labels, self._sum


class _Host:
    def __init__(self, index: int) -> None:
        self._random = random.Random(index)
        self._index = index
        self.name = f"web{index + 1:02}:9848"
        self._busy = self._random.uniform(0.5, 2)
        self._histograms = {
            (name, comm): _Histogram(self._random.uniform(0.8, 1.2) * median, 0.6)
            for name, median in (("spawn", 900e-6), ("exec", 500e-6), ("vfork", 300e-6))
            for comm in _COMMS
        }
        self._stalls = {holder: _Histogram(0.3, 0.7) for holder in _HOLDERS[: 1 + index % 3]}
        names = (
            "records_lost probe_misses slots_overflowed spawns_unfinished pipes_forgotten numbers_overflowed"
            " walks_cut programs_full tables_shared stacks_lost map_updates_failed searches_cut"
            " stalls_not_logged"
        )
        self._counters = dict.fromkeys(names.split(), 0.0)
        self._cpu = self._runs = 0.0

    def samples(self, now: float, since: float) -> Iterator[_Sample]:
        """Return the samples of the host at a time; ``since`` is its start."""
        age = now - since
        wave = self._busy * (1 + 0.4 * math.sin(age / 1800 + self._index))
        stalling = self._index % 5 == 0 and (age // 1800) % 3 != 0
        yield "up", {}, float(self._index != 17 or age < 9000)
        for comm, rate in _COMMS.items():
            number = rate * wave * _STEP
            slow = 0.03 if stalling and comm == "web-app" else 0.0005
            for name in ("spawn", "exec", "vfork"):
                histogram = self._histograms[name, comm]
                histogram.add(number, slow if name == "spawn" else 0.0)
                yield from histogram.samples(f"spawnstall_{name}_seconds", {"comm": comm})
            for outcome, share in (("ok", 0.97), ("exec_failed", 0.02), ("abandoned", 0.01)):
                labels = {"comm": comm, "outcome": outcome}
                yield "spawnstall_spawns_total", labels, rate * self._busy * age * share
            for cause, share in (
                ("forked", 0.01),
                ("leaked", 0.002),
                ("late_exec", 0.02),
                ("own_descendant", 0),
            ):
                labels = {"comm": comm, "cause": cause}
                yield "spawnstall_exposures_total", labels, rate * self._busy * age * share
            yield "spawnstall_late_wakeups_total", {"comm": comm}, rate * self._busy * age * 0.0002
        yield from self._stalling(now, age, stalling, wave)
        yield from self._health(age, wave, since)

    def _stalling(self, now: float, age: float, stalling: bool, wave: float) -> Iterator[_Sample]:
        ongoing = self._index == 5 and age > 9600
        started = now - (age - 9600) if ongoing else 0.0
        if self._index % 5 == 0:
            for (holder, cause), histogram in self._stalls.items():
                labels = {"comm": "web-app", "holder": holder, "cause": cause}
                if stalling:
                    histogram.add(wave * self._random.uniform(1, 6))
                yield from histogram.samples("spawnstall_stall_seconds", labels)
                here = self._random.random() < 0.3 if stalling else 0
                if here or (ongoing and holder == "pool-worker"):
                    yield "spawnstall_stalls_in_progress", labels, float(here + ongoing)
                    hangs = ongoing and holder == "pool-worker"
                    yield "spawnstall_stall_start_timestamp_seconds", labels, started if hangs else now - 1
        if self._index in (5, 12) and age > 10200:
            stuck = {"comm": "puppet"}
            yield "spawnstall_execs_in_progress", stuck, 1
            yield "spawnstall_exec_start_timestamp_seconds", stuck, now - (age - 10100)
        yield "spawnstall_oldest_stall_start_timestamp_seconds", {}, started
        yield "spawnstall_confirmations_total", {"result": "confirmed"}, 0.01 * age

    def _health(self, age: float, wave: float, since: float) -> Iterator[_Sample]:
        if self._index == 10 and 5000 < age < 5600:
            self._counters["records_lost"] += 40
        for name, value in self._counters.items():
            yield f"spawnstall_{name}_total", {}, value
        for name, most, used in (("places", 8192, 12), ("processes", 4096, 90), ("programs", 1024, 60)):
            yield "spawnstall_map_entries", {"map": name}, used * wave
            yield "spawnstall_map_max_entries", {"map": name}, most
            yield "spawnstall_map_evictions_total", {"map": name}, 0
        self._runs += 40_000 * wave * _STEP
        self._cpu += 0.006 * wave * _STEP
        for position, probe in enumerate(_PROBES):
            runs = self._runs / 3**position
            yield "spawnstall_probe_attached", {"probe": probe}, 1
            yield "spawnstall_probe_runs_total", {"probe": probe}, runs
            yield "spawnstall_probe_run_seconds_total", {"probe": probe}, runs * 60e-9 * (1 + position)
        yield "spawnstall_selftest_success", {}, 1
        yield "spawnstall_config_last_reload_successful", {}, 1
        yield "spawnstall_config_last_reload_success_timestamp_seconds", {}, since - 86400
        yield "spawnstall_scrape_duration_seconds", {}, 0.004 * wave
        version = "0.1.0" if self._index % 4 else "0.2.0"
        yield "spawnstall_build_info", {"version": version, "kernel": "6.1.0-30-amd64", "bcc": "0.26.0"}, 1
        yield "process_cpu_seconds_total", {}, self._cpu
        yield "process_resident_memory_bytes", {}, 92e6 + 4e6 * wave
        yield "process_open_fds", {}, 31
        yield "process_start_time_seconds", {}, since - 172800


def openmetrics(since: int, until: int) -> Iterator[str]:
    """Return the lines, grouped by family as the format requires."""
    families: dict[str, list[str]] = {}
    hosts = [_Host(index) for index in range(_HOSTS)]
    for now in range(since, until + 1, _STEP):
        for host in hosts:
            for name, labels, value in host.samples(now, since):
                every = {"job": "spawnstall", "instance": host.name, **labels}
                text = ",".join(f'{key}="{word}"' for key, word in every.items())
                families.setdefault(name, []).append(f"{name}{{{text}}} {value:.9g} {now}")
    for name, lines in families.items():
        yield f"# TYPE {name} unknown"
        yield from lines
    yield "# EOF"
