# SPDX-License-Identifier: Apache-2.0
"""The Ansible role, read by ansible-lint."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def test_ansible_lint_finds_nothing(repo_root: Path) -> None:
    programs = repo_root / ".cache" / "ansible" / "bin"
    if not programs.exists():
        pytest.skip("Ansible is not installed: make setup-e2e")
    done = subprocess.run(
        [str(programs / "ansible-lint"), "--offline", "-q", "--profile=production", "config/ansible"],
        cwd=repo_root,
        env={**os.environ, "PATH": f"{programs.resolve()}:{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
