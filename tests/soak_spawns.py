# SPDX-License-Identifier: Apache-2.0
"""`make soak-spawns`: a million spawns at full speed beside an agent, which must count each one and not grow.

    python -m tests.soak_spawns [--spawns 1000000]

The program ``spawns`` of tests/bench makes them, in turn by vfork, fork and posix_spawn (which has no
errpipe), in two threads, so that each often holds the other's errpipe for a moment.  Prints the counts, and
memory and map entries after a tenth of the spawns and at the end; the last line is "passed", or what is
wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.cost import Memory, memory
from tests.bench.native import compile_all, result_of
from tests.live.lab import Lab, RunningAgent

__all__ = ["Soak", "State", "soak"]

_WAYS = ("vfork", "fork", "posix_spawn")
_ROUND_SECONDS = 20.0
_THREADS = 2
_LOSSES = (
    "spawnstall_records_lost_total",
    "spawnstall_slots_overflowed_total",
    "spawnstall_spawns_unfinished_total",
    "spawnstall_numbers_overflowed_total",
    "spawnstall_walks_cut_total",
    "spawnstall_map_updates_failed_total",
)
_MAX_GROWTH_MIB = 5.0  # from a tenth of the spawns on; a byte kept for each of a million spawns is 1 MiB
_MAX_ENTRIES_GROWN = 100  # other programs on the host spawn too


@dataclass(frozen=True)
class State:
    """The agent's memory and map entries at one moment."""

    spawns: int
    memory: Memory
    entries: dict[str, float]

    def text(self) -> str:
        """One line."""
        entries = ", ".join(f"{count:.0f} {name}" for name, count in self.entries.items())
        taken = f"RSS {self.memory.rss:.1f} MiB, private {self.memory.private:.1f} MiB"
        return f"after {self.spawns:,}: {taken}; in the maps {entries}"


@dataclass
class Soak:
    """Results. made, counted: spawns by way; states: after a tenth of the spawns, and at the end."""

    made: Counter[str] = field(default_factory=Counter)
    counted: dict[str, float] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return one line for each problem."""
        first, last = self.states[0], self.states[-1]
        wrong = [
            f"{way}: {made:,} spawns made, {self.counted[way]:,.0f} counted"
            for way, made in self.made.items()
            if made != self.counted[way]
        ]
        wrong += [f"{name} is {value:.0f}" for name, value in self.lost.items() if value]
        for name in ("rss", "private"):
            grown = getattr(last.memory, name) - getattr(first.memory, name)
            if grown > _MAX_GROWTH_MIB:
                wrong.append(f"{name} has grown by {grown:.1f} MiB")
        wrong += [
            f"the map {name} has grown from {first.entries[name]:.0f} to {count:.0f} entries"
            for name, count in last.entries.items()
            if count - first.entries[name] > _MAX_ENTRIES_GROWN
        ]
        return wrong


def soak(lab: Lab, spawns: int, round_seconds: float, say: Callable[[str], None]) -> Soak:
    """Make at least this many spawns, and two rounds of each way."""
    compile_all(lab.folder)
    for way in _WAYS:  # a comm for each
        shutil.copy(lab.folder / "spawns", lab.folder / _comm(way))
    result = Soak()
    with lab.agent(stalls={"min_ms": 100}) as agent:
        for way in _rounds(result, spawns):
            done = result_of([str(lab.folder / _comm(way)), way, str(_THREADS), str(round_seconds)])
            result.made[way] += int(done["spawns"])
            made = sum(result.made.values())
            say(f"{made:,} spawns, {done['rate']:,.0f}/s by {way}")
            if not result.states and made >= spawns / 10 and len(result.made) == len(_WAYS):
                result.states.append(_state(agent, made))
        result.states.append(_state(agent, sum(result.made.values())))
        metrics = agent.metrics()
        result.counted = {way: _counted(metrics, way) for way in _WAYS}
        result.lost = {name: metrics[name, ()] for name in _LOSSES}
        for name in ("spawns", "processes"):
            evicted = "spawnstall_map_evictions_total", (("map", name),)
            result.lost[f"{evicted[0]} of {name}"] = metrics.get(evicted, 0)
    return result


def main() -> int:
    """Run the command line; return 0 if all spawns are counted and the agent has not grown."""
    parser = argparse.ArgumentParser(prog="soak-spawns", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--spawns", type=int, default=1_000_000)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spawnstall-soak-") as folder:
        lab = Lab(Path(__file__).resolve().parent.parent, Path(folder))
        result = soak(lab, options.spawns, _ROUND_SECONDS, lambda text: print(text, flush=True))
    print(f"kernel {platform.release()}, {time.monotonic() - began:.0f} s")
    for way, made in result.made.items():
        print(f"{way}: {made:,} made, {result.counted[way]:,.0f} counted")
    for state in result.states:
        print(state.text())
    problems = result.problems()
    print("\n".join(problems) or "passed")
    return 1 if problems else 0


def _rounds(result: Soak, spawns: int) -> Iterator[str]:
    """Yield the ways in turn, until there are enough spawns."""
    rounds = 0
    while rounds < 2 or sum(result.made.values()) < spawns:
        yield from _WAYS
        rounds += 1


def _comm(way: str) -> str:
    """The comm of a way, unique to this process: another soak can be running on the same host."""
    return f"{way[:5]}-{os.getpid()}"


def _counted(metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float], way: str) -> float:
    if way == "posix_spawn":
        return metrics["spawnstall_vfork_seconds_count", (("comm", _comm(way)),)]
    total = 0.0
    for outcome in ("ok", "exec_failed", "abandoned"):
        with contextlib.suppress(KeyError):
            total += metrics["spawnstall_spawns_total", (("comm", _comm(way)), ("outcome", outcome))]
    return total


def _state(agent: RunningAgent, spawns: int) -> State:
    metrics = agent.metrics()
    entries = {name: metrics["spawnstall_map_entries", (("map", name),)] for name in ("spawns", "processes")}
    return State(spawns, memory(agent.process.pid), entries)


if __name__ == "__main__":
    sys.exit(main())
