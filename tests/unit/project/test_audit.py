# SPDX-License-Identifier: Apache-2.0
"""config/audit.sh: a check that could not ask has failed."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def checkout(repo_root: Path, tmp_path: Path) -> Path:
    """The scripts, with a python3 in the folder and an installed pip-audit that finds something."""
    (tmp_path / "config").mkdir()
    for name in ("audit.sh", "packages.sh"):
        text = (repo_root / "config" / name).read_text()
        (tmp_path / "config" / name).write_text(text.replace("/usr/bin/python3", "./python3"))
    _program(
        tmp_path / ".cache/audit/bin/pip-audit", '[ "$1" = --version ] && echo pip-audit 2.10.1 || exit 1'
    )
    return tmp_path


def _program(path: Path, code: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _audit(folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "config/audit.sh"
    return subprocess.run(["sh", script], capture_output=True, text=True, timeout=60)


def test_offline_is_a_failure_with_one_line(checkout: Path) -> None:
    _program(checkout / "python3", "exit 1")
    done = _audit(checkout)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("audit: nothing was checked") and "https://pypi.org" in line


def test_a_vulnerability_is_a_failure(checkout: Path) -> None:
    _program(checkout / "python3", "exit 0")
    assert _audit(checkout).returncode == 1
