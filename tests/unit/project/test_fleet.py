# SPDX-License-Identifier: Apache-2.0
"""tests.bench.fleet: the made-up fleet is like real agents, and queries without recordings mean the same."""

from __future__ import annotations

import functools
import gzip
import re
import urllib.request
from pathlib import Path

import promql_parser
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.tracing.translate import MapUse, ProbeStatus
from dashboards.preview import lognormal
from tests.bench.fleet.hosts import KINDS, Kind, Template, exposition, series_by_part, source_like
from tests.bench.fleet.queries import targets_of, without_recordings
from tests.bench.fleet.server import serving
from tests.bench.fleet.table import tables
from tests.metrics_contract import contract
from tests.unit.serve.test_metrics import FakeSource

QUIET, BUSY, WORST = KINDS
VARIABLES = {"cluster": ".*", "job": "spawnstall", "instance": ".*", "__rate_interval": "2m", "__range": "6h"}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@functools.cache
def _exposition(kind: Kind) -> str:
    return exposition(kind, FakeSource())


def _samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_host_has_the_series_that_its_parts_add_up_to(kind: Kind) -> None:
    parts = series_by_part(FakeSource())
    gauges = 2 * (kind.stalls // 10) + 2 * (kind.stalls >= 10)  # of what is in progress
    expected = (
        parts["host"] + kind.comms * parts["comm"] + kind.stalls * parts["comm, holder, cause"] + gauges
    )
    assert Template(_exposition(kind)).series == expected


def test_a_busy_host_has_every_metric_of_the_contract(repo_root: Path) -> None:
    names = {name for name, _ in _samples(exposition(BUSY, FakeSource()))}
    assert set(contract(repo_root)) == names


def test_the_limit_of_label_values_loses_none() -> None:
    # Without the parser, which takes seconds.
    stalled = re.findall(r"(?m)^\w+_count\{(.*holder=.*)\} ", _exposition(WORST))
    assert len([labels for labels in stalled if '"~other"' not in labels]) == 500


def test_the_maps_and_probes_are_those_of_the_agent_that_was_asked() -> None:
    like = FakeSource(
        uses={"spawns": MapUse(3, 512, None), "processes": MapUse(2, 64, 0)},
        statuses={"a:b": ProbeStatus(True, None, None), "c:d": ProbeStatus(False, None, None)},
    )
    found = source_like(_samples(exposition(QUIET, like)))
    assert (found.uses, found.statuses) == (like.uses, like.statuses)


def test_after_its_first_hour_a_host_exports_what_agent_metrics_exported() -> None:
    text = exposition(BUSY, FakeSource())
    assert _samples(Template(text).render(3600)) == pytest.approx(_samples(text), rel=1e-6, abs=1)


def test_counters_rise_and_gauges_stay() -> None:
    template = Template(exposition(BUSY, FakeSource()))
    before, after = _samples(template.render(3600)), _samples(template.render(7200))
    assert before.keys() == after.keys()
    assert all(after[series] >= before[series] for series in before)
    rising = {name for name, labels in before if after[name, labels] > before[name, labels]}
    assert {
        "spawnstall_spawns_total",
        "spawnstall_stall_seconds_bucket",
        "spawnstall_exec_seconds_sum",
    } <= rising
    assert all(name.endswith(("_total", "_bucket", "_count", "_sum")) for name in rising)


def test_the_server_answers_for_each_agent_until_the_block_ends() -> None:
    templates = [Template(exposition(kind, FakeSource())) for kind in (QUIET, BUSY)]
    with serving(templates) as port:
        urls = [f"http://127.0.0.1:{port}/{number}" for number in range(2)]
        for url, template in zip(urls, templates, strict=True):
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert len(_samples(gzip.decompress(answer.read()).decode())) == template.series
    with pytest.raises(OSError):
        urllib.request.urlopen(urls[0], timeout=30)


def test_half_of_a_log_normal_is_below_its_median() -> None:
    shares = lognormal.shares(lognormal.BOUNDS[4], 0.7)
    assert len(shares) == len(lognormal.BOUNDS) + 1
    assert sum(shares) == pytest.approx(1)
    assert sum(shares[:5]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("expr", "raw"),
    [
        ("sum(up)", "sum(up)"),
        (
            'rate(spawnstall_records_lost_total{job="a"}[5m])',
            'rate(spawnstall_records_lost_total{job="a"}[5m])',
        ),
        (
            'sum by (outcome) (instance_outcome:spawnstall_spawns:rate5m{job="a"})',
            "sum by (outcome) ((sum by (cluster, job, instance, outcome) "
            '(rate(spawnstall_spawns_total{job="a"}[5m]))))',
        ),
        (
            'sum_over_time(instance:spawnstall_probe_attached:min{job="a"}[6h])',
            'sum_over_time((min by (cluster, job, instance) (spawnstall_probe_attached{job="a"}))[6h:60s])',
        ),
        (
            'instance:spawnstall_spawns:rate5m{job="a"}',
            "(sum without (le) ((sum by (cluster, job, instance, le) "
            '(rate(spawnstall_spawn_seconds_bucket{le="+Inf", job="a"}[5m])))))',
        ),
    ],
)
def test_a_query_without_recordings(expr: str, raw: str) -> None:
    assert without_recordings(expr) == raw


@pytest.mark.parametrize("dashboard", ["fleet", "host"])
def test_every_panel_can_be_asked_without_recordings(repo_root: Path, dashboard: str) -> None:
    targets = targets_of(repo_root, dashboard, VARIABLES)
    assert targets
    for target in targets:
        raw = without_recordings(target.expr)
        promql_parser.parse(raw)
        assert ":rate5m" not in raw and ":ratio" not in raw and ":p99" not in raw


def test_the_tables_name_what_was_not_answered() -> None:
    result = {
        "hosts": {"quiet": 3},
        "series_of_a_host": {"quiet": 400},
        "series_by_part": {"host": 100, "comm": 78},
        "scrape_interval_seconds": 30,
        "prometheus": {
            "head_series": 1234567,
            "recorded_series": 10,
            "resident_bytes": 2**31,
            "resident_bytes_most": 3 * 2**30,
            "cpus": 0.5,
            "samples_a_second": 40.0,
            "scrape_seconds_median": 0.002,
            "scrape_seconds_most": 0.5,
            "scrapes_failed": 0.0,
        },
        "rules": {"recording": {"seconds": 1.5}},
        "storage": {"bytes_a_sample": 1.5},
        "panels": [
            {
                "dashboard": "fleet",
                "panel": "Heatmap",
                "queries": 1,
                "instant": 0.001,
                "range": 0.25,
                "without_recordings": None,
                "recordings": True,
            },
            {
                "dashboard": "fleet",
                "panel": "Up",
                "queries": 1,
                "instant": 0.002,
                "without_recordings": 0.002,
                "recordings": False,
            },
        ],
    }
    lines = [line for table in tables(result).values() for line in table.markdown().splitlines()]
    assert "| quiet | 3 | 400 |" in lines
    assert "| series in the head | 1,234,567 |" in lines
    assert "| memory (resident) | 2.0 GiB |" in lines
    assert "| fleet | Heatmap | 1 | 1 ms | 250 ms | not answered |" in lines
    assert "| fleet | Up | 1 | 2 ms |  |  |" in lines
