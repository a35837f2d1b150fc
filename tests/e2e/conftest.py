"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser
from tests.live.lab import Lab


@pytest.fixture
def lab(repo_root: Path, tmp_path: Path) -> Lab:
    """Programs and agent."""
    return Lab(repo_root, tmp_path)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A fresh one."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium: config/setup-e2e.sh installs it")
    with Browser(tmp_path) as running:
        yield running
