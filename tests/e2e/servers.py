"""A real Prometheus and a real Alertmanager on free loopback ports."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Alertmanager", "Prometheus", "alertmanager", "eventually", "prometheus"]


def eventually(check: Callable[[], bool], what: Callable[[], str], seconds: float = 300) -> None:
    """Returns when the check holds; fails with ``what()`` when it does not within so long."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


@dataclass(frozen=True)
class Alertmanager:
    """One that runs."""

    port: int

    def alerts(self) -> list[dict[str, Any]]:
        """Those that are active: Prometheus has sent them, and has not sent their end."""
        return [dict(alert) for alert in _get(self.port, "/api/v2/alerts", {"active": "true"})]


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    port: int

    def get(self, path: str, query: dict[str, str], seconds: float = 30) -> Any:
        """What its HTTP API answers, within so long; raises OSError."""
        return _get(self.port, path, query, seconds)

    def own_metrics(self) -> dict[str, float]:
        """What it says of itself: the sum of each name's samples."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        sums: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
        return sums

    def instant(self, expr: str) -> list[float]:
        """The values that are numbers."""
        answer = self.get("/api/v1/query", {"query": expr})
        return _numbers(series["value"] for series in answer["data"]["result"])

    def over_time(self, expr: str, seconds: int) -> list[float]:
        """The values that are numbers, of the last seconds, one a second."""
        now = time.time()
        query = {"query": expr, "start": str(now - seconds), "end": str(now), "step": "1"}
        answer = self.get("/api/v1/query_range", query)
        return _numbers(value for series in answer["data"]["result"] for value in series["values"])


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    """Without receivers; ended by SIGTERM."""
    port = _free_port()
    config = folder / "alertmanager.yaml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with _running(command, folder / "alertmanager.log", port):
        yield Alertmanager(port)


@contextlib.contextmanager
def prometheus(folder: Path, config: dict[str, Any], *flags: str) -> Iterator[Prometheus]:
    """With that configuration and flags; ended by SIGTERM."""
    port = _free_port()
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    with _running(command, folder / "prometheus.log", port):
        yield Prometheus(port)


@contextlib.contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or _ready(port), log.read_text, 60)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(120)  # a Prometheus with millions of series takes its time


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10):
            return True
    except OSError:
        return False


def _get(port: int, path: str, query: dict[str, str], seconds: float = 30) -> Any:
    url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return json.load(answer)


def _numbers(pairs: Any) -> list[float]:
    return [value for _, text in pairs if not math.isnan(value := float(text))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
