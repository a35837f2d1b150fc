# SPDX-License-Identifier: Apache-2.0
"""The Ansible role by itself; tests/roots/test_ansible.py plays it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

_ROLE = "config/ansible/roles/spawnstall"


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


def test_every_variable_is_described_with_its_default(repo_root: Path) -> None:
    defaults = yaml.safe_load((repo_root / _ROLE / "defaults/main.yml").read_text())
    specs = yaml.safe_load((repo_root / _ROLE / "meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items()} == defaults


def test_the_role_needs_no_collections(repo_root: Path) -> None:
    """So ansible-core alone can play it."""
    for file in (repo_root / _ROLE).rglob("*.yml"):
        for task in yaml.safe_load(file.read_text()) if file.parent.name in ("tasks", "handlers") else []:
            modules = [key for key in task if "." in key]
            assert len(modules) == 1 and modules[0].startswith("ansible.builtin."), (file.name, task["name"])
