# SPDX-License-Identifier: Apache-2.0
"""spawnstall.py starts our packages, whatever else has their names; tests/live/test_wheel.py traces so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import __version__
from tests import foreign

_COMPILE = """
import sys
sys.path.insert(0, sys.argv[1])
from probes.compiled import CompilerProcess
with CompilerProcess() as compiler:
    compiler.ask({})
    print(compiler.answer())
"""


@pytest.mark.parametrize("how", ["file", "-m"])
def test_foreign_packages_are_not_imported(how: str, repo_root: Path, tmp_path: Path) -> None:
    variables = foreign.environment(tmp_path)
    command = [str(repo_root / "spawnstall.py")]
    if how == "-m":
        command = ["-m", "spawnstall"]
        variables["PYTHONPATH"] += str(repo_root)
    done = subprocess.run(
        [sys.executable, *command, "--version"],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"trace-popen {__version__}\n", "")


def test_the_compiler_is_ours(repo_root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE, str(repo_root)],
        cwd=tmp_path,
        env={**os.environ, **foreign.environment(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout[:23], done.stderr) == (
        "({'error': \"'attempts'\"",
        "",
    )  # the first key that is missing
