# SPDX-License-Identifier: Apache-2.0
"""Spawns a second of a program beside each tracer, and untraced."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tests.bench import peers, rounds, stats
from tests.bench.bench import Bench, Group
from tests.bench.native import result_of
from tests.live.lab import PYTHON

__all__ = ["run"]

_POPEN = """
import os, subprocess, sys, time
began, count, seconds = time.monotonic(), 0, float(sys.argv[1])
while time.monotonic() < began + seconds:
    subprocess.Popen(["/bin/true"]).wait()
    count += 1
used = sum(os.times()[:4]) * 1e6 / count
print('{"rate": %f, "cpu_us": %f}' % (count / (time.monotonic() - began), used))
"""
_KINDS = {
    "rate": ("Spawns a second, in units of the untraced rate", "spawns a second"),
    "cpu_us": ("CPU time of a spawn, in units of the untraced one's", "microseconds"),
}


def run(bench: Bench) -> Group:
    """Measure Popen and wait in Python, posix_spawn in C, and fork and exec from eight threads in C."""
    commands = {
        "Popen, Python": [PYTHON, "-c", _POPEN, str(bench.seconds)],
        "posix_spawn, C": bench.program("spawns", "posix_spawn", 1, bench.seconds),
        "fork + exec, 8 threads, C": bench.program("spawns", "fork", 8, bench.seconds),
    }

    def measure(prefix: Sequence[str]) -> dict[str, float]:
        found = {name: result_of([*prefix, *command]) for name, command in commands.items()}
        return {name + kind: each[kind] for name, each in found.items() for kind in _KINDS}

    everybody = [*peers.hosts(bench, peers.tracepoints_of_the_agent(bench)), *peers.followers(bench)]
    found = rounds.interleaved(bench, everybody, measure)
    data: dict[str, Any] = {"cannot": found.cannot, "disturbed": found.disturbed}
    tables, figures = [], {}
    for kind, (words, unit) in _KINDS.items():
        alone = {name: found.values[peers.NOTHING][name + kind] for name in commands}
        ratios = {
            peer: {name: stats.ratio(values[name + kind], alone[name]) for name in commands}
            for peer, values in found.values.items()
            if peer != peers.NOTHING
        }
        rows = [[f"untraced, {unit}", *(stats.figure(alone[name]).text(0) for name in commands)]]
        rows += [[peer, *(figure.text(3) for figure in each.values())] for peer, each in ratios.items()]
        rows += [[peer, why] + [""] * (len(commands) - 1) for peer, why in found.cannot.items()]
        rows.append(found.last_row(len(commands) + 1))
        tables.append((words, ["", *commands], rows))
        data[kind] = {
            "untraced": {name: dataclasses.asdict(stats.figure(alone[name])) for name in commands},
            "ratio": {
                peer: {name: dataclasses.asdict(figure) for name, figure in each.items()}
                for peer, each in ratios.items()
            },
        }
        if kind == "rate":
            empty, agent = found.values[peers.EMPTY], found.values[peers.AGENT]
            figures = {
                f"{name} of the empty program's": stats.ratio(agent[name + kind], empty[name + kind]).median
                for name in commands
            }
    return Group(data, tables, figures)
