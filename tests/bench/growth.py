# SPDX-License-Identifier: Apache-2.0
"""Growth: more processes on the host, more spawns in flight and more threads in one process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from agent import snapshot
from agent.reports.losses import LOSSES
from tests.bench import empty, stats
from tests.bench.bench import Bench, Group
from tests.bench.cost import cpu_seconds
from tests.bench.native import result_of
from tests.bench.peers import AGENT, tracepoints_of_the_agent
from tests.live.lab import Lab, RunningAgent

__all__ = ["SHAPES", "run", "words"]

_PROCESSES = (10, 100, 1000, 2000, 5000)
_PIPES = 10  # two files each
_STALL_MS = 600_000
_SETTLE_SECONDS = 5.0  # the agent's first look at /proc takes long beside many processes
SHAPES = (
    # How, threads, microseconds until the child's exec, during which each vfork is a spawn in flight.
    ("vfork", 1, 5000),
    ("vfork", 16, 5000),
    ("vfork", 64, 5000),
    ("vfork", 256, 5000),
    ("fork", 1, 0),
    ("fork", 8, 0),
    ("fork", 64, 0),
)


def run(bench: Bench) -> Group:
    """Measure snapshots and the agent beside many processes, then one process that spawns in many threads."""
    processes = [_beside(bench, number) for number in _PROCESSES]
    tracepoints = tracepoints_of_the_agent(bench)
    shapes = [
        {"agent": name, **shape}
        for name, lab in bench.labs.items()
        for shape in _shapes(bench, lab, tracepoints)
    ]
    header = [
        "processes",
        "snapshot of a stall, ms",
        "as a program, ms",
        "of a process that is not blocked, ms",
        "agent with that stall, % of a core",
    ]
    rows = [
        [
            f"{found['processes']:,}",
            *(found[name].text(0) for name in ("snapshot_ms", "program_ms", "quiet_ms")),
            f"{found['agent_percent']:.1f}",
        ]
        for found in processes
    ]
    shape_rows = [
        [
            words(found["agent"], found["how"], found["threads"]),
            found["rate"].text(0),
            *(found[name].text(2) for name in ("ratio", "stopped", "empty")),
            ", ".join(f"{name} {count:,.0f}" for name, count in found["losses"].items()) or "none",
        ]
        for found in shapes
    ]
    tables = [
        ("Beside processes with 20 files each", header, rows),
        (
            "One process that spawns",
            [
                "",
                "spawns a second beside the agent",
                "of untraced",
                "beside a stopped agent, of untraced",
                "beside an empty program, of untraced",
                "losses that the agent counted",
            ],
            shape_rows,
        ),
    ]
    data = {"processes": list(map(_plain, processes)), "spawning": list(map(_plain, shapes))}
    ours = [found for found in shapes if found["agent"] == AGENT]
    figures = {
        f"storm of {found['threads']} threads of untraced": found["ratio"].median
        for found in ours
        if found["how"] == "vfork"
    }
    figures["lost spawns of all storms"] = sum(sum(found["losses"].values()) for found in ours)
    figures.update(
        (f"snapshot.py beside {found['processes']:,} processes", found["program_ms"].median)
        for found in processes
    )
    return Group(data, tables, figures)


def words(agent: str, how: str, threads: int) -> str:
    """Return the first cell of a row: how the process spawns beside an agent."""
    spawning = f"{how}, {threads} thread{'' if threads == 1 else 's'}"
    return spawning if agent == AGENT else f"{agent}: {spawning}"


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: dataclasses.asdict(value) if isinstance(value, stats.Figure) else value
        for name, value in found.items()
    }


def _beside(bench: Bench, processes: int) -> dict[str, Any]:
    bench.say(f"{processes} processes")
    taken, alone, idle = [], [], []
    with _sleepers(bench, processes) as quiet:
        with _stall(bench) as stalled:
            program = [sys.executable, "-I", "-S", str(snapshot.__file__), str(stalled)]
            for _ in range(bench.rounds):
                taken.append(_milliseconds(lambda: snapshot.take(stalled)))
                alone.append(_milliseconds(lambda: subprocess.run(program, stdout=subprocess.DEVNULL)))
                idle.append(_milliseconds(lambda: snapshot.take(quiet)))
        with bench.lab.agent() as agent, _stall(bench):
            agent.wait_until(lambda: _stalls_in_progress(agent) > 0, 30)
            time.sleep(_SETTLE_SECONDS)
            cpu, began = cpu_seconds(agent.process.pid), time.monotonic()
            time.sleep(bench.seconds)
            percent = 100 * (cpu_seconds(agent.process.pid) - cpu) / (time.monotonic() - began)
    return {
        "processes": processes,
        "snapshot_ms": stats.figure(taken),
        "program_ms": stats.figure(alone),
        "quiet_ms": stats.figure(idle),
        "agent_percent": percent,
    }


def _stalls_in_progress(agent: RunningAgent) -> float:
    return sum(
        value for (name, _), value in agent.metrics().items() if name == "spawnstall_stalls_in_progress"
    )


def _milliseconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


@contextlib.contextmanager
def _sleepers(bench: Bench, processes: int) -> Iterator[int]:
    """Yield the pid of their parent, which is not blocked in a read on an errpipe."""
    parent = subprocess.Popen(
        bench.program("sleepers", processes, _PIPES), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdin is not None and parent.stdout is not None
    try:
        assert parent.stdout.readline() == b"ready\n"
        yield parent.pid
    finally:
        parent.stdin.close()
        parent.wait()
        parent.stdout.close()


@contextlib.contextmanager
def _stall(bench: Bench) -> Iterator[int]:
    """Yield the pid of a process that stalls until the block ends."""
    process = subprocess.Popen(
        bench.program("stalls", 1, 1, _STALL_MS), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 30
        while not snapshot.take(process.pid):
            assert process.poll() is None and time.monotonic() < deadline, "no stall"
            time.sleep(0.05)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _shapes(bench: Bench, lab: Lab, tracepoints: Sequence[str]) -> list[dict[str, Any]]:
    peers = ("untraced", "agent", "stopped", "empty")
    rates: dict[str, list[list[float]]] = {peer: [[] for _ in SHAPES] for peer in peers}
    losses: list[dict[str, float]] = [{} for _ in SHAPES]
    commands = [
        bench.program("spawns", how, threads, bench.seconds, 0, delay) for how, threads, delay in SHAPES
    ]
    for number in range(bench.rounds):
        bench.say(f"round {number + 1} of {bench.rounds}, many threads")
        for place, command in enumerate(commands):
            rates["untraced"][place].append(result_of(command)["rate"])
        for place, command in enumerate(commands):
            with lab.agent() as agent:  # a new one: after a storm of stalls it works for some time
                before = _losses(agent)
                rates["agent"][place].append(result_of(command)["rate"])
                for name, value in _losses(agent).items():
                    if value > before[name]:
                        losses[place][name] = losses[place].get(name, 0) + value - before[name]
            with lab.agent() as agent, _stopped(agent.process.pid):
                rates["stopped"][place].append(result_of(command)["rate"])
            with empty.attached(tracepoints, bench.folder):
                rates["empty"][place].append(result_of(command)["rate"])
    return [
        {
            "how": how,
            "threads": threads,
            "delay_us": delay,
            "rate": stats.figure(rates["agent"][place]),
            "ratio": stats.ratio(rates["agent"][place], rates["untraced"][place]),
            "stopped": stats.ratio(rates["stopped"][place], rates["untraced"][place]),
            "empty": stats.ratio(rates["empty"][place], rates["untraced"][place]),
            "losses": losses[place],
        }
        for place, (how, threads, delay) in enumerate(SHAPES)
    ]


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Stop the agent's process until the block ends: its eBPF programs go on alone."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _losses(agent: RunningAgent) -> dict[str, float]:
    metrics = agent.metrics()
    return {name: metrics.get((f"spawnstall_{name}_total", ()), 0) for name, _, _ in LOSSES}
