# SPDX-License-Identifier: Apache-2.0
"""A thousand simulated agents scraped by one Prometheus: series, memory, CPU, and the time of every panel.

    .venv/bin/python -m tests.bench.fleet [--agents 1000] [--minutes 8] [--json fleet.json]
                                      [--record]

Needs Prometheus (make setup-e2e), and root and eBPF for the one real agent, whose maps and probes the
others copy.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from tests.bench import conditions, results
from tests.bench.fleet import measure, table
from tests.bench.fleet.hosts import KINDS, Kind, Template, exposition, series_by_part, source_like
from tests.bench.fleet.server import serving
from tests.e2e.servers import eventually, prometheus
from tests.live.lab import Lab

_ROOT = Path(__file__).resolve().parents[3]


def main() -> None:
    """Print tables (Markdown), and write the JSON file."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are ended too
    kinds = _kinds(options.agents, options.busy, options.worst)
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        with Lab(_ROOT, folder).agent() as agent:
            like = source_like(agent.metrics())
        templates = {kind: Template(exposition(kind, like)) for kind in KINDS}
        hosts = [templates[kind] for kind in kinds]
        flags = ("--web.enable-admin-api",)
        with (
            serving(hosts) as port,
            prometheus(folder, _config(port, len(hosts), options.interval), *flags) as server,
        ):
            up = 'count(up{job="spawnstall"} == 1)'
            eventually(lambda: server.instant(up) == [len(hosts)], lambda: f"up: {server.instant(up)}")
            one_of_each = {kind.name: _instance(number) for number, kind in enumerate(kinds)}
            load = measure.load(server, options.minutes * 60)
            shape = measure.Shape(
                options.minutes * 60, options.interval, options.points, options.rounds, options.patience
            )
            result: dict[str, Any] = {
                "hosts": Counter(kind.name for kind in kinds),
                "series_of_a_host": {kind.name: template.series for kind, template in templates.items()},
                "series_by_part": series_by_part(like),
                "minutes": options.minutes,
                "scrape_interval_seconds": options.interval,
                "prometheus": load,
                "rules": measure.rules(server),
                "panels": measure.panels(server, _ROOT, shape, one_of_each),
                "storage": measure.storage(server, folder / "prometheus"),
            }
    Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
    tables = table.tables(result)
    for title, each in tables.items():
        print(f"\n{title}\n\n{each.markdown()}")
    if options.record:
        how = f'`make bench-fleet FLEET="--agents {options.agents} --minutes {options.minutes}"`'
        results.write(f"{results.FOLDER}/fleet.json", conditions.recorded(how, tables))


def _options(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--busy", type=float, default=30, help="percentage of busy agents")
    parser.add_argument("--worst", type=float, default=1, help="percentage of agents at labels.limit")
    parser.add_argument("--minutes", type=int, default=8, help="of scraping before the measurements")
    parser.add_argument("--interval", type=int, default=30, help="scrape interval in seconds")
    parser.add_argument("--points", type=int, default=720, help="of a graph: 720 for 6 h")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each query, for the median")
    parser.add_argument("--patience", type=int, default=20, help="seconds for a query without recordings")
    parser.add_argument("--json", default="fleet.json", help="the file to write")
    parser.add_argument("--record", action="store_true", help=f"also write {results.FOLDER}/fleet.json")
    return parser.parse_args(arguments)


def _kinds(agents: int, busy: float, worst: float) -> list[Kind]:
    """Return a kind for each host, the heaviest last."""
    quiet, middle, heaviest = KINDS
    most, some = round(agents * worst / 100), round(agents * busy / 100)
    return [quiet] * (agents - some - most) + [middle] * some + [heaviest] * most


def _instance(number: int) -> str:
    return f"host{number:05}:9848"


def _config(port: int, agents: int, interval: int) -> dict[str, Any]:
    rules = _ROOT / "config" / "prometheus"
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"__metrics_path__": f"/{number}", "instance": _instance(number)},
        }
        for number in range(agents)
    ]
    return {
        "global": {"scrape_interval": f"{interval}s", "scrape_timeout": f"{min(10, interval)}s"},
        "scrape_configs": [{"job_name": "spawnstall", "static_configs": targets}],
        "rule_files": [str(rules / "recording.yaml"), str(rules / "alerts.yaml")],
    }


if __name__ == "__main__":
    main()
