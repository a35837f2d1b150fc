# SPDX-License-Identifier: Apache-2.0
"""The documents in probes/ against the code."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from pathlib import Path

import pytest

from probes.loader import Options
from probes.records import MAX_NUMBERS, MAX_RELEASES

_DOCUMENTS = ("README.md", "LIMITS.md", "ERRPIPES.md", "PLATFORMS.md", "DECISIONS.md")


@pytest.fixture
def folder(repo_root: Path) -> Path:
    return repo_root / "probes"


def _heading_id(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_readme_lists_every_file(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    names = {path.name for pattern in ("*.py", "*.c", "*.h", "*.md") for path in folder.glob(pattern)}
    assert {name for name in names - {"__init__.py", "README.md"} if name not in text} == set()


@pytest.mark.parametrize("name", _DOCUMENTS)
def test_files_and_links_exist(name: str, folder: Path) -> None:
    text = (folder / name).read_text()
    for path in re.findall(r"`((?:agent|tests|probes|config)/[\w./]+)`", text):
        assert (folder.parent / path).exists(), path
    for path in re.findall(r"`(\w[\w.]*\.(?:py|bpf\.c))`", text):
        assert (folder / path).exists(), path
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, fragment = target.partition("#")
        linked = (folder / path).resolve() if path else folder / name
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert fragment in map(_heading_id, headings), target


def test_names_in_the_readme_are_in_the_sources(folder: Path) -> None:
    sources = "".join(path.read_text() for pattern in ("*.c", "*.h", "*.py") for path in folder.glob(pattern))
    sources += "".join(path.read_text() for path in (folder.parent / "agent").rglob("*.py"))
    code = re.findall(r"`([a-z]+_[a-z_]+|[A-Z]+_[A-Z_]+)`", (folder / "README.md").read_text())
    assert {name for name in code if not re.search(rf"\b{name}\b", sources)} == set()


def test_limits(folder: Path) -> None:
    text = (folder / "LIMITS.md").read_text()
    defaults = {each.name: each.default for each in dataclasses.fields(Options)}
    for name in ("max_spawns", "max_processes", "max_comms"):
        assert f"| {defaults[name]:,} (`{name}`) |" in text
    assert f"| {MAX_NUMBERS} (`MAX_NUMBERS`) |" in text
    assert MAX_RELEASES == 4
    assert "the latest four, with time, way and comm" in (folder / "README.md").read_text()
    steps = re.search(r"#define MAX_STEPS (\d+) ", (folder / "errpipe.bpf.c").read_text())
    assert steps is not None and 2000 <= 33 * int(steps[1]) < 2500


def test_only_the_standard_library_and_bcc_are_imported(folder: Path) -> None:
    found = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    standard = getattr(sys, "stdlib_module_names", found)  # since Python 3.10
    assert found - standard <= {"bcc", "probes"}
