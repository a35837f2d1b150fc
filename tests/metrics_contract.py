# SPDX-License-Identifier: Apache-2.0
"""The agent's metrics as agent/serve/METRICS.md lists them; dashboards and rules use no others."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["contract"]

_ROW = re.compile(
    r"^\| (?P<names>`[a-z_`, ]+`) \| (?P<kind>gauge|counter|histogram)(: (?P<labels>[a-z, ]+))? \|"
)
_SUFFIXES = {"gauge": ("",), "counter": ("",), "histogram": ("_bucket", "_sum", "_count")}


def contract(repo_root: Path) -> dict[str, frozenset[str]]:
    """Return the labels of every sample by name."""
    found = {}
    for line in (repo_root / "agent" / "serve" / "METRICS.md").read_text().splitlines():
        match = _ROW.match(line)
        for name in re.findall(r"\w+", match["names"]) if match else ():
            assert match is not None
            assert name not in found, f"{name} is listed twice"
            found[name] = (match["kind"], frozenset(re.findall(r"\w+", match["labels"] or "")))
    return {
        name + suffix: labels | ({"le"} if suffix == "_bucket" else set())
        for name, (kind, labels) in found.items()
        for suffix in _SUFFIXES[kind]
    }
