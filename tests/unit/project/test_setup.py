# SPDX-License-Identifier: Apache-2.0
"""config/setup.sh: what it refuses before it installs anything."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


def _refusal(folder: Path, *arguments: str) -> str:
    script = folder / "config/setup.sh"
    done = subprocess.run(["sh", script, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    return line


@pytest.fixture
def plan9(repo_root: Path, tmp_path: Path) -> Path:
    """The scripts, on a distribution that they do not know and that has neither bcc nor venv."""
    (tmp_path / "os-release").write_text("ID=plan9\n")
    (tmp_path / "config").mkdir()
    for name in ("setup.sh", "packages.sh"):
        text = (repo_root / "config" / name).read_text()
        text = text.replace("/etc/os-release", str(tmp_path / "os-release"))
        (tmp_path / "config" / name).write_text(text.replace("/usr/bin/python3", "/bin/false"))
    return tmp_path


@pytest.mark.parametrize("target", ["run", "dev"])
def test_an_unknown_distribution_names_the_packages(plan9: Path, target: str) -> None:
    line = _refusal(plan9, target)
    assert all(name in line for name in ("plan9", "python3-bpfcc", "python3-bcc", "python3-venv", "git"))


def test_check_needs_venv(plan9: Path) -> None:
    assert "python3-venv" in _refusal(plan9, "check")


@pytest.mark.parametrize(
    ("target", "package"),
    [
        ("e2e", "chromium"),
        ("packages", "debhelper"),
        ("runtimes", "golang-go"),
        ("kernels", "qemu-system-x86"),
        ("bench", "bpftrace"),
        ("preview", "pngquant"),
    ],
)
def test_the_others_need_debian(plan9: Path, target: str, package: str) -> None:
    line = _refusal(plan9, target)
    assert all(name in line for name in ("plan9", "Debian", target, package))


@pytest.mark.parametrize("arguments", [[], ["all"], ["kernels", "all"]])
def test_usage(plan9: Path, arguments: list[str]) -> None:
    assert _refusal(plan9, *arguments).startswith("setup: usage: config/setup.sh ")


def test_the_makefile_uses_targets_that_exist(repo_root: Path) -> None:
    usage = _refusal(repo_root).rpartition(" ")[2].removesuffix("...")
    used = re.findall(r"@config/setup\.sh (\w+)", (repo_root / "Makefile").read_text())
    assert used
    assert set(used) <= set(usage.split("|"))
