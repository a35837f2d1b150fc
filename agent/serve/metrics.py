# SPDX-License-Identifier: Apache-2.0
"""The Prometheus metrics: kernel aggregates are read at each scrape, stalls are counted as they end.

Names and labels are a contract; METRICS.md lists them.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Optional, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from agent import __version__
from agent.clock import Clock
from agent.filter import Filter
from agent.model import Confirmation, Stall, StuckExec
from agent.reports.losses import LOSSES
from agent.reports.objects import stall_id
from agent.serve.labels import OTHER, Label, Recent
from agent.serve.server import REFUSALS
from agent.serve.totals import Totals
from agent.settings import agentfile
from agent.tracing.translate import BUCKET_BOUNDS_NS, NOTHING, CommStats, MapUse, ProbeStatus

__all__ = ["BOUNDS_SECONDS", "Metrics", "Source"]

_Durations = Callable[[CommStats], tuple[Sequence[int], int]]
_DURATIONS: tuple[tuple[str, str, _Durations], ...] = (
    (
        "spawnstall_spawn_seconds",
        "Time from the creation of the errpipe to the end of the parent's read.",
        lambda stats: (stats.spawn_buckets, stats.spawn_sum_ns),
    ),
    (
        "spawnstall_exec_seconds",
        "Time from the fork to the own child's release of the errpipe.",
        lambda stats: (stats.exec_buckets, stats.exec_sum_ns),
    ),
    (
        "spawnstall_vfork_seconds",
        "Time that parents were blocked in vfork, for spawns without an errpipe (posix_spawn).",
        lambda stats: (stats.vfork_buckets, stats.vfork_sum_ns),
    ),
)
"""The histograms by comm: name, help text, and a function that returns buckets and sum in nanoseconds."""

_PAIRS_PER_LABEL = 5
BOUNDS_SECONDS = tuple(bound / 1e9 for bound in BUCKET_BOUNDS_NS)


class Source(Protocol):
    """What a scrape reads; Tracer implements it."""

    @property
    def ongoing(self) -> tuple[Stall, ...]: ...

    @property
    def execs_in_progress(self) -> tuple[StuckExec, ...]: ...

    @property
    def confirmations(self) -> dict[Confirmation, int]: ...

    @property
    def self_test_failure(self) -> Optional[str]: ...

    def comm_stats(self) -> dict[bytes, CommStats]: ...

    def counters(self) -> dict[str, int]: ...

    def map_uses(self) -> dict[str, MapUse]: ...

    def probes(self) -> dict[str, ProbeStatus]: ...


class _Registry(CollectorRegistry):
    """Without the times at which counts began: the text format has them as extra gauges.

    disable_created_metrics does this too, but Debian 12's prometheus_client (0.16) does not have it.
    """

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class Metrics(Collector):
    """The collector of all metrics; call ``add_stall`` for each ended stall, and ``update`` every minute."""

    def __init__(self, source: Source, clock: Clock, labels: agentfile.Labels, bcc_version: str) -> None:
        self._source = source
        self._clock = clock
        self._bcc_version = bcc_version
        self._stall_labels = ("comm", "holder", "cause") + (("container",) if labels.container else ())
        self._changing = threading.RLock()
        """Held while label values, and the counts that have them, change; scrapes do that too."""
        self._totals = Totals()
        self.registry = _Registry()
        self._stall_seconds = Histogram(
            "spawnstall_stall_seconds",
            "Time that readers of errpipes waited for foreign holders (ended stalls).",
            self._stall_labels,
            buckets=BOUNDS_SECONDS,
            registry=self.registry,
        )
        self._stall_series: set[tuple[str, ...]] = set()
        self._not_logged = Counter(
            "spawnstall_stalls_not_logged",
            "Stalls left out of the log because of log.stalls_per_minute.",
            registry=self.registry,
        )
        self._refused = Counter(
            "spawnstall_http_refusals",
            "HTTP requests and connections that were refused, or whose client had gone.",
            ("reason",),
            registry=self.registry,
        )
        for reason in REFUSALS:
            self._refused.labels(reason)
        self.configure(labels, Filter())
        self.set_reloaded(True)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def configure(self, labels: agentfile.Labels, filter: Filter) -> None:
        """Apply new label bounds and a new filter; a change of labels.container needs a restart.

        All series by comm end, and count from 0 when they return, because what they count may change.
        """
        rules = [(rule.match, rule.name) for rule in labels.rules]
        with self._changing:
            self._comm = Label("comm", labels.limit, labels.allow, rules, self._end_comm)
            self._holder = Label("holder", labels.limit, labels.allow, rules, self._end_holder)
            self._container = Label("container", labels.limit, removed=self._end_container)
            self._pairs: Recent[tuple[str, str]] = Recent(
                f"pairs of comm and holder ({_PAIRS_PER_LABEL} times labels.limit)",
                _PAIRS_PER_LABEL * labels.limit,
                self._end_pair,
            )
            self._filter = filter
            self._totals.clear()
            self._stall_seconds.clear()
            self._stall_series.clear()

    def update(self) -> None:
        """Add the kernel side's new counts to the totals, before it forgets an unused comm."""
        with self._changing:
            self._totals.update(self._source.comm_stats(), self._counted_as)

    def spawn_counts(self) -> Sequence[int]:
        """How many spawns of all comms took how long: one number for each of BOUNDS_SECONDS, and the rest."""
        with self._changing:
            self.update()
            return sum(self._totals.read().values(), NOTHING).spawn_buckets

    def _counted_as(self, comm: bytes) -> Optional[str]:
        if comm == OTHER.encode():
            return OTHER
        return self._comm.value(comm) if self._filter.passes_comm(comm) else None

    def _end_comm(self, value: str) -> None:
        self._totals.end(value)
        self._pairs.discard(lambda pair: pair[0] == value)
        self._end_stalls(comm=value)

    def _end_holder(self, value: str) -> None:
        self._pairs.discard(lambda pair: pair[1] == value)
        self._end_stalls(holder=value)

    def _end_pair(self, pair: tuple[str, str]) -> None:
        self._end_stalls(comm=pair[0], holder=pair[1])

    def _end_container(self, value: str) -> None:
        self._end_stalls(container=value)

    def _end_stalls(self, **labels: str) -> None:
        """End the series of stalls with these values."""
        wanted = {self._stall_labels.index(name): value for name, value in labels.items()}
        for values in [*self._stall_series]:
            if all(values[place] == value for place, value in wanted.items()):
                self._stall_seconds.remove(*values)
                self._stall_series.discard(values)

    def set_reloaded(self, success: bool) -> None:
        """Record whether the last reload of the configuration succeeded."""
        self._reload_succeeded = success
        if success:
            self._reloaded = time.time()

    def add_stall(self, stall: Stall) -> None:
        """Count an ended stall; the exemplar (OpenMetrics only) is its id in the log and on the page."""
        if stall.ended is not None:
            with self._changing:
                values = self._values(stall)
                self._stall_series.add(values)
                self._stall_seconds.labels(*values).observe(
                    (stall.ended - stall.began) / 1e9, {"stall_id": stall_id(stall)}
                )

    def add_not_logged(self) -> None:
        """Count a stall that was left out of the log."""
        self._not_logged.inc()

    def add_refused(self, reason: str) -> None:
        """Count an HTTP request or connection that was not served; reason: one of REFUSALS."""
        self._refused.labels(reason).inc()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing, so that registering does not read the kernel's maps."""
        return ()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Read the kernel side and yield all families but those counted in user space."""
        began = time.monotonic()
        yield from self._comm_stats()
        yield from self._in_progress()
        yield from self._tracing_health()
        yield from self._probes()
        yield from self._configuration()
        yield _info(
            "spawnstall_build_info",
            "Always 1; the labels are the versions.",
            {"version": __version__, "kernel": platform.release(), "bcc": self._bcc_version},
        )
        yield GaugeMetricFamily(
            "spawnstall_scrape_duration_seconds",
            "Time that this scrape took to read the kernel side.",
            value=time.monotonic() - began,
        )

    def _comm_stats(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        with self._changing:
            self.update()
            totals = self._totals.read()
        spawns = CounterMetricFamily("spawnstall_spawns", "Ended spawns.", labels=("comm", "outcome"))
        exposures = CounterMetricFamily(
            "spawnstall_exposures",
            "Foreign processes that still had a copy after the own child's release; each can stall a reader.",
            labels=("comm", "cause"),
        )
        late_wakeups = CounterMetricFamily(
            "spawnstall_late_wakeups",
            "Long reads of errpipes without a foreign holder: the reader was woken late.",
            labels=("comm",),
        )
        for comm, stats in totals.items():
            spawns.add_metric((comm, "ok"), stats.ok)
            spawns.add_metric((comm, "exec_failed"), stats.exec_failed)
            spawns.add_metric((comm, "abandoned"), stats.abandoned)
            for cause, number in sorted(stats.exposures.items()):
                exposures.add_metric((comm, cause.value), number)
            late_wakeups.add_metric((comm,), stats.late_wakeups)
        yield spawns
        yield exposures
        yield late_wakeups
        for metric, text, read in _DURATIONS:
            seconds = HistogramMetricFamily(metric, text, labels=("comm",))
            for comm, stats in totals.items():
                _add_histogram(seconds, comm, *read(stats))
            yield seconds

    def _in_progress(self) -> Iterator[GaugeMetricFamily]:
        ongoing = [stall for stall in self._source.ongoing if self._filter.passes_stall(stall)]
        began: dict[tuple[str, ...], list[float]] = {}
        for stall in ongoing:
            began.setdefault(self._values(stall), []).append(self._clock.timestamp(stall.began))
        in_progress = GaugeMetricFamily(
            "spawnstall_stalls_in_progress",
            "Readers that are waiting for foreign holders.",
            labels=self._stall_labels,
        )
        start = GaugeMetricFamily(
            "spawnstall_stall_start_timestamp_seconds",
            "Start time of the oldest stall in progress with these labels.",
            labels=self._stall_labels,
        )
        for labels, times in began.items():
            in_progress.add_metric(labels, len(times))
            start.add_metric(labels, min(times))
        yield in_progress
        yield start
        yield GaugeMetricFamily(
            "spawnstall_oldest_stall_start_timestamp_seconds",
            "Start time of the oldest stall in progress, 0 if there is none.",
            value=min(map(min, began.values()), default=0.0),
        )
        yield from self._execs_in_progress()

    def _execs_in_progress(self) -> Iterator[GaugeMetricFamily]:
        forked: dict[str, list[float]] = {}
        for spawn in (stuck.spawn for stuck in self._source.execs_in_progress):
            if self._filter.passes_comm(spawn.comm):
                started = self._clock.timestamp(spawn.forked or spawn.created)
                with self._changing:
                    comm = self._comm.value(spawn.comm)
                forked.setdefault(comm, []).append(started)
        number = GaugeMetricFamily(
            "spawnstall_execs_in_progress",
            "Spawns whose own child was forked more than a second ago and has not called exec.",
            labels=("comm",),
        )
        start = GaugeMetricFamily(
            "spawnstall_exec_start_timestamp_seconds",
            "When the oldest own child that has not called exec was forked.",
            labels=("comm",),
        )
        for comm, times in forked.items():
            number.add_metric((comm,), len(times))
            start.add_metric((comm,), min(times))
        yield number
        yield start

    def _tracing_health(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        counters = self._source.counters()
        for name, counter, text in LOSSES:
            yield CounterMetricFamily(f"spawnstall_{name}", text, value=counters[counter])
        now = GaugeMetricFamily("spawnstall_map_entries", "Entries in an eBPF map.", labels=("map",))
        maximum = GaugeMetricFamily(
            "spawnstall_map_max_entries", "Maximum number of entries in an eBPF map.", labels=("map",)
        )
        evicted = CounterMetricFamily(
            "spawnstall_map_evictions",
            "Entries that a full eBPF map evicted while they were in use.",
            labels=("map",),
        )
        for name, use in self._source.map_uses().items():
            now.add_metric((name,), use.entries)
            maximum.add_metric((name,), use.max_entries)
            if use.evictions is not None:
                evicted.add_metric((name,), use.evictions)
        yield now
        yield maximum
        yield evicted
        confirmations = CounterMetricFamily(
            "spawnstall_confirmations",
            "Holders of stalls in progress that a search of the host's open files found.",
            labels=("result",),
        )
        for result, number in self._source.confirmations.items():
            confirmations.add_metric((result.value,), number)
        yield confirmations
        yield GaugeMetricFamily(
            "spawnstall_selftest_success",
            "1 if the start-up self-test passed.",
            value=1 if self._source.self_test_failure is None else 0,
        )

    def _probes(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        probes = self._source.probes()
        attached = GaugeMetricFamily(
            "spawnstall_probe_attached",
            "1 if the BPF program at a tracepoint is attached; without it, some causes are unknown.",
            labels=("probe",),
        )
        runs = CounterMetricFamily(
            "spawnstall_probe_runs", "Runs of the BPF program at a tracepoint.", labels=("probe",)
        )
        seconds = CounterMetricFamily(
            "spawnstall_probe_run_seconds",
            "Time spent in the BPF program at a tracepoint.",
            labels=("probe",),
        )
        counted = 0
        for probe, status in probes.items():
            attached.add_metric((probe,), int(status.attached))
            if status.runs is not None and status.run_ns is not None:
                counted = 1
                runs.add_metric((probe,), status.runs)
                seconds.add_metric((probe,), status.run_ns / 1e9)
        yield attached
        yield GaugeMetricFamily(
            "spawnstall_bpf_stats_enabled",
            "1 if the kernel counts runs and run time of BPF programs (sysctl kernel.bpf_stats_enabled).",
            value=counted,
        )
        yield runs
        yield seconds

    def _configuration(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "spawnstall_config_last_reload_successful",
            "1 if the last reload of the configuration succeeded.",
            value=int(self._reload_succeeded),
        )
        yield GaugeMetricFamily(
            "spawnstall_config_last_reload_success_timestamp_seconds",
            "Time of the last successful reload of the configuration.",
            value=self._reloaded,
        )

    def _values(self, stall: Stall) -> tuple[str, ...]:
        culprit = stall.culprit
        with self._changing:
            comm, holder = self._comm.value(stall.spawn.comm), self._holder.value(culprit.comm)
            # Bound pairs too: 100 comms and 100 holders would make 10,000 series.
            if not self._pairs.use((comm, holder)):
                comm, holder = OTHER, OTHER
            values = (comm, holder, culprit.cause.value)
            if "container" not in self._stall_labels:
                return values
            if stall.identity is None or stall.identity.container is None:
                return (*values, "")
            return (*values, self._container.value(stall.identity.container.id[:12].encode()))


def _add_histogram(family: HistogramMetricFamily, comm: str, counts: Sequence[int], sum_ns: int) -> None:
    total = 0
    buckets = []
    for bound, number in zip((*BOUNDS_SECONDS, None), counts):
        total += number
        buckets.append(("+Inf" if bound is None else repr(bound), total))
    family.add_metric((comm,), buckets, sum_ns / 1e9)


def _info(name: str, text: str, labels: dict[str, str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family
