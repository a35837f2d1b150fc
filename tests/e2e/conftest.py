# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests, which are skipped unless their tools are installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser
from tests.live.lab import Lab

_TOOLS = ("chromium", "prometheus", "prometheus-alertmanager", "promtool", "amtool")


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """Skip if a tool is missing, with the command that installs it."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; make setup-e2e")


@pytest.fixture
def lab(repo_root: Path, tmp_path: Path) -> Lab:
    """The programs and the agent under test."""
    return Lab(repo_root, tmp_path)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A fresh browser."""
    with Browser(tmp_path) as running:
        yield running
