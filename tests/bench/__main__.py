# SPDX-License-Identifier: Apache-2.0
"""Measure the cost of tracing beside no tracer and beside others; print tables, and write a JSON file.

    .venv/bin/python -m tests.bench [GROUP ...] [--rounds 5] [--seconds 1] [--json bench.json]
                                [--record]

Needs root, eBPF and gcc; peers that are not installed (config/setup.sh bench) are reported as missing.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench import agent_cpu, conditions, growth, memory, results, runtime, spawning, syscalls, targets
from tests.bench.bench import Bench, Group
from tests.bench.native import compile_all

_GROUPS: dict[str, Callable[[Bench], Group]] = {
    "syscalls": syscalls.run,
    "spawning": spawning.run,
    "memory": memory.run,
    "agent_cpu": agent_cpu.run,
    "growth": growth.run,
    "runtime": runtime.run,
}


def main() -> None:
    """Run the named groups, or all."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that peers are ended too
    result: dict[str, Any] = {
        "machine": conditions.describe(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "groups": {},
    }
    figures: dict[str, float] = {}
    console = Console(width=200)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        compile_all(Path(name))
        other = Path(options.other).resolve() if options.other else None
        bench = Bench(Path(name), options.rounds, options.seconds, other, options.alone)
        for group in options.groups or _GROUPS:
            found = _GROUPS[group](bench)
            result["groups"][group] = found.data
            figures.update(found.figures)
            for title, header, rows in found.tables:
                _print(console, title, header, rows)
            result["figures"] = figures
            if options.record:
                _record(group, options, found)
            # After each group, so that finished results survive a later failure.
            Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
    _print(console, "Targets", targets.HEADER, targets.rows(figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", choices=[*_GROUPS, []], metavar="GROUP", help=", ".join(_GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="duration of one measurement")
    parser.add_argument("--other", metavar="DIR", help="another checkout, whose agent is measured too")
    parser.add_argument("--alone", action="store_true", help="leave out the tracers of other projects")
    parser.add_argument("--json", default="bench.json", help="the file to write")
    parser.add_argument(
        "--record", action="store_true", help=f"also write the tables to {results.FOLDER}/GROUP.json"
    )
    return parser.parse_args()


def _record(group: str, options: argparse.Namespace, found: Group) -> None:
    how = f'`make bench BENCH="{group} --rounds {options.rounds} --seconds {options.seconds:g}"`'
    tables = {title: results.Table(header, rows) for title, header, rows in found.tables}
    names = {target.figure for target in targets.TARGETS}
    figures = {name: value for name, value in found.figures.items() if name in names}
    results.write(f"{results.FOLDER}/{group}.json", conditions.recorded(how, tables, figures))


def _print(console: Console, title: str, header: Sequence[str], rows: list[list[str]]) -> None:
    table = Table(*header, box=box.MARKDOWN)
    for row in rows:
        table.add_row(*row)
    console.print(f"\n{title}\n", highlight=False)
    console.print(table)


if __name__ == "__main__":
    main()
