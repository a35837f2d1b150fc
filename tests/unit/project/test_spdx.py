# SPDX-License-Identifier: Apache-2.0
"""Every source file names its license in its first line (after a shebang)."""

from __future__ import annotations

from pathlib import Path

import pytest

_PYTHON_AND_SHELL = "# SPDX-License-Identifier: Apache-2.0"
_KERNEL_SIDE = "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */"
_FOLDERS = ("agent", "config", "dashboards", "probes", "tests")
_AS_IT_WAS = {"tests/programs/original27.py"}
"""As its author wrote it: line numbers in reports point into it."""


def _sources(root: Path, *suffixes: str) -> list[Path]:
    files = [path for folder in _FOLDERS for path in (root / folder).rglob("*")]
    return [path for path in files if path.suffix in suffixes and "node_modules" not in path.parts]


def _license_line(path: Path) -> str:
    lines = path.read_text().splitlines() or [""]
    return lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]


@pytest.mark.parametrize("suffix", [".py", ".sh"])
def test_python_and_shell(suffix: str, repo_root: Path) -> None:
    files = _sources(repo_root, suffix)
    assert files
    without = [str(path.relative_to(repo_root)) for path in files if _license_line(path) != _PYTHON_AND_SHELL]
    assert set(without) <= _AS_IT_WAS


def test_ci_run(repo_root: Path) -> None:
    assert _license_line(repo_root / ".ci/run") == _PYTHON_AND_SHELL


def test_the_kernel_side(repo_root: Path) -> None:
    files = [*(repo_root / "probes").glob("*.c"), *(repo_root / "probes").glob("*.h")]
    assert files
    assert [path.name for path in files if _license_line(path) != _KERNEL_SIDE] == []
