# SPDX-License-Identifier: Apache-2.0
"""agent.serve.metrics: the exposition, parsed as Prometheus does."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agent import __version__
from agent.filter import Filter
from agent.model import Cause, Confirmation, Container, Identity, Stall, StuckExec
from agent.reports.losses import LOSSES
from agent.reports.objects import stall_id
from agent.serve import labels
from agent.serve.labels import OTHER
from agent.serve.metrics import BOUNDS_SECONDS, Metrics
from agent.settings.agentfile import Labels as LabelOptions
from agent.settings.agentfile import Rule
from agent.tracing.translate import BUCKET_BOUNDS_NS, CommStats, MapUse, ProbeStatus
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import BEGAN, MS, SECOND, UNSEEN, holder, spawn, stall

BUCKETS = len(BUCKET_BOUNDS_NS) + 1
COUNTERS = (
    "misses",
    "stacks_lost",
    "spawns_refused",
    "spawns_unfinished",
    "pipes_forgotten",
    "numbers_overflowed",
    "walks_cut",
    "records_lost",
    "comm_stats_full",
    "tables_shared",
    "updates_failed",
    "searches_cut",
    "processes_added",
    "processes_deleted",
)


EXPOSED = (Cause.FORKED, Cause.LEAKED, Cause.LATE_EXEC, Cause.OWN_DESCENDANT)
"""The causes that the kernel side distinguishes."""


def program(ok: int = 0, exec_failed: int = 0, abandoned: int = 0, **changes: Any) -> CommStats:
    none = (0,) * BUCKETS
    plain = CommStats(
        ok=ok,
        exec_failed=exec_failed,
        abandoned=abandoned,
        late_wakeups=0,
        exposures=dict.fromkeys(EXPOSED, 0),
        spawn_buckets=none,
        spawn_sum_ns=0,
        exec_buckets=none,
        exec_sum_ns=0,
        vfork_buckets=none,
        vfork_sum_ns=0,
    )
    return dataclasses.replace(plain, **changes)


@dataclass
class FakeSource:
    """A fake tracer."""

    ongoing: tuple[Stall, ...] = ()
    execs_in_progress: tuple[StuckExec, ...] = ()
    confirmations: dict[Confirmation, int] = field(default_factory=lambda: dict.fromkeys(Confirmation, 0))
    self_test_failure: Optional[str] = None
    by_comm: dict[bytes, CommStats] = field(default_factory=lambda: {OTHER.encode(): program()})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    uses: dict[str, MapUse] = field(
        default_factory=lambda: {
            "spawns": MapUse(0, 8192, None),
            "processes": MapUse(0, 4096, 0),
            "programs": MapUse(1, 1024, None),
        }
    )
    statuses: dict[str, ProbeStatus] = field(
        default_factory=lambda: {
            "task:task_newtask": ProbeStatus(True, 7, 1_500_000),
            "syscalls:sys_enter_dup": ProbeStatus(False, None, None),
        }
    )

    def comm_stats(self) -> dict[bytes, CommStats]:
        return self.by_comm

    def counters(self) -> dict[str, int]:
        return self.counts

    def map_uses(self) -> dict[str, MapUse]:
        return self.uses

    def probes(self) -> dict[str, ProbeStatus]:
        return self.statuses


Labels = dict[str, str]


class Scrape:
    """The samples of one scrape."""

    def __init__(self, metrics: Metrics) -> None:
        text = generate_latest(metrics.registry).decode()
        self.families: dict[str, Metric] = {}
        for family in text_string_to_metric_families(text):
            assert family.name not in self.families
            self.families[family.name] = family

    def samples(self, name: str) -> list[tuple[Labels, float]]:
        """Labels and values of the samples with this name."""
        return [
            (sample.labels, sample.value)
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name
        ]

    def value(self, name: str, **labels: str) -> float:
        found = [value for its, value in self.samples(name) if its == labels]
        assert len(found) == 1, f"{name} {labels}: {self.samples(name)}"
        return found[0]

    def buckets(self, name: str, **labels: str) -> dict[str, float]:
        return {
            its["le"]: value
            for its, value in self.samples(f"{name}_bucket")
            if {key: text for key, text in its.items() if key != "le"} == labels
        }


def metrics_of(source: FakeSource, limit: int = 100) -> Metrics:
    return Metrics(source, CLOCK, LabelOptions(limit=limit), "0.26.0")


def scrape(source: Optional[FakeSource] = None) -> Scrape:
    return Scrape(metrics_of(source or FakeSource()))


# -- the contract --

CONTRACT = {
    "spawnstall_spawns": ("counter", {"comm", "outcome"}),
    "spawnstall_spawn_seconds": ("histogram", {"comm"}),
    "spawnstall_exec_seconds": ("histogram", {"comm"}),
    "spawnstall_exposures": ("counter", {"comm", "cause"}),
    "spawnstall_late_wakeups": ("counter", {"comm"}),
    "spawnstall_stall_seconds": ("histogram", {"comm", "holder", "cause"}),
    "spawnstall_stalls_in_progress": ("gauge", {"comm", "holder", "cause"}),
    "spawnstall_stall_start_timestamp_seconds": ("gauge", {"comm", "holder", "cause"}),
    "spawnstall_oldest_stall_start_timestamp_seconds": ("gauge", set()),
    "spawnstall_execs_in_progress": ("gauge", {"comm"}),
    "spawnstall_exec_start_timestamp_seconds": ("gauge", {"comm"}),
    "spawnstall_records_lost": ("counter", set()),
    "spawnstall_probe_misses": ("counter", set()),
    "spawnstall_slots_overflowed": ("counter", set()),
    "spawnstall_spawns_unfinished": ("counter", set()),
    "spawnstall_pipes_forgotten": ("counter", set()),
    "spawnstall_numbers_overflowed": ("counter", set()),
    "spawnstall_walks_cut": ("counter", set()),
    "spawnstall_stalls_not_logged": ("counter", set()),
    "spawnstall_http_refusals": ("counter", {"reason"}),
    "spawnstall_stacks_lost": ("counter", set()),
    "spawnstall_programs_full": ("counter", set()),
    "spawnstall_tables_shared": ("counter", set()),
    "spawnstall_map_updates_failed": ("counter", set()),
    "spawnstall_searches_cut": ("counter", set()),
    "spawnstall_map_entries": ("gauge", {"map"}),
    "spawnstall_map_max_entries": ("gauge", {"map"}),
    "spawnstall_map_evictions": ("counter", {"map"}),
    "spawnstall_confirmations": ("counter", {"result"}),
    "spawnstall_selftest_success": ("gauge", set()),
    "spawnstall_build_info": ("gauge", {"version", "kernel", "bcc"}),
    "spawnstall_vfork_seconds": ("histogram", {"comm"}),
    "spawnstall_probe_attached": ("gauge", {"probe"}),
    "spawnstall_probe_runs": ("counter", {"probe"}),
    "spawnstall_probe_run_seconds": ("counter", {"probe"}),
    "spawnstall_bpf_stats_enabled": ("gauge", set()),
    "spawnstall_scrape_duration_seconds": ("gauge", set()),
    "spawnstall_config_last_reload_successful": ("gauge", set()),
    "spawnstall_config_last_reload_success_timestamp_seconds": ("gauge", set()),
    "process_cpu_seconds": ("counter", set()),
    "process_max_fds": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
    "process_virtual_memory_bytes": ("gauge", set()),
}


def test_names_types_and_labels() -> None:
    source = FakeSource(ongoing=(stall(ended=None),), execs_in_progress=(StuckExec(spawn(), {}),))
    metrics = metrics_of(source)
    metrics.add_stall(stall())
    families = Scrape(metrics).families
    found = {
        name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for name, family in families.items()
    }
    assert found == CONTRACT
    assert all(
        family.documentation.endswith(".")
        for name, family in families.items()
        if name.startswith("spawnstall_")
    )


def test_counters_end_in_total() -> None:
    scraped = scrape()
    for name, (kind, _labels) in CONTRACT.items():
        if kind == "counter":
            assert all(sample.name == f"{name}_total" for sample in scraped.families[name].samples)


def test_counters_are_zero_from_the_first_scrape() -> None:
    scraped = scrape()
    for outcome in ("ok", "exec_failed", "abandoned"):
        assert scraped.value("spawnstall_spawns_total", comm=OTHER, outcome=outcome) == 0
    assert scraped.value("spawnstall_late_wakeups_total", comm=OTHER) == 0
    for cause in EXPOSED:
        assert scraped.value("spawnstall_exposures_total", comm=OTHER, cause=cause.value) == 0
    assert scraped.value("spawnstall_oldest_stall_start_timestamp_seconds") == 0
    assert scraped.value("spawnstall_confirmations_total", result="confirmed") == 0
    for name in (
        "records_lost",
        "probe_misses",
        "slots_overflowed",
        "spawns_unfinished",
        "pipes_forgotten",
        "numbers_overflowed",
        "walks_cut",
        "programs_full",
        "tables_shared",
        "stacks_lost",
        "map_updates_failed",
        "searches_cut",
    ):
        assert scraped.value(f"spawnstall_{name}_total") == 0


def test_build_info() -> None:
    value = scrape().value(
        "spawnstall_build_info", version=__version__, kernel=platform.release(), bcc="0.26.0"
    )
    assert value == 1


def test_registering_does_not_read_the_kernel() -> None:
    class Unreadable(FakeSource):
        def comm_stats(self) -> dict[bytes, CommStats]:
            raise AssertionError

    metrics_of(Unreadable())


# -- programs --


def test_spawns_by_comm_and_outcome() -> None:
    scraped = scrape(FakeSource(by_comm={b"make": program(5, 6, 7), b"sh": program(1)}))
    found = {
        (its["comm"], its["outcome"]): value
        for its, value in scraped.samples("spawnstall_spawns_total")
        if its["comm"] != OTHER
    }
    assert found == {
        ("make", "ok"): 5,
        ("make", "exec_failed"): 6,
        ("make", "abandoned"): 7,
        ("sh", "ok"): 1,
        ("sh", "exec_failed"): 0,
        ("sh", "abandoned"): 0,
    }


def test_exposures_by_comm_and_cause() -> None:
    some = {Cause.FORKED: 3, Cause.LEAKED: 0, Cause.LATE_EXEC: 2, Cause.OWN_DESCENDANT: 1}
    scraped = scrape(FakeSource(by_comm={b"make": program(exposures=some), b"sh": program()}))
    found = {
        (its["comm"], its["cause"]): value
        for its, value in scraped.samples("spawnstall_exposures_total")
        if its["comm"] != OTHER
    }
    assert found == {
        **{("make", cause.value): number for cause, number in some.items()},
        **{("sh", cause.value): 0 for cause in EXPOSED},
    }


def test_late_wakeups_by_comm() -> None:
    scraped = scrape(FakeSource(by_comm={b"make": program(late_wakeups=4), b"sh": program()}))
    found = {its["comm"]: value for its, value in scraped.samples("spawnstall_late_wakeups_total")}
    assert found == {"make": 4, "sh": 0, OTHER: 0}


def test_exposures_and_late_wakeups_beyond_the_limit_are_added_up() -> None:
    exposed = dict.fromkeys(EXPOSED, 2)
    by_comm = {b"p%d" % number: program(late_wakeups=3, exposures=exposed) for number in range(5)}
    scraped = Scrape(metrics_of(FakeSource(by_comm=by_comm), limit=2))
    assert scraped.value("spawnstall_late_wakeups_total", comm=OTHER) == 9
    assert scraped.value("spawnstall_late_wakeups_total", comm="p0") == 3
    for cause in EXPOSED:
        assert scraped.value("spawnstall_exposures_total", comm=OTHER, cause=cause.value) == 6


@pytest.mark.parametrize("kind", ["spawn", "exec", "vfork"])
def test_kernel_histogram(kind: str) -> None:
    counts = tuple(range(1, BUCKETS + 1))
    changes: dict[str, Any] = {f"{kind}_buckets": counts, f"{kind}_sum_ns": 1_500 * MS}
    scraped = scrape(FakeSource(by_comm={b"sh": program(**changes)}))
    name = f"spawnstall_{kind}_seconds"
    buckets = scraped.buckets(name, comm="sh")
    bounds = [*(str(bound / 1e9) for bound in BUCKET_BOUNDS_NS), "+Inf"]
    assert buckets == {le: sum(counts[: place + 1]) for place, le in enumerate(bounds)}
    assert list(buckets) == bounds
    assert scraped.value(f"{name}_count", comm="sh") == sum(counts)
    assert scraped.value(f"{name}_sum", comm="sh") == 1.5
    for other in {"spawn", "exec", "vfork"} - {kind}:
        assert scraped.value(f"spawnstall_{other}_seconds_count", comm="sh") == 0


def test_all_histograms_have_the_same_bounds() -> None:
    metrics = metrics_of(FakeSource(by_comm={b"sh": program()}))
    metrics.add_stall(stall())
    scraped = Scrape(metrics)
    bounds = list(scraped.buckets("spawnstall_spawn_seconds", comm="sh"))
    labels = {"comm": "parent", "holder": "worker", "cause": "forked"}
    assert list(scraped.buckets("spawnstall_stall_seconds", **labels)) == bounds
    assert bounds[0] == "6.4e-05"


def test_spawns_of_all_programs_by_duration() -> None:
    one, other = [0] * BUCKETS, [0] * BUCKETS
    one[2], other[2], other[-1] = 5, 2, 1
    by_comm = {b"a": program(spawn_buckets=tuple(one)), b"b": program(spawn_buckets=tuple(other))}
    counts = metrics_of(FakeSource(by_comm=by_comm)).spawn_counts()
    assert (len(counts), counts[2], counts[-1], sum(counts)) == (BUCKETS, 7, 1, 8)
    assert len(BOUNDS_SECONDS) == BUCKETS - 1


def test_programs_beyond_the_limit_are_added_up() -> None:
    ones = (1,) * BUCKETS
    by_comm = {
        f"p{number}".encode(): program(1, 2, 3, spawn_buckets=ones, spawn_sum_ns=SECOND)
        for number in range(5)
    }
    by_comm[OTHER.encode()] = program(100, spawn_buckets=ones, spawn_sum_ns=SECOND)
    scraped = Scrape(metrics_of(FakeSource(by_comm=by_comm), limit=2))
    assert scraped.value("spawnstall_spawns_total", comm=OTHER, outcome="ok") == 103
    assert scraped.value("spawnstall_spawns_total", comm=OTHER, outcome="abandoned") == 9
    assert scraped.value("spawnstall_spawns_total", comm="p0", outcome="ok") == 1
    assert scraped.buckets("spawnstall_spawn_seconds", comm=OTHER)["+Inf"] == 4 * BUCKETS
    assert scraped.value("spawnstall_spawn_seconds_sum", comm=OTHER) == 4


def test_comms_that_are_printed_alike_share_a_value() -> None:
    scraped = scrape(FakeSource(by_comm={b"\xff": program(1), rb"\xff": program(2)}))
    assert scraped.value("spawnstall_spawns_total", comm=r"\xff", outcome="ok") == 3


# -- stalls --

LABELS = {"comm": "parent", "holder": "worker", "cause": "forked"}


@pytest.mark.parametrize("place", range(len(BUCKET_BOUNDS_NS)))
def test_bucket_bounds_are_inclusive(place: int) -> None:
    bound = BUCKET_BOUNDS_NS[place]
    metrics = metrics_of(FakeSource())
    metrics.add_stall(stall(ended=BEGAN + bound))
    metrics.add_stall(stall(ended=BEGAN + bound + 1_000))
    buckets = list(Scrape(metrics).buckets("spawnstall_stall_seconds", **LABELS).values())
    assert buckets == [0] * place + [1] + [2] * (BUCKETS - place - 1)


def test_stalls_are_counted_by_the_culprit() -> None:
    metrics = metrics_of(FakeSource())
    metrics.add_stall(stall(holder(comm=b"a", cause=Cause.LEAKED), holder(comm=b"b")))
    metrics.add_stall(stall(holder(comm=b"a", cause=Cause.LEAKED)))
    metrics.add_stall(stall(UNSEEN))
    scraped = Scrape(metrics)
    assert scraped.samples("spawnstall_stall_seconds_count") == [
        ({"comm": "parent", "holder": "a", "cause": "leaked"}, 2),
        ({"comm": "parent", "holder": "unknown", "cause": "unknown"}, 1),
    ]
    assert [value for _, value in scraped.samples("spawnstall_stall_seconds_sum")] == [1.0, 0.5]


def test_a_stall_in_progress_is_not_counted() -> None:
    metrics = metrics_of(FakeSource())
    metrics.add_stall(stall(ended=None))
    assert Scrape(metrics).samples("spawnstall_stall_seconds_count") == []


def test_stalls_in_progress() -> None:
    source = FakeSource(
        ongoing=(
            stall(began=BEGAN + 7 * SECOND, ended=None),
            stall(began=BEGAN, ended=None),
            stall(UNSEEN, began=BEGAN + 3 * SECOND, ended=None, of=spawn(comm=b"other")),
        )
    )
    metrics = metrics_of(source)
    scraped = Scrape(metrics)
    assert scraped.value("spawnstall_stalls_in_progress", **LABELS) == 2
    assert (
        scraped.value("spawnstall_stalls_in_progress", comm="other", holder="unknown", cause="unknown") == 1
    )
    starts = {
        its["comm"]: value for its, value in scraped.samples("spawnstall_stall_start_timestamp_seconds")
    }
    assert starts[LABELS["comm"]] == pytest.approx(CLOCK.timestamp(BEGAN), abs=1e-3)
    assert starts["other"] == pytest.approx(CLOCK.timestamp(BEGAN + 3 * SECOND), abs=1e-3)
    oldest = scraped.value("spawnstall_oldest_stall_start_timestamp_seconds")
    assert oldest == pytest.approx(CLOCK.timestamp(BEGAN), abs=1e-3)
    source.ongoing = ()
    assert Scrape(metrics).samples("spawnstall_stalls_in_progress") == []
    assert Scrape(metrics).value("spawnstall_oldest_stall_start_timestamp_seconds") == 0


def test_execs_in_progress() -> None:
    late = [spawn(id=1, forked=BEGAN), spawn(id=2, forked=BEGAN + SECOND), spawn(id=3, comm=b"other")]
    source = FakeSource(execs_in_progress=tuple(StuckExec(each, {}) for each in late))
    scraped = Scrape(metrics_of(source))
    comm = LABELS["comm"]
    assert scraped.value("spawnstall_execs_in_progress", comm=comm) == 2
    assert scraped.value("spawnstall_execs_in_progress", comm="other") == 1
    oldest = scraped.value("spawnstall_exec_start_timestamp_seconds", comm=comm)
    assert oldest == pytest.approx(CLOCK.timestamp(BEGAN), abs=1e-3)
    source.execs_in_progress = ()
    assert Scrape(metrics_of(source)).samples("spawnstall_execs_in_progress") == []


# -- labels --


@pytest.mark.once
def test_ten_thousand_comms() -> None:
    """A process can change its comm at any time."""
    metrics = metrics_of(FakeSource(), limit=50)
    for number in range(10_000):
        name = f"c{number}".encode()
        metrics.add_stall(stall(holder(comm=b"h" + name), of=spawn(comm=name)))
    scraped = Scrape(metrics)
    counts = scraped.samples("spawnstall_stall_seconds_count")
    assert sum(value for _, value in counts) == 10_000
    for label in ("comm", "holder"):
        values = {its[label] for its, _ in counts}
        assert len(values) == 51
        assert OTHER in values
    assert scraped.value("spawnstall_stall_seconds_count", comm=OTHER, holder=OTHER, cause="forked") == 9_950


@pytest.mark.once
def test_ten_thousand_comms_in_one_scrape() -> None:
    source = FakeSource(
        ongoing=tuple(
            stall(holder(comm=b"h%d" % number), ended=None, of=spawn(comm=b"s%d" % number))
            for number in range(10_000)
        ),
        by_comm={b"p%d" % number: program(1) for number in range(10_000)},
    )
    scraped = Scrape(metrics_of(source, limit=20))
    spawns = scraped.samples("spawnstall_spawns_total")
    assert len({its["comm"] for its, _ in spawns}) == 21
    assert sum(value for _, value in spawns) == 10_000
    in_progress = scraped.samples("spawnstall_stalls_in_progress")
    assert {its["comm"] for its, _ in in_progress} == {OTHER}  # spawns used up the limit
    assert len({its["holder"] for its, _ in in_progress}) == 21
    assert sum(value for _, value in in_progress) == 10_000


def test_a_comm_keeps_its_label() -> None:
    metrics = metrics_of(FakeSource(), limit=1)
    for comm in (b"first", b"second", b"first"):
        metrics.add_stall(stall(holder(comm=comm)))
    counts = {
        its["holder"]: value for its, value in Scrape(metrics).samples("spawnstall_stall_seconds_count")
    }
    assert counts == {"first": 2, OTHER: 1}


@pytest.mark.parametrize(
    ("comm", "label"),
    [
        (b'"} 1\nfake_metric 2', r'"} 1\nfake_metric 2'),
        (b"\xff\x1b[0m", r"\xff\x1b[0m"),
        (b"back\\slash", "back\\slash"),
        (b"", "unknown"),
        ("日本".encode(), "日本"),
    ],
)
def test_hostile_comms(comm: bytes, label: str) -> None:
    metrics = metrics_of(FakeSource(by_comm={comm: program(1)}))
    metrics.add_stall(stall(holder(comm=comm), of=spawn(comm=comm)))
    scraped = Scrape(metrics)
    assert scraped.value("spawnstall_spawns_total", comm=label, outcome="ok") == 1
    assert scraped.value("spawnstall_stall_seconds_count", comm=label, holder=label, cause="forked") == 1
    assert all(name.startswith(("spawnstall_", "process_")) for name in scraped.families)


# -- losses, maps and self-test --


def test_counters_of_the_kernel_side() -> None:
    counts = {name: 100 + place for place, name in enumerate(COUNTERS)}
    scraped = scrape(FakeSource(counts=counts))
    found = {
        "probe_misses": "misses",
        "slots_overflowed": "spawns_refused",
        "spawns_unfinished": "spawns_unfinished",
        "pipes_forgotten": "pipes_forgotten",
        "numbers_overflowed": "numbers_overflowed",
        "walks_cut": "walks_cut",
        "records_lost": "records_lost",
        "programs_full": "comm_stats_full",
        "tables_shared": "tables_shared",
        "stacks_lost": "stacks_lost",
        "map_updates_failed": "updates_failed",
        "searches_cut": "searches_cut",
    }
    assert {name: counter for name, counter, _ in LOSSES} == found
    for metric, counter in found.items():
        assert scraped.value(f"spawnstall_{metric}_total") == counts[counter]


def test_maps_and_their_evictions() -> None:
    uses = {
        "spawns": MapUse(9, 8192, None),
        "processes": MapUse(100, 4096, 20),
        "programs": MapUse(3, 1024, None),
    }
    scraped = scrape(FakeSource(uses=uses))
    for name, use in uses.items():
        assert scraped.value("spawnstall_map_entries", map=name) == use.entries
        assert scraped.value("spawnstall_map_max_entries", map=name) == use.max_entries
    assert scraped.samples("spawnstall_map_evictions_total") == [({"map": "processes"}, 20)]


def test_confirmations() -> None:
    scraped = scrape(FakeSource(confirmations={Confirmation.CONFIRMED: 3}))
    assert scraped.value("spawnstall_confirmations_total", result="confirmed") == 3


@pytest.mark.parametrize(("failure", "value"), [(None, 1), ("no stall", 0)])
def test_self_test(failure: Optional[str], value: int) -> None:
    assert scrape(FakeSource(self_test_failure=failure)).value("spawnstall_selftest_success") == value


def test_each_scrape_reads_again() -> None:
    source = FakeSource(by_comm={b"sh": program(1)})
    metrics = metrics_of(source)
    assert Scrape(metrics).value("spawnstall_spawns_total", comm="sh", outcome="ok") == 1
    source.by_comm = {b"sh": program(2)}
    assert Scrape(metrics).value("spawnstall_spawns_total", comm="sh", outcome="ok") == 2


# -- labels and filters --


def test_rules_and_the_allow_list() -> None:
    labels = LabelOptions(limit=1, allow=["nginx"], rules=[Rule(match="w-[0-9]+", name="worker")])
    metrics = Metrics(FakeSource(), CLOCK, labels, "0.26.0")
    for comm in (b"first", b"second", b"nginx", b"w-1", b"w-2", b"w-x"):
        metrics.add_stall(stall(of=spawn(comm=comm)))
    counts = {its["comm"]: n for its, n in Scrape(metrics).samples("spawnstall_stall_seconds_count")}
    assert counts == {"first": 1, OTHER: 2, "nginx": 1, "worker": 2}


def test_the_container_label_if_configured() -> None:
    metrics = Metrics(FakeSource(), CLOCK, LabelOptions(container=True), "0.26.0")
    inside = Identity("/bin/x", 0, Container("0123456789abcdef" * 4, None, None))
    metrics.add_stall(dataclasses.replace(stall(), identity=inside))
    metrics.add_stall(stall())
    found = {its["container"] for its, _ in Scrape(metrics).samples("spawnstall_stall_seconds_count")}
    assert found == {"0123456789ab", ""}


def test_the_comm_filter_applies_to_spawns_too() -> None:
    source = FakeSource(
        by_comm={b"make": program(5), b"sh": program(1)},
        ongoing=(stall(ended=None, of=spawn(comm=b"sh")), stall(ended=None, of=spawn(comm=b"make"))),
    )
    metrics = metrics_of(source)
    metrics.configure(LabelOptions(), Filter(comms=["s*"]))
    scraped = Scrape(metrics)
    for name in (
        "spawnstall_spawns_total",
        "spawnstall_exposures_total",
        "spawnstall_late_wakeups_total",
        "spawnstall_stalls_in_progress",
    ):
        assert {its["comm"] for its, _ in scraped.samples(name)} - {OTHER} == {"sh"}


# -- values that make room --

HOUR = 3600.0


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    passed = 0.0
    monotonic = time.monotonic

    def let_pass(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(labels, "time", SimpleNamespace(monotonic=lambda: monotonic() + passed))
    return let_pass


def test_counters_stay_when_the_kernel_side_forgets_a_comm() -> None:
    """It counts from 0 when the comm returns; even a count that is no smaller is a new one."""
    source = FakeSource()
    options = LabelOptions(limit=1, allow=["c"], rules=[Rule(match="w-.", name="worker")])
    metrics = Metrics(source, CLOCK, options, "0.26.0")
    steady = program(1, since=1)
    for found, worker, rest in (
        ({b"w-1": program(5, since=1), b"b": program(7, since=1)}, 5, 7),
        ({}, 5, 7),
        ({b"w-1": program(6, since=2), b"b": program(7, since=2)}, 11, 14),
        ({b"w-1": program(6, since=2), b"b": program(9, since=2)}, 11, 16),
        ({b"w-1": program(6, since=3), b"b": program(9, since=3)}, 17, 25),
    ):
        source.by_comm = {b"a": steady, b"w-2": steady, **found}
        scraped = Scrape(metrics)
        assert scraped.value("spawnstall_spawns_total", comm="worker", outcome="ok") == worker + 1
        assert scraped.value("spawnstall_spawns_total", comm=OTHER, outcome="ok") == rest


def test_a_series_ends_when_the_kernel_side_forgets_its_comm() -> None:
    source = FakeSource(by_comm={b"a": program(5, since=1)})
    metrics = metrics_of(source)
    metrics.update()
    source.by_comm = {}
    assert [its["comm"] for its, _ in Scrape(metrics).samples("spawnstall_late_wakeups_total")] == [OTHER]
    source.by_comm = {b"a": program(1, since=2)}
    assert Scrape(metrics).value("spawnstall_spawns_total", comm="a", outcome="ok") == 1


def test_an_update_without_a_scrape_counts_too() -> None:
    """The kernel side forgets a comm after an hour, whether or not anybody scrapes."""
    source = FakeSource(by_comm={b"a": program(1), b"b": program(5, since=1)})
    metrics = metrics_of(source, limit=1)
    metrics.update()
    source.by_comm = {}
    assert Scrape(metrics).value("spawnstall_spawns_total", comm=OTHER, outcome="ok") == 5


def test_a_comm_gets_its_own_value_when_another_makes_room(later: Callable[[float], None]) -> None:
    """What was counted as ~other stays there: no counter goes back, and nothing is counted twice."""
    source = FakeSource(by_comm={b"a": program(5), b"b": program(7), OTHER.encode(): program(1)})
    metrics = metrics_of(source, limit=1)
    first = Scrape(metrics)
    assert first.value("spawnstall_spawns_total", comm=OTHER, outcome="ok") == 8
    later(HOUR)
    source.by_comm = {b"a": program(5), b"b": program(10), OTHER.encode(): program(2)}
    second = Scrape(metrics)
    assert {its["comm"] for its, _ in second.samples("spawnstall_spawns_total")} == {"b", OTHER}
    assert second.value("spawnstall_spawns_total", comm="b", outcome="ok") == 3
    assert second.value("spawnstall_spawns_total", comm=OTHER, outcome="ok") == 9
    source.by_comm = {b"a": program(6), b"b": program(10), OTHER.encode(): program(2)}
    assert Scrape(metrics).value("spawnstall_spawns_total", comm=OTHER, outcome="ok") == 10


def test_a_value_in_use_makes_no_room(later: Callable[[float], None]) -> None:
    source = FakeSource(by_comm={b"a": program(5)})
    metrics = metrics_of(source, limit=1)
    for number in range(6, 9):
        metrics.update()
        later(HOUR / 2)
        source.by_comm = {b"a": program(number), b"b": program(number)}
    assert {its["comm"] for its, _ in Scrape(metrics).samples("spawnstall_spawns_total")} == {"a", OTHER}


def test_stalls_without_competition_stay(later: Callable[[float], None]) -> None:
    """Prometheus cannot see the increase of a series that is new at each stall."""
    metrics = metrics_of(FakeSource(), limit=2)
    metrics.add_stall(stall())
    later(30 * HOUR)
    metrics.add_stall(stall(of=spawn(comm=b"other")))
    assert Scrape(metrics).value("spawnstall_stall_seconds_count", **LABELS) == 1


@pytest.mark.parametrize("which", ["comm", "holder", "container"])
def test_the_stalls_of_a_value_end_with_it(which: str, later: Callable[[float], None]) -> None:
    options = LabelOptions(limit=1, allow=["parent", "worker"], container=True)
    metrics = Metrics(FakeSource(), CLOCK, options, "0.26.0")

    def add(value: str) -> None:
        names = {"comm": "parent", "holder": "worker", which: value}
        inside = Identity(None, 0, Container((value.encode().hex() * 64)[:64], None, None))
        made = stall(holder(comm=names["holder"].encode()), of=spawn(comm=names["comm"].encode()))
        metrics.add_stall(dataclasses.replace(made, identity=inside if which == "container" else None))

    for value in ("first", "second"):
        add(value)
    before = {its[which]: number for its, number in _stalls(metrics)}
    later(HOUR)
    for value in ("third", "third"):
        add(value)
    after = {its[which]: number for its, number in _stalls(metrics)}
    (first,) = before.keys() - {OTHER}
    assert before == {first: 1, OTHER: 1}
    (third,) = after.keys() - {OTHER}
    assert third != first
    assert after == {third: 2, OTHER: 1}


def _stalls(metrics: Metrics) -> list[tuple[Labels, float]]:
    return Scrape(metrics).samples("spawnstall_stall_seconds_count")


def test_pairs_make_room_too(later: Callable[[float], None]) -> None:
    """The values of the pair stay: only the series that have both end."""
    parents = ["p1", "p2", "p3", "p4", "p5", "p6"]
    metrics = Metrics(FakeSource(), CLOCK, LabelOptions(limit=1, allow=parents), "0.26.0")
    for parent in parents[:5]:
        metrics.add_stall(stall(of=spawn(comm=parent.encode())))
    later(HOUR)
    metrics.add_stall(stall(of=spawn(comm=b"p6")))
    found = {(its["comm"], its["holder"]) for its, _ in _stalls(metrics)}
    assert found == {(parent, "worker") for parent in parents[1:]}


def test_a_limit_is_logged_once_with_its_key(
    later: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    source = FakeSource()
    metrics = metrics_of(source, limit=10)
    for spawns in range(1, 4):
        source.by_comm = {b"p%d" % number: program(spawns) for number in range(20)}
        metrics.update()
        later(HOUR / 3)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "limit of 10 values of the label comm is reached" in line
    assert "labels.limit" in line


def test_new_bounds_or_filters_start_the_series_anew() -> None:
    """As a restart does; spawns from before are not counted again."""
    source = FakeSource(by_comm={b"a": program(5), b"b": program(7)})
    metrics = metrics_of(source, limit=1)
    metrics.add_stall(stall())
    metrics.update()
    metrics.configure(LabelOptions(limit=2), Filter(comms=["!c"]))
    assert _stalls(metrics) == []
    assert [its["comm"] for its, _ in Scrape(metrics).samples("spawnstall_late_wakeups_total")] == [OTHER]
    source.by_comm = {b"a": program(5), b"b": program(8), b"c": program(1)}
    counts = {its["comm"]: n for its, n in Scrape(metrics).samples("spawnstall_spawns_total") if n}
    assert counts == {"b": 1}


# -- openmetrics --


def test_a_stall_is_the_exemplar_of_its_bucket() -> None:
    metrics = metrics_of(FakeSource())
    metrics.add_stall(stall())
    text = openmetrics.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    [line] = [line for line in text.splitlines() if "stall_id" in line]
    assert line.startswith("spawnstall_stall_seconds_bucket")
    assert f'# {{stall_id="{stall_id(stall())}"}} 0.5' in line


# -- the agent itself --


def test_probes_and_their_run_time() -> None:
    scraped = scrape()
    assert scraped.value("spawnstall_probe_attached", probe="task:task_newtask") == 1
    assert scraped.value("spawnstall_probe_attached", probe="syscalls:sys_enter_dup") == 0
    assert scraped.value("spawnstall_probe_runs_total", probe="task:task_newtask") == 7
    assert scraped.value("spawnstall_probe_run_seconds_total", probe="task:task_newtask") == 0.0015
    assert scraped.value("spawnstall_bpf_stats_enabled") == 1


def test_no_run_times_without_bpf_statistics() -> None:
    scraped = scrape(FakeSource(statuses={"task:task_newtask": ProbeStatus(True, None, None)}))
    assert scraped.samples("spawnstall_probe_runs_total") == []
    assert scraped.value("spawnstall_bpf_stats_enabled") == 0


def test_reloads_of_the_configuration() -> None:
    metrics = metrics_of(FakeSource())
    name = "spawnstall_config_last_reload_success"
    first = Scrape(metrics).value(f"{name}_timestamp_seconds")
    assert time.time() - 60 < first <= time.time()
    metrics.set_reloaded(False)
    assert Scrape(metrics).value(f"{name}ful") == 0
    assert Scrape(metrics).value(f"{name}_timestamp_seconds") == first
    metrics.set_reloaded(True)
    assert Scrape(metrics).value(f"{name}ful") == 1
    assert Scrape(metrics).value(f"{name}_timestamp_seconds") > first


def test_pairs_of_comm_and_holder_are_bounded_too() -> None:
    metrics = metrics_of(FakeSource(), limit=10)
    for parent in range(10):
        for other in range(10):
            made = stall(holder(comm=b"h%d" % other), of=spawn(comm=b"p%d" % parent))
            metrics.add_stall(made)
    samples = Scrape(metrics).samples("spawnstall_stall_seconds_count")
    assert len(samples) == 51
    [(_, rest)] = [(its, n) for its, n in samples if its["comm"] == OTHER]
    assert rest == 50
