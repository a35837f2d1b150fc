# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds that tracing adds to a system call of a process that starts no programs."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
from collections.abc import Sequence

from tests.bench import peers, rounds, stats
from tests.bench.bench import Bench, Group

__all__ = ["run"]


def run(bench: Bench) -> Group:
    """Measure with one and with two busy cores, if there are two."""
    tracepoints = peers.tracepoints_of_the_agent(bench)
    data: dict[str, object] = {"tracepoints": tracepoints}
    tables, figures = [], {}
    cores_here = sorted(os.sched_getaffinity(0))
    for cores in sorted({1, min(2, len(cores_here))}):
        found = rounds.interleaved(
            bench,
            peers.hosts(bench, tracepoints),
            lambda _prefix, cpus=cores_here[:cores]: _measure(bench, cpus),  # type: ignore[misc]
        )
        alone = found.values[peers.NOTHING]
        added = {
            peer: {call: stats.added(values[call], alone[call]) for call in alone}
            for peer, values in found.values.items()
            if peer != peers.NOTHING
        }
        data[f"cores_{cores}"] = {
            "untraced_ns": {call: dataclasses.asdict(stats.figure(alone[call])) for call in alone},
            "added_ns": {
                peer: {call: dataclasses.asdict(figure) for call, figure in calls.items()}
                for peer, calls in added.items()
            },
            "cannot": found.cannot,
            "disturbed": found.disturbed,
        }
        rows = [["untraced", *(stats.figure(alone[call]).text(0) for call in alone)]]
        rows += [
            [f"added by {peer}", *(figure.text(0) for figure in calls.values())]
            for peer, calls in added.items()
        ]
        rows += [[f"added by {peer}", why] + [""] * (len(alone) - 1) for peer, why in found.cannot.items()]
        rows.append(found.last_row(len(alone) + 1))
        title = f"System calls of a process that starts no programs, ns a call, {cores} busy core(s)"
        tables.append((title, ["", *alone], rows))
        if cores == 1:
            for call in alone:
                figures[f"{call} of the empty program's"] = (
                    added[peers.AGENT][call].median / added[peers.EMPTY][call].median
                )
    return Group(data, tables, figures)


def _measure(bench: Bench, cpus: Sequence[int]) -> dict[str, float]:
    """Return the mean over the cores, which are busy at the same time."""
    programs = [
        subprocess.Popen(bench.program("calls", cpu, bench.seconds), stdout=subprocess.PIPE, text=True)
        for cpu in cpus
    ]
    results = [json.loads(program.communicate()[0]) for program in programs]
    return {call: statistics.fmean(each[call] for each in results) for call in results[0]}
