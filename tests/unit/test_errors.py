# SPDX-License-Identifier: Apache-2.0
"""agent.errors: one error for what the user can put right."""

from __future__ import annotations

import ast
from pathlib import Path

from agent.errors import UserError


def test_the_docstring_shows_every_subclass(repo_root: Path) -> None:
    names = {"UserError"}
    for _ in range(2):  # a subclass can have subclasses
        for file in (repo_root / "agent").rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef) and names & {
                    getattr(base, "id", "") for base in node.bases
                }:
                    names.add(node.name)
    tree = (UserError.__doc__ or "").split("::\n\n")[1].split("\n\n")[0]
    shown = {line.replace("│", "").strip(" ├└─").split()[0] for line in tree.splitlines()}
    assert shown == names
