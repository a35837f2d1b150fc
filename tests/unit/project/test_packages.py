# SPDX-License-Identifier: Apache-2.0
"""What the RPM and the deb contain and require; tests/roots/test_packages.py installs and runs them."""

from __future__ import annotations

import email
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomllib
from packaging.requirements import Requirement

_DEBIAN = {"pyyaml": "yaml"}
_BCC = "0.26"
_LIBRARY = "usr/lib/spawnstall"
_IN_NO_PACKAGE = {"kubernetes", "podman", "systemd"}
"""Folders of the wheel's share/spawnstall that only containers need, or that the packages have elsewhere."""


@pytest.fixture(scope="module")
def layout(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the RPM."""
    folder = tmp_path_factory.mktemp("layout")
    subprocess.run(["sh", repo_root / "config/layout.sh", folder], check=True, timeout=60)
    return folder


@pytest.fixture
def project(repo_root: Path) -> dict[str, Any]:
    return tomllib.loads((repo_root / "pyproject.toml").read_text())


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _minimum(requirement: Requirement) -> str:
    [specifier] = requirement.specifier
    return specifier.version


def _python(project: dict[str, Any]) -> str:
    return str(project["project"]["requires-python"]).removeprefix(">=")


def test_every_module_is_in_the_private_folder(repo_root: Path, layout: Path) -> None:
    expected = {"spawnstall.py"}
    for package in ("agent", "probes"):
        paths = [path for path in (repo_root / package).rglob("*") if path.is_file()]
        ours = [path for path in paths if path.suffix not in (".md", ".pyc")]
        expected |= {str(path.relative_to(repo_root)) for path in ours}
    assert _files(layout / _LIBRARY) == expected


def test_the_files_beside_them_are_those_of_the_wheel(
    repo_root: Path, layout: Path, project: dict[str, Any]
) -> None:
    """In the places of a distribution."""
    expected = set()
    for target, patterns in project["tool"]["setuptools"]["data-files"].items():
        if target.startswith("share/spawnstall") and Path(target).name not in _IN_NO_PACKAGE:
            sources = [path for pattern in patterns for path in repo_root.glob(pattern)]
            expected |= {f"{target}/{path.name}" for path in sources}
    expected.remove("share/spawnstall/agent.yaml")
    assert {f"share/spawnstall/{name}" for name in _files(layout / "usr/share/spawnstall")} == expected
    assert (layout / "etc/spawnstall/agent.yaml").read_text() == (repo_root / "config/agent.yaml").read_text()
    manual = {path.name for path in (repo_root / "config/manual").iterdir()}
    share = layout / "usr/share"
    pages = {path.name for path in (share / "man").rglob("*.[1-9]")}
    bash = {f"{path.name}.bash" for path in (share / "bash-completion/completions").iterdir()}
    zsh = {path.name for path in (share / "zsh/site-functions").iterdir()}
    assert pages | bash | zsh == manual
    assert pages and bash and zsh


def test_the_unit_starts_the_installed_program(repo_root: Path, layout: Path) -> None:
    unit = (layout / "usr/lib/systemd/system/spawnstall.service").read_text()
    [start] = re.findall(r"(?m)^ExecStart=/(\S+) agent --config /(\S+)$", unit)
    program, config = (layout / path for path in start)
    assert program.stat().st_mode & 0o777 == 0o755
    assert config.is_file()
    assert "/opt/" not in unit
    # A link would lead SELinux to a file that is no program.
    assert program.is_file() and not program.is_symlink()
    assert f'"/{_LIBRARY}"' in program.read_text()
    assert program.read_text().startswith("#!/usr/bin/python3 -I\n")


def test_the_layout_needs_one_folder(repo_root: Path) -> None:
    done = subprocess.run(["sh", repo_root / "config/layout.sh"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "usage: config/layout.sh ROOT\n")


def test_the_rpm_requires_what_the_project_does(repo_root: Path, project: dict[str, Any]) -> None:
    spec = (repo_root / "config/rpm/spawnstall.spec").read_text()
    required = dict(re.findall(r"(?m)^Requires: +(\S+) >= (\S+)$", spec))
    expected = {
        f"python3-{each.name.lower().replace('-', '_')}": _minimum(each)
        for each in map(Requirement, project["project"]["dependencies"])
    }
    assert required == {"python3": _python(project), "python3-bcc": _BCC, **expected}
    assert f"\nLicense:        {project['project']['license']}\n" in spec


def test_the_deb_requires_what_the_project_does(repo_root: Path, project: dict[str, Any]) -> None:
    control = (repo_root / "config/deb/control").read_text()
    package = email.message_from_string(control.split("\n\n")[1])
    required = dict(re.findall(r"(\S+) \(>= (\S+)\)", package["Depends"]))
    expected = {
        f"python3-{_DEBIAN.get(each.name.lower(), each.name.lower())}": _minimum(each)
        for each in map(Requirement, project["project"]["dependencies"])
    }
    assert required == {"python3": _python(project), "python3-bpfcc": _BCC, **expected}
