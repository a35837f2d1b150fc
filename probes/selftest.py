"""Proof, at start, that the kernel side sees what really happens.

Wrong offsets, a renamed tracepoint or a seccomp filter make a tracer silent or wrong, not dead
(RHEL 9.3's shifted system call arguments did).  So one real spawn is played with a known foreign holder,
and every fact that the kernel side reports is compared with what the player itself saw.
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
"""The player's comm; its spawn is not part of any statistics."""

HOLD_SECONDS = 0.005
_TOLERANCE_NS = 50_000_000  # a busy machine wakes the reader late; wrong clocks or fields are further off
_TIMEOUT_SECONDS = 10.0


def is_played(spawn: Spawn) -> bool:
    """Whether it is the spawn of another agent's player.

    Anybody can call itself so: it hides no wait that is longer than a play's.
    """
    took: int = spawn.read_ended - spawn.created
    return bool(spawn.comm == COMM and 0 < took <= HOLD_SECONDS * 1e9 + _TOLERANCE_NS)


class SelfTest:
    """One run: give it every record while ``run`` polls.

    The threshold of the probes must be below HOLD_SECONDS meanwhile.
    """

    def __init__(self) -> None:
        self._spawn: Optional[Spawn] = None
        self._player: Optional[subprocess.Popen[str]] = None
        self._pid = 0

    def begin(self) -> None:
        """Starts the player, which needs a moment before it can play."""
        player = Path(__file__).with_name("selftest_player.py")
        self._player = subprocess.Popen(
            [sys.executable, "-I", "-S", "-W", "ignore", str(player), str(HOLD_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for us
        )
        self._pid = self._player.pid

    def close(self) -> None:
        """Ends a player that is still there."""
        if self._player is not None:
            with self._player as player:
                player.kill()
            self._player = None

    def receive(self, spawn: Spawn) -> bool:
        """Takes a spawn's record when it is the player's; says whether it was."""
        if spawn.comm != COMM or spawn.pid != self._pid:
            return False
        self._spawn = spawn
        return True

    def run(
        self, poll: Callable[[int], None], add_target: Callable[[int], None], sees_holders: bool = True
    ) -> Optional[str]:
        """None when all is as it should be, else one line: what differed.

        To be called after ``begin``.  poll(milliseconds) must deliver records to ``receive``; add_target
        gets the player's pid.  sees_holders: whether the probes see foreign holders (for which they need
        kernel types).
        """
        assert self._player is not None
        add_target(self._pid)
        try:
            said, _ = self._player.communicate("go\n", timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"the self-test's player did not end within {_TIMEOUT_SECONDS:.0f} s"
        finally:
            status = self._player.returncode
            self.close()
        try:
            truth = json.loads(said)
        except ValueError:
            return f"the self-test's player failed (status {status})"
        deadline = time.monotonic() + 1.0
        while self._spawn is None and time.monotonic() < deadline:
            poll(50)
        return self._compare(truth, sees_holders)

    def _compare(self, truth: dict[str, int], sees_holders: bool) -> Optional[str]:
        spawn = self._spawn
        if spawn is None:
            return "a spawn with a foreign holder was played, and the probes saw nothing of it"
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
                return f"the probes saw {name} {value}, which is really {truth[name]}"
        if sees_holders and (last.how != How.EXIT or last.flags):
            return "the probes saw the holder's end as another event than its exit"
        blocked = spawn.read_ended - spawn.read_began
        if abs(blocked - truth["blocked_ns"]) > _TOLERANCE_NS:
            return (
                f"the probes saw the read blocked for {blocked / 1e6:.1f} ms,"
                f" which was really {truth['blocked_ns'] / 1e6:.1f} ms"
            )
        return None
