# SPDX-License-Identifier: Apache-2.0
"""pytest --spawnstall with real stalls, under trace-popen and beside an agent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import pytestruns
from tests.live.lab import Lab

pytestmark = pytest.mark.alone

_TESTS = """
import subprocess

def test_quiet():
    subprocess.run(["true"], check=True)

def test_race():
    subprocess.run({command}, check=True)
"""


@pytest.fixture
def folder(lab: Lab, tmp_path: Path) -> Path:
    """A folder of tests, one of which has a stall, in a process that it starts."""
    folder = tmp_path / "tests"
    folder.mkdir()
    command = lab.program("fork_beside_popen.py", "--force", "1", "--plain", "0", "--live", "2")
    (folder / "test_app.py").write_text(_TESTS.format(command=command))
    return folder


def _check(done: subprocess.CompletedProcess[str], source: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"spawnstall: 1 stall in 1 test, from {source}" in done.stdout
    assert "test_app.py::test_race\n" in done.stdout
    assert "(forked)" in done.stdout
    assert "test_quiet" not in done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_trace_popen_that_started_pytest(lab: Lab, folder: Path, workers: tuple[str, ...]) -> None:
    command = pytestruns.command(folder, "--spawnstall", "--spawnstall-fail", *workers)
    report = lab.folder / "report.json"
    done = subprocess.run(
        [*lab.trace_popen, "--report", str(report), "--", *command],
        cwd=lab.root,
        env=pytestruns.environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )
    _check(done, "trace-popen")
    assert "exposures that could have become long stalls:" in done.stdout
    assert "test_race: python3, forked: 1 exposure" in done.stdout


def test_an_agent(lab: Lab, folder: Path) -> None:
    with lab.agent() as agent:
        url = f"http://127.0.0.1:{agent.port}"
        done = pytestruns.run(folder, ["--spawnstall-fail", "--spawnstall-agent", url])
    assert f"from the agent at {url}" in done.stdout
    assert "test_race: python3, forked: 1 exposure" in done.stdout
    # The process that had the stall has ended with its test.
    assert "1 more stall on this host" in done.stdout
    assert "stopped" not in done.stdout
