# SPDX-License-Identifier: Apache-2.0
"""The Ansible role by itself; tests/roots/test_ansible.py plays it."""

from __future__ import annotations

from pathlib import Path

import yaml

_ROLE = "config/ansible/roles/spawnstall"


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
