# SPDX-License-Identifier: Apache-2.0
"""Give every pipe that a program creates a foreign holder, by preloading foreign_fork.c."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.live.lab import Traced

__all__ = ["LIVE_SECONDS", "LOOP_LIVE_SECONDS", "Preload"]

LIVE_SECONDS = 0.5
"""How long a holder lives."""

LOOP_LIVE_SECONDS = 0.05
"""The same for workers that are forked continuously."""

_TOLERANCE_SECONDS = 0.01


class Preload:
    """Give a program foreign holders, by foreign_fork.c."""

    def __init__(self, repo_root: Path, folder: Path) -> None:
        source = repo_root / "tests" / "programs" / "runtimes" / "foreign_fork.c"
        self._library = folder / "foreign_fork.so"
        self._pids = folder / "pids"
        options = ["-O2", "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *options, "-o", str(self._library), str(source), "-ldl"], check=True)

    def fork(self, command: Sequence[str]) -> list[str]:
        """Give every pipe a worker that does not exec."""
        return self._with("fork", LIVE_SECONDS, command)

    def exec(self, command: Sequence[str]) -> list[str]:
        """Give every pipe a worker that calls exec at once, and keeps what is not close-on-exec."""
        return self._with("exec", LIVE_SECONDS, command)

    def loop(self, command: Sequence[str]) -> list[str]:
        """Fork workers that do not exec continuously."""
        return self._with("loop", LOOP_LIVE_SECONDS, command)

    def _with(self, how: str, live: float, command: Sequence[str]) -> list[str]:
        self._pids.unlink(missing_ok=True)
        variables = {
            "FOREIGN_FORK": how,
            "FOREIGN_FORK_MS": f"{live * 1000:.0f}",
            "FOREIGN_FORK_PIDS": str(self._pids),
            # git_spawn.sh is a shell, and passes it on
            "PRELOAD" if command[0] == "/bin/sh" else "LD_PRELOAD": str(self._library),
        }
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in variables.items()), *command]

    def workers(self) -> set[int]:
        """Return the pids of all workers."""
        return {int(line) for line in self._pids.read_text().split()}

    def assert_each_stalled(self, traced: Traced, cause: str) -> None:
        """Assert that each spawn was blocked by one worker of its own, which was seen and confirmed."""
        spawns, stalls = traced.spawns(), traced.of("stall")
        assert [spawn["outcome"] for spawn in traced.of("spawn")] == ["ok"] * len(spawns)
        assert len(stalls) == traced.summary["stalls"] == len(spawns)
        by_child = {stall["child"]["pid"]: stall for stall in stalls}
        ended = {spawn["child"]["pid"]: spawn for spawn in traced.of("spawn")}
        for spawn, stall in zip(spawns, stalls):
            if spawn["child"] is not None:
                stall = by_child[spawn["child"]]
            assert stall["parent"]["pid"] == spawn["pid"]
            # Begins with the own child's exec, or later with the read: a busy machine can delay both.
            steps = {step["what"]: step["seconds"] for step in ended[stall["child"]["pid"]]["steps"]}
            began = max(steps["child_execed"], steps["read_began"])
            assert abs(stall["stall_seconds"] - (steps["read_ended"] - began)) < _TOLERANCE_SECONDS
            assert spawn["seconds"] > LIVE_SECONDS * 0.8
            assert LIVE_SECONDS * 0.2 < stall["stall_seconds"] < spawn["seconds"] + _TOLERANCE_SECONDS
            [holder] = stall["holders"]
            assert (holder["cause"], holder["confirmed"]) == (cause, True)
        holders = {stall["holders"][0]["pid"] for stall in stalls}
        assert len(holders) == len(stalls)
        assert holders <= self.workers()

    def assert_waits_are_explained(self, traced: Traced) -> int:
        """Assert that each long wait after the own child's exec has a stall, and that only workers are named.

        Return the number of stalls.
        """
        children = {spawn["child"] for spawn in traced.spawns()}
        stalls = {stall["child"]["pid"]: stall for stall in traced.of("stall")}
        for spawn in traced.of("spawn"):
            steps = {step["what"]: step["seconds"] for step in spawn["steps"]}
            if steps["read_ended"] - steps["child_execed"] > LOOP_LIVE_SECONDS * 0.5:
                assert spawn["child"]["pid"] in stalls
        workers = self.workers()
        for child, stall in stalls.items():
            assert child in children
            assert {holder["pid"] for holder in stall["holders"]} <= workers
            assert {holder["cause"] for holder in stall["holders"]} == {"forked"}
        return len(stalls)
