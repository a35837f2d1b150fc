# SPDX-License-Identifier: Apache-2.0
"""The locked dependencies match pyproject.toml, and nothing is installed without its hash."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_SHA256 = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def _locked(path: Path) -> dict[str, set[str]]:
    """The versions of each package; there can be another one for older Pythons."""
    found: dict[str, set[str]] = {}
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
        pin, *hashes = entry.split(" \\\n    ")
        assert hashes, entry
        assert all(_SHA256.fullmatch(line) for line in hashes), entry
        requirement = Requirement(pin)
        [specifier] = requirement.specifier
        assert specifier.operator == "==", entry
        found.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return found


@pytest.fixture
def project(repo_root: Path) -> dict[str, Any]:
    return tomllib.loads((repo_root / "pyproject.toml").read_text())


@pytest.mark.parametrize(
    ("name", "extras"), [("requirements.txt", ["stacks"]), ("requirements-dev.txt", ["stacks", "dev"])]
)
def test_the_dependencies_of_the_project_are_locked(
    name: str, extras: list[str], repo_root: Path, project: dict[str, Any]
) -> None:
    locked = _locked(repo_root / "config" / name)
    optional = project["project"]["optional-dependencies"]
    required = [*project["project"]["dependencies"], *project["dependency-groups"]["install"]]
    for extra in extras:
        required += optional[extra]
    for requirement in map(Requirement, required):
        assert locked[canonicalize_name(requirement.name)] == {str(requirement.specifier).removeprefix("==")}


def test_tests_use_the_shipped_versions(repo_root: Path) -> None:
    shipped = _locked(repo_root / "config" / "requirements.txt")
    tested = _locked(repo_root / "config" / "requirements-dev.txt")
    for name, versions in shipped.items():
        assert tested[name] <= versions


def test_build_requirements_are_locked(project: dict[str, Any]) -> None:
    assert set(project["build-system"]["requires"]) <= set(project["dependency-groups"]["install"])


@pytest.mark.parametrize("name", ["Dockerfile", "config/setup.sh"])
def test_installs_require_hashes(name: str, repo_root: Path) -> None:
    text = (repo_root / name).read_text().replace('-m pip install -qq"', "")
    installs = re.findall(r"(?:pip install|\$pip) (.*)", text)
    assert len(installs) == 2
    assert "--require-hashes -r" in installs[0]
    assert "--no-deps --no-build-isolation" in installs[1]
