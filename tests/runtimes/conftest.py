# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the live tests, and one that gives every program foreign holders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.conftest import lab, native_storm, python27
from tests.runtimes.preload import Preload

__all__ = ["lab", "native_storm", "preload", "python27"]


@pytest.fixture
def preload(repo_root: Path, tmp_path: Path) -> Preload:
    """Foreign holders."""
    return Preload(repo_root, tmp_path)
