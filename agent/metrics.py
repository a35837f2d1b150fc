"""The Prometheus metrics: kernel aggregates read when Prometheus scrapes, stalls counted as they end.

The names and labels are a contract (README, "Metrics").  Label values are bounded: a process chooses its own
comm, so only the first N values of a label stand for themselves and the rest are ``~other``.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional, Protocol

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from agent import __version__
from agent.model import Confirmation, Stall
from agent.report import Clock, printable
from agent.tracer import BUCKET_BOUNDS_NS, Program

__all__ = ["LOSSES", "OTHER", "Metrics", "Source", "evictions"]

OTHER = "~other"
"""Label value for everything beyond the limit."""

LOSSES = (
    ("records_lost", "records_lost", "Records that found no room in the perf buffer."),
    ("slots_overflowed", "slots_overflowed", "Pipe ends that a full table could not follow."),
    ("programs_full", "programs_full", "Spawns counted as ~other: the map was full."),
    ("tables_shared", "tables_shared", "Forks that share an fd table, which is not followed."),
    ("map_updates_failed", "updates_failed", "Map updates that the kernel refused."),
)
"""What is not followed, and counted: the metric's name, the kernel side's counter, a description."""

_BOUNDS_SECONDS = tuple(bound / 1e9 for bound in BUCKET_BOUNDS_NS)


class Source(Protocol):
    """What is read at a scrape; Tracer is one."""

    @property
    def ongoing(self) -> tuple[Stall, ...]: ...

    @property
    def confirmations(self) -> dict[Confirmation, int]: ...

    @property
    def self_test_failure(self) -> object: ...

    def programs(self) -> dict[bytes, Program]: ...

    def counters(self) -> dict[str, int]: ...

    def map_entries(self) -> dict[str, tuple[int, int]]: ...


class _Label:
    """Bounds one label: the first values stand for themselves."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def value(self, comm: bytes) -> str:
        text = printable(comm) or "unknown"
        with self._lock:
            if text in self._seen:
                return text
            if len(self._seen) < self._limit:
                self._seen.add(text)
                return text
        return OTHER


