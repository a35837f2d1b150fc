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


def _checkout(repo_root: Path, folder: Path, python: str) -> Path:
    """The scripts, on a distribution that they do not know, with this program in place of Python."""
    (folder / "os-release").write_text("ID=plan9\n")
    (folder / "config").mkdir()
    for name in ("setup.sh", "packages.sh"):
        text = (repo_root / "config" / name).read_text()
        text = text.replace("/etc/os-release", str(folder / "os-release"))
        (folder / "config" / name).write_text(text.replace("/usr/bin/python3", python))
    return folder


@pytest.fixture
def plan9(repo_root: Path, tmp_path: Path) -> Path:
    """The scripts, on a distribution that they do not know and that has neither bcc nor venv."""
    return _checkout(repo_root, tmp_path, python="/bin/false")


@pytest.mark.parametrize("target", ["run", "dev"])
def test_an_unknown_distribution_names_the_packages(plan9: Path, target: str) -> None:
    line = _refusal(plan9, target)
    assert all(name in line for name in ("plan9", "python3-bpfcc", "python3-bcc", "python3-venv", "git"))


def test_check_needs_venv(plan9: Path) -> None:
    assert "python3-venv" in _refusal(plan9, "check")


@pytest.mark.parametrize("target", ["run", "dev", "check"])
def test_the_environment_of_another_checkout_stays_as_it_is(
    target: str, repo_root: Path, tmp_path: Path
) -> None:
    """Python is a program that succeeds, so that nothing but the link can stop the script."""
    checkout = _checkout(repo_root, tmp_path, python="/bin/true")
    other = tmp_path / "other/.venv"
    other.mkdir(parents=True)
    (other / ".setup-place").write_text("other")
    (checkout / ".venv").symlink_to(other)
    line = _refusal(checkout, target)
    assert line.startswith(f"setup: .venv is a link to {other}") and "rm .venv" in line
    assert [(each.name, each.read_text()) for each in other.iterdir()] == [(".setup-place", "other")]


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
