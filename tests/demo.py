# SPDX-License-Identifier: Apache-2.0
"""``make demo``: run the agent, provoke stalls for ten seconds, and show what the agent reports."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.live.lab import Lab, Object, RunningAgent

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

_SECONDS = 10
_MAX_STALLS = 5
_SHOWN_METRICS = ("spawnstall_spawns_total", "spawnstall_stall_seconds_count", "spawnstall_stall_seconds_sum")


def main() -> int:
    """Run the demo; return 0 if the agent found stalls."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="spawnstall-demo-") as folder:
        lab = Lab(Path(__file__).resolve().parent.parent, Path(folder))
        console.print("[bold]starting the agent[/] (trace-popen agent)")
        with lab.agent() as agent:
            before = agent.metrics()
            console.print(f"[bold]provoking stalls for {_SECONDS} s[/] (tests/programs/demo.py)")
            console.print("  threads of web-app start programs; another one forks workers that never exec")
            subprocess.run(lab.program("demo.py", "--seconds", str(_SECONDS)), check=True)
            time.sleep(0.5)
            stalls = [stall for stall in agent.stalls() if stall["state"] == "ended"]
            console.print(_stalls_table(stalls))
            console.print("[bold]metrics that changed[/]")
            for line in _changed(agent, before):
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if not stalls:
        console.print("no stall happened this time, which is rare; run it again")
    return 0 if stalls else 1


def _stalls_table(stalls: list[Object]) -> Table:
    title = f"the longest of {len(stalls)} stalls in the agent's log"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)
    for column in ("parent", "stall", "child", "holder", "cause"):
        table.add_column(column, no_wrap=True)
    for stall in sorted(stalls, key=lambda stall: -stall["stall_seconds"])[:_MAX_STALLS]:
        holder = stall["holders"][0]
        table.add_row(
            f"{stall['parent']['comm']} ({stall['parent']['pid']})",
            f"{stall['stall_seconds'] * 1e3:.0f} ms",
            f"{stall['child']['comm']} ({stall['child']['pid']})",
            f"{holder['comm']} ({holder['pid']})",
            holder["cause"],
        )
    return table


def _changed(agent: RunningAgent, before: Samples) -> Iterator[str]:
    for (name, labels), value in sorted(agent.metrics().items()):
        if name in _SHOWN_METRICS and "web-app" in dict(labels).values():
            text = ",".join(f"{key}={json.dumps(label)}" for key, label in labels)
            if before.get((name, labels), 0) != value:
                yield f"{name}{{{text}}} {value:.6g}"


if __name__ == "__main__":
    sys.exit(main())
