# SPDX-License-Identifier: Apache-2.0
"""Packages of other projects that have the names of ours."""

from __future__ import annotations

from pathlib import Path

__all__ = ["NAMES", "environment"]

NAMES = ("agent", "probes", "tests", "dashboards")


def environment(folder: Path) -> dict[str, str]:
    """Write the packages into a folder; return the variables of an environment that prefers them."""
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise SystemExit('imported the foreign {name}')\n")
    # With PYTHONSAFEPATH, Python looks in no folder that was not asked for.
    return {"PYTHONPATH": f"{folder}:", "PYTHONSAFEPATH": "1"}
