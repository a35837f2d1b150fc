# SPDX-License-Identifier: Apache-2.0
"""agent.errors: one error for what the user can put right."""

from __future__ import annotations

import ast
from pathlib import Path

from agent.errors import UserError


def test_the_docstring_shows_every_subclass(repo_root: Path) -> None:
    trees = [ast.parse(file.read_text()) for file in (repo_root / "agent").rglob("*.py")]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    names = {"UserError"}
    for _ in range(2):  # a subclass can have subclasses
        for each in classes:
            if names & {getattr(base, "id", "") for base in each.bases}:
                names.add(each.name)
    drawn = (UserError.__doc__ or "").split("::\n\n")[1].split("\n\n")[0]
    shown = {line.replace("│", "").strip(" ├└─").split()[0] for line in drawn.splitlines()}
    assert shown == names
