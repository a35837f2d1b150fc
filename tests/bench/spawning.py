"""How many spawns a second a program makes beside each tracer, and untraced."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tests.bench import peers, rounds, stats
from tests.bench.bench import Bench, Group
from tests.bench.native import said
from tests.live.lab import PYTHON

__all__ = ["run"]

_POPEN = """
import subprocess, sys, time
began, count, seconds = time.monotonic(), 0, float(sys.argv[1])
while time.monotonic() < began + seconds:
    subprocess.Popen(["/bin/true"]).wait()
    count += 1
print('{"rate": %f}' % (count / (time.monotonic() - began)))
"""
_AGENT = "the agent"


def run(bench: Bench) -> Group:
    """Popen and wait in Python, posix_spawn in C, and fork and exec from eight threads in C."""
    commands = {
        "Popen, Python": [PYTHON, "-c", _POPEN, str(bench.seconds)],
        "posix_spawn, C": bench.program("spawns", "posix_spawn", 1, bench.seconds),
        "fork + exec, 8 threads, C": bench.program("spawns", "fork", 8, bench.seconds),
    }

    def measure(prefix: Sequence[str]) -> dict[str, float]:
        return {name: said([*prefix, *command])["rate"] for name, command in commands.items()}

    everybody = [*peers.hosts(bench, peers.tracepoints_of_the_agent(bench)), *peers.followers()]
    found = rounds.interleaved(bench, everybody, measure)
    alone = found.values[peers.NOTHING]
    ratios = {
        peer: {name: stats.ratio(values[name], alone[name]) for name in commands}
        for peer, values in found.values.items()
        if peer != peers.NOTHING
    }
    rows = [["untraced, spawns a second", *(stats.figure(alone[name]).text(0) for name in commands)]]
    rows += [[peer, *(figure.text(3) for figure in each.values())] for peer, each in ratios.items()]
    rows += [[peer, why] + [""] * (len(commands) - 1) for peer, why in found.cannot.items()]
    data = {
        "untraced_spawns_a_second": {
            name: dataclasses.asdict(stats.figure(alone[name])) for name in commands
        },
        "ratio": {
            peer: {name: dataclasses.asdict(figure) for name, figure in each.items()}
            for peer, each in ratios.items()
        },
        "cannot": found.cannot,
        "disturbed": found.disturbed,
    }
    title = f"Spawns a second, in units of the untraced rate; {found.disturbed} disturbed"
    figures = {f"{name} of untraced": figure.median for name, figure in ratios[_AGENT].items()}
    return Group(data, [(title, ["", *commands], rows)], figures)
