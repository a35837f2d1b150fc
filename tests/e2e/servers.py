# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus and a real Alertmanager on free loopback ports."""

from __future__ import annotations

import contextlib
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dashboards.preview import servers

__all__ = ["Alertmanager", "Prometheus", "alertmanager", "eventually", "prometheus"]


def eventually(check: Callable[[], bool], what: Callable[[], str], seconds: float = 300) -> None:
    """Return when the check holds; fail with ``what()`` if it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


@dataclass(frozen=True)
class Alertmanager:
    """A running Alertmanager."""

    port: int

    def alerts(self) -> list[dict[str, Any]]:
        """Return the active alerts: sent by Prometheus, and not resolved."""
        return [dict(alert) for alert in _get(self.port, "/api/v2/alerts", {"active": "true"})]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    port: int

    def get(self, path: str, query: dict[str, str], seconds: float = 30) -> Any:
        """Return the answer of the HTTP API in time; raises OSError."""
        return _get(self.port, path, query, seconds)

    def own_metrics(self) -> dict[str, float]:
        """Return its own metrics: the sum of the samples of each name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        sums: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
        return sums

    def instant(self, expr: str) -> list[float]:
        """Return the values of an instant query, without NaN."""
        answer = self.get("/api/v1/query", {"query": expr})
        return _numbers(series["value"] for series in answer["data"]["result"])

    def over_time(self, expr: str, seconds: int) -> list[float]:
        """Return the values of a range query over the last seconds, one per second, without NaN."""
        now = time.time()
        query = {"query": expr, "start": str(now - seconds), "end": str(now), "step": "1"}
        answer = self.get("/api/v1/query_range", query)
        return _numbers(value for series in answer["data"]["result"] for value in series["values"])


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Run one without receivers until the block ends."""
    port = servers.free_port()
    config = folder / "alertmanager.yaml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with servers.running(command, folder / "alertmanager.log", port):
        yield Alertmanager(port)


@contextlib.contextmanager
def prometheus(folder: Path, config: dict[str, Any], *flags: str) -> Iterator[Prometheus]:
    """Run one with that configuration and flags until the block ends."""
    with servers.prometheus(folder, config, *flags) as port:
        yield Prometheus(port)


def _get(port: int, path: str, query: dict[str, str], seconds: float = 30) -> Any:
    url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return json.load(answer)


def _numbers(pairs: Any) -> list[float]:
    return [value for _, text in pairs if not math.isnan(value := float(text))]
