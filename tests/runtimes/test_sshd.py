# SPDX-License-Identifier: Apache-2.0
"""A healthy sshd, whose pipe to each child looks like an errpipe that a client keeps open for seconds."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from agent import snapshot
from tests.live.lab import PYTHON, Lab

_SSHD = "/usr/sbin/sshd"


@pytest.fixture
def command(repo_root: Path) -> list[str]:
    if not Path(_SSHD).exists():
        pytest.skip(f"no {_SSHD}: make setup-runtimes installs it")
    return [PYTHON, str(repo_root / "tests" / "programs" / "runtimes" / "sshd.py")]


def test_tracing_reports_no_stall(lab: Lab, command: list[str]) -> None:
    traced = lab.trace(command)
    assert traced.status == 0
    for kind in ("stall", "exposure", "wait"):
        assert traced.of(kind) == []
    assert traced.summary["lost_records"] == 0


def test_a_look_finds_no_stall(command: list[str]) -> None:
    looks = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        while program.poll() is None:
            looks.append(snapshot.look(program.pid))
            time.sleep(0.1)
    assert program.returncode == 0
    assert len(looks) > 5
    for look in looks:
        assert look.stalls == ()
        assert [wait for wait in look.waits if wait.kind in ("own_child", "vfork") and not wait.normal] == []
