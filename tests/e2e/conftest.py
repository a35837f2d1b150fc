"""The end-to-end tests are skipped where what they run is not installed."""

from __future__ import annotations

import shutil

import pytest

_TOOLS = ("prometheus", "prometheus-alertmanager", "promtool", "amtool")


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """Says how to get what is missing."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; make setup-e2e")
