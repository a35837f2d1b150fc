# SPDX-License-Identifier: Apache-2.0
"""Step the wall clock during a stall; only in an emulated machine, where inside.py allows it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.live.lab import Lab, json_lines

_STEP_SECONDS = 3600
_LIVE_SECONDS = 20


def test_step_of_the_clock_during_a_stall(repo_root: Path, tmp_path: Path) -> None:
    if os.environ.get("MAY_STEP_THE_CLOCK") != "1":
        pytest.skip("other programs use this clock; run python -m tests.kernels --case 'clock step'")
    lab = Lab(repo_root, tmp_path)
    live = str(_LIVE_SECONDS)
    forced = lab.program("fork_beside_popen.py", "--force", "1", "--live", live, "--plain", "0")
    with lab.agent() as agent, subprocess.Popen(forced, stdout=subprocess.PIPE, text=True) as program:
        agent.wait_until(lambda: bool(agent.stalls()), 60)
        time.clock_settime(time.CLOCK_REALTIME, time.time() + _STEP_SECONDS)
        oldest = agent.metrics()["spawnstall_oldest_stall_start_timestamp_seconds", ()]
        assert 0 <= time.time() - oldest < 60
        printed, _ = program.communicate(timeout=120)
        agent.wait_until(lambda: len(agent.stalls()) == 2, 60)
        ongoing, ended = agent.stalls()
        [spawn] = [line for line in json_lines(printed) if line["kind"] == "spawn"]
        assert ended["id"] == ongoing["id"]
        assert ended["holders"][0]["pid"] == spawn["worker"]
        assert ended["stall_seconds"] == pytest.approx(_LIVE_SECONDS, abs=10)
        assert ended["time"] > ongoing["time"]
        assert agent.status()["ended"]
