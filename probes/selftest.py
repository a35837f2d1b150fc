# SPDX-License-Identifier: Apache-2.0
"""The self-test: at start, check that the kernel side reports what really happens.

Wrong offsets, a renamed tracepoint or a seccomp filter do not stop a tracer but make it silent or wrong, as
the shifted system call arguments of RHEL 9.3 did.  So a player runs one spawn with a foreign holder, and what
the kernel side reports is compared with what the player saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from probes.records import How, Release, Spawn

__all__ = ["COMM", "HOLD_SECONDS", "SelfTest", "is_played"]

COMM = b"spawnstall-test"
"""Comm of the player, whose spawn is left out of all statistics."""

HOLD_SECONDS = 0.005
_LONGEST_NS = 55_000_000  # of another agent's player, on a machine that is not too busy
_TIMEOUT_SECONDS = 10.0


def is_played(spawn: Spawn) -> bool:
    """Return whether this is the spawn of another agent's player.

    A process can choose this comm, but cannot hide a spawn that takes longer than a player's.
    """
    took: int = spawn.read_ended - spawn.created
    return bool(spawn.comm == COMM and 0 < took <= _LONGEST_NS)


class SelfTest:
    """One run: pass every record to ``receive`` while ``run`` polls.

    The threshold of the probes must be below HOLD_SECONDS.
    """

    def __init__(self) -> None:
        self._spawn: Optional[Spawn] = None
        self._player: Optional[subprocess.Popen[str]] = None
        self._pid = 0

    def begin(self) -> None:
        """Start the player, so that it is ready when ``run`` is called."""
        player = Path(__file__).with_name("selftest_player.py")
        self._player = subprocess.Popen(
            [sys.executable, "-I", "-S", "-W", "ignore", str(player), str(HOLD_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C must not reach it
        )
        self._pid = self._player.pid

    def close(self) -> None:
        """Kill the player if it is still running."""
        if self._player is not None:
            with self._player as player:
                player.kill()
            self._player = None

    def receive(self, spawn: Spawn) -> bool:
        """Take the record if it is of the player's spawn; return whether it is."""
        if spawn.comm != COMM or spawn.pid != self._pid:
            return False
        self._spawn = spawn
        return True

    def run(
        self, poll: Callable[[int], None], add_target: Callable[[int], None], sees_holders: bool = True
    ) -> Optional[str]:
        """Return None if the report is right, otherwise one line that says what is wrong.

        To be called after ``begin``.  poll(milliseconds) must pass records to ``receive``; add_target gets
        the player's pid.  sees_holders: whether the probes see foreign holders (Probes.sees_fd_tables).
        """
        assert self._player is not None
        add_target(self._pid)
        try:
            answer, _ = self._player.communicate("go\n", timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"the self-test's player did not exit within {_TIMEOUT_SECONDS:.0f} s"
        finally:
            status = self._player.returncode
            self.close()
        try:
            truth = json.loads(answer)
        except ValueError:
            return f"the self-test's player failed with status {status}"
        deadline = time.monotonic() + 1.0
        while self._spawn is None and time.monotonic() < deadline:
            poll(50)
        return self._compare(truth, sees_holders)

    def _compare(self, truth: dict[str, int], sees_holders: bool) -> Optional[str]:
        spawn = self._spawn
        if spawn is None:
            return (
                "the self-test's player ran a spawn with a foreign holder, but the probes saw nothing of it"
            )
        last: Release = spawn.last[0]
        seen: dict[str, object] = {
            "pid": spawn.pid,
            "tid": spawn.tid,
            "child": spawn.own_pid,
            "holder": last.pid if sees_holders else truth["holder"],
            "read_fd": spawn.read_fd,
            "write_fd": spawn.fds[0],
        }
        for name, value in seen.items():
            if value != truth[name]:
                return f"the probes saw {name} {value} instead of {truth[name]}"
        if sees_holders and (last.how != How.EXIT or last.flags):
            return "the probes did not see that the holder released its copy by exit"
        # The player takes its times outside the read, however late a busy machine lets it.
        if not truth["began"] <= spawn.read_began <= spawn.read_ended <= truth["ended"]:
            began, ended, took = (
                (at - truth["began"]) / 1e6 for at in (spawn.read_began, spawn.read_ended, truth["ended"])
            )
            return f"the probes saw the read from {began:.1f} to {ended:.1f} ms instead of 0 to {took:.1f} ms"
        return None
