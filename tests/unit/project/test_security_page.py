# SPDX-License-Identifier: Apache-2.0
"""The tests and files that SECURITY.md names exist, and links of the pages in .github resolve."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib

from agent.serve import server
from probes import selftest


@pytest.fixture
def page(repo_root: Path) -> str:
    return (repo_root / ".github" / "SECURITY.md").read_text()


def test_the_named_tests_exist(page: str, repo_root: Path) -> None:
    named = re.findall(r"`((?:unit|live)/(?:\w+/)?test_\w+\.py)(?:::(test_\w+))?`", page)
    assert len(named) > 15
    for file, name in named:
        text = (repo_root / "tests" / file).read_text()
        assert not name or f"def {name}(" in text, name


def test_every_row_names_a_test(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    for row in rows:
        *_, shown = row.strip("| ").split(" | ")
        assert "test_" in shown or shown == "test", row


def test_its_numbers(page: str, repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    hidden_ms = selftest._LONGEST_NS / 1e6
    assert f"at most {server.MAX_CONNECTIONS} connections" in page
    assert f"requests of at most {server._REQUEST_BYTES // 1024} KiB" in page
    assert f"{server._REQUEST_SECONDS} s for TLS handshake and request" in page
    assert f"of up to {hidden_ms:.0f} ms" in page
    assert "on five Python packages" in page and len(project["dependencies"]) == 5


@pytest.mark.parametrize("name", [".github/SECURITY.md", ".github/CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_resolve(name: str, repo_root: Path) -> None:
    page = repo_root / name
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
    assert f"({name})" in (repo_root / "README.md").read_text()
