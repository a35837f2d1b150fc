# SPDX-License-Identifier: Apache-2.0
"""config/snapshot/snapshot.py is agent/snapshot.py; tests/live/test_snapshot_pythons.py runs it."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def generator(repo_root: Path) -> dict[str, Any]:
    return runpy.run_path(str(repo_root / "config" / "make-snapshot.py"))


def test_it_is_up_to_date(repo_root: Path, generator: dict[str, Any]) -> None:
    """Compared as syntax: ast.unparse does not write the same text on every Python."""
    wanted = generator["rewritten"]((repo_root / "agent" / "snapshot.py").read_text())
    committed = (repo_root / "config" / "snapshot" / "snapshot.py").read_text()
    assert ast.dump(ast.parse(committed)) == ast.dump(ast.parse(wanted)), "run make snapshot"


@pytest.mark.parametrize(
    "code",
    [
        "def f(*, a): pass",
        "def f(a, /): pass",
        "x: int",
        "{**a}",
        "f(*a, b)",
        "f'{x}'",
        "x = 1\ny = 'é'",
        "def f():\n yield from a",
    ],
)
def test_what_cannot_be_rewritten_is_refused(code: str, generator: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        generator["rewritten"](code + "\n")