class Metrics(Collector):
    """The collector of everything; ``add_stall`` is to be called for each ended stall."""

    def __init__(self, source: Source, clock: Clock, label_limit: int, bcc_version: str) -> None:
        self._source = source
        self._clock = clock
        self._comm = _Label(label_limit)
        self._holder = _Label(label_limit)
        self._bcc_version = bcc_version
        self.registry = CollectorRegistry()
        self._stall_seconds = Histogram(
            "spawnstall_stall_seconds",
            "How long readers of errpipes waited for foreign holders (ended stalls).",
            ("comm", "holder", "cause"),
            buckets=_BOUNDS_SECONDS,
            registry=self.registry,
        )
        self.registry.register(self)

    def add_stall(self, stall: Stall) -> None:
        """Counts an ended stall."""
        if stall.ended is not None:
            self._stall_seconds.labels(*self._stall_labels(stall)).observe((stall.ended - stall.began) / 1e9)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: so that registering does not read the kernel's maps."""
        return ()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """The families that are read from the kernel side now."""
        yield from self._programs()
        yield from self._in_progress()
        yield from self._honesty()
        yield _info(
            "spawnstall_build_info",
            "Versions; the value is 1.",
            {"version": __version__, "kernel": platform.release(), "bcc": self._bcc_version},
        )

    def _programs(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        by_comm: dict[str, list[Program]] = {}
        for name, found in sorted(self._source.programs().items()):
            comm = OTHER if name == OTHER.encode() else self._comm.value(name)
            by_comm.setdefault(comm, []).append(found)
        spawns = CounterMetricFamily(
            "spawnstall_spawns", "Spawns that have ended.", labels=("comm", "outcome")
        )
        spawn_seconds = HistogramMetricFamily(
            "spawnstall_spawn_seconds",
            "From the errpipe's creation to the end of its read.",
            labels=("comm",),
        )
        exec_seconds = HistogramMetricFamily(
            "spawnstall_exec_seconds",
            "From the fork to the own child's release of the errpipe.",
            labels=("comm",),
        )
        for comm, programs in by_comm.items():
            spawns.add_metric((comm, "ok"), sum(program.ok for program in programs))
            spawns.add_metric((comm, "exec_failed"), sum(program.exec_failed for program in programs))
            spawns.add_metric((comm, "abandoned"), sum(program.abandoned for program in programs))
            _add_histogram(
                spawn_seconds,
                comm,
                [program.spawn_buckets for program in programs],
                sum(program.spawn_sum_ns for program in programs),
            )
            _add_histogram(
                exec_seconds,
                comm,
                [program.exec_buckets for program in programs],
                sum(program.exec_sum_ns for program in programs),
            )
        yield spawns
        yield spawn_seconds
        yield exec_seconds

    def _in_progress(self) -> Iterator[GaugeMetricFamily]:
        ongoing = self._source.ongoing
        counts: dict[tuple[str, str, str], int] = {}
        for stall in ongoing:
            labels = self._stall_labels(stall)
            counts[labels] = counts.get(labels, 0) + 1
        in_progress = GaugeMetricFamily(
            "spawnstall_stalls_in_progress",
            "Readers that wait for foreign holders now.",
            labels=("comm", "holder", "cause"),
        )
        for labels, number in counts.items():
            in_progress.add_metric(labels, number)
        yield in_progress
        oldest = min((self._clock.timestamp(stall.began) for stall in ongoing), default=0.0)
        yield GaugeMetricFamily(
            "spawnstall_oldest_stall_start_timestamp_seconds",
            "When the oldest stall in progress began, 0 when there is none.",
            value=oldest,
        )

    def _honesty(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        counters = self._source.counters()
        for name, counter, text in LOSSES:
            yield CounterMetricFamily(f"spawnstall_{name}", text, value=counters[counter])
        entries = self._source.map_entries()
        now = GaugeMetricFamily("spawnstall_map_entries", "Entries of an eBPF map.", labels=("map",))
        most = GaugeMetricFamily("spawnstall_map_max_entries", "Room of an eBPF map.", labels=("map",))
        evicted = CounterMetricFamily(
            "spawnstall_map_evictions",
            "Entries that a full map dropped before their end.",
            labels=("map",),
        )
        for name, (used, limit) in entries.items():
            now.add_metric((name,), used)
            most.add_metric((name,), limit)
            dropped = evictions(name, used, counters)
            if dropped is not None:
                evicted.add_metric((name,), dropped)
        yield now
        yield most
        yield evicted
        confirmations = CounterMetricFamily(
            "spawnstall_confirmations",
            "Holders of ongoing stalls that were looked up in /proc.",
            labels=("result",),
        )
        for result, number in self._source.confirmations.items():
            confirmations.add_metric((result.value,), number)
        yield confirmations
        yield GaugeMetricFamily(
            "spawnstall_selftest_success",
            "1 when the start-up self-test passed.",
            value=1 if self._source.self_test_failure is None else 0,
        )

    def _stall_labels(self, stall: Stall) -> tuple[str, str, str]:
        culprit = stall.culprit
        return (
            self._comm.value(stall.spawn.comm),
            self._holder.value(culprit.comm),
            culprit.cause.value,
        )


def evictions(name: str, used: int, counters: Mapping[str, int]) -> Optional[int]:
    """Entries that a full map dropped; None: that is not counted for this map."""
    if f"{name}_added" not in counters:
        return None
    return max(0, counters[f"{name}_added"] - counters[f"{name}_deleted"] - used)


def _add_histogram(
    family: HistogramMetricFamily, comm: str, counts: Sequence[Sequence[int]], sum_ns: int
) -> None:
    total = 0
    buckets = []
    for bound, column in zip((*_BOUNDS_SECONDS, None), zip(*counts)):
        total += sum(column)
        buckets.append(("+Inf" if bound is None else repr(bound), total))
    family.add_metric((comm,), buckets, sum_ns / 1e9)


def _info(name: str, text: str, labels: dict[str, str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family
