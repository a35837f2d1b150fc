"""The tests and files that SECURITY.md names exist, and links of the pages in .github resolve."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


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
        assert "test_" in shown or shown == "shown by", row


@pytest.mark.parametrize("name", ["SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_resolve(name: str, repo_root: Path) -> None:
    folder = repo_root / ".github"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (folder / name).read_text()):
        assert (folder / target).exists(), target
    assert f".github/{name}" in (repo_root / "README.md").read_text()
