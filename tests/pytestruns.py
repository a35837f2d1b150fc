# SPDX-License-Identifier: Apache-2.0
"""Runs pytest with the plugin, as its entry point loads it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["command", "environment", "options", "run"]

_ROOT = Path(__file__).resolve().parent.parent
_SHIM = """
import spawnstall
plugin = spawnstall.pytestplugin
pytest_addoption, pytest_configure = plugin.pytest_addoption, plugin.pytest_configure
"""


def options(folder: Path) -> list[str]:
    """The options with which pytest loads the plugin and runs the tests in a folder."""
    (folder / "entrypoint.py").write_text(_SHIM)
    return ["-p", "no:cacheprovider", "-p", "entrypoint", "-p", "xdist", "-q", str(folder)]


def command(folder: Path, *more: str) -> list[str]:
    """pytest for the tests in a folder, with more options."""
    return [sys.executable, "-m", "pytest", *options(folder), *more]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """In which pytest finds the plugin whether it is installed or not."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    inherited.pop("TRACE_POPEN_REPORT", None)
    found = {"PYTHONPATH": f"{folder}:{_ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"}
    return {**inherited, **found, **variables}


def run(folder: Path, more: Sequence[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """The output and status of it."""
    return subprocess.run(
        command(folder, *more),
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
