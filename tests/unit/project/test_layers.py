# SPDX-License-Identifier: Apache-2.0
"""Which folder of the project imports which: as its README says, and never in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_FOLDERS = ("cli", "host", "render", "reports", "serve", "settings", "tracing")


def _imported(file: Path) -> Iterator[str]:
    """Our own modules that a file imports, such as ``agent.host.procfs``."""
    root = file.parents[len(file.parts) - file.parts.index("agent") - 1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                path = root / inner.replace(".", "/")
                yield inner if path.is_dir() or path.with_suffix(".py").exists() else node.module


def _package(module: str) -> str:
    """Where a module lives: ``agent.host`` for ``agent.host.procfs``, else itself."""
    parts = module.split(".")
    if parts[0] != "agent":
        return parts[0]
    return ".".join(parts[:2]) if len(parts) > 1 else "agent"


@pytest.mark.parametrize("folder", _FOLDERS)
def test_a_folder_imports_what_its_readme_says(folder: str, repo_root: Path) -> None:
    there = repo_root / "agent" / folder
    sentence = (there / "README.md").read_text().split("May import: ")[1].split("\n\n")[0]
    allowed = set(re.findall(r"`([\w.]+)`", sentence))
    found = set()
    for file in there.glob("*.py"):
        for module in _imported(file):
            package = _package(module)
            if (
                package.split(".")[0] in ("agent", "probes", "tests", "dashboards")
                and package != f"agent.{folder}"
            ):
                found.add(package)
    assert found == allowed


@pytest.mark.parametrize("folder", _FOLDERS)
def test_a_readme_lists_every_module(folder: str, repo_root: Path) -> None:
    there = repo_root / "agent" / folder
    text = (there / "README.md").read_text()
    for file in there.glob("*.py"):
        assert file.name == "__init__.py" or f"`{file.name}`" in text, file.name


def test_folders_import_each_other_in_one_direction(repo_root: Path) -> None:
    edges: dict[str, set[str]] = {}
    for file in (repo_root / "agent").rglob("*.py"):
        inside = file.relative_to(repo_root).with_suffix("").as_posix().replace("/", ".")
        here = _package(inside)
        for module in _imported(file):
            if module.startswith("agent.") and _package(module) != here:
                edges.setdefault(here, set()).add(_package(module))
    below: dict[str, set[str]] = {}

    def reach(package: str, path: tuple[str, ...]) -> set[str]:
        assert package not in path, " -> ".join((*path, package))
        if package not in below:
            nearest = edges.get(package, set())
            below[package] = nearest.union(*(reach(each, (*path, package)) for each in nearest))
        return below[package]

    for package in list(edges):
        reach(package, ())
    assert "agent.serve" not in below["agent.render"]
    assert "probes" not in edges.get("agent.reports", set())
