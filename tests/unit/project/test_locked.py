# SPDX-License-Identifier: Apache-2.0
"""The locked dependencies match pyproject.toml, and nothing is installed without its hash."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

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
    ("name", "extras", "groups"),
    [
        ("requirements.txt", ["stacks"], ["install"]),
        ("requirements-dev.txt", ["stacks"], ["install", "dev"]),
        ("requirements-oldest.txt", [], ["unit-oldest"]),
        ("requirements-newest.txt", [], ["unit-newest"]),
    ],
)
def test_the_dependencies_of_the_project_are_locked(
    name: str, extras: list[str], groups: list[str], repo_root: Path, project: dict[str, Any]
) -> None:
    locked = _locked(repo_root / "config" / name)
    required = list(project["project"]["dependencies"])
    for extra in extras:
        required += project["project"]["optional-dependencies"][extra]
    for group in groups:
        required += project["dependency-groups"][group]
    for requirement in map(Requirement, required):
        assert all(
            version in requirement.specifier for version in locked[canonicalize_name(requirement.name)]
        )


def test_packages_get_ranges(project: dict[str, Any]) -> None:
    """A distribution has one version of each library, which need not be ours."""
    metadata = project["project"]
    for text in (*metadata["dependencies"], *metadata["optional-dependencies"]["stacks"]):
        assert [each.operator for each in Requirement(text).specifier] == [">="], text


def test_the_oldest_versions_are_tested(repo_root: Path, project: dict[str, Any]) -> None:
    locked = _locked(repo_root / "config" / "requirements-oldest.txt")
    for requirement in map(Requirement, project["project"]["dependencies"]):
        [version] = map(Version, locked[canonicalize_name(requirement.name)])
        assert requirement.specifier == SpecifierSet(f">={version.major}.{version.minor}")


def test_tests_use_the_shipped_versions(repo_root: Path) -> None:
    shipped = _locked(repo_root / "config" / "requirements.txt")
    tested = _locked(repo_root / "config" / "requirements-dev.txt")
    newest = _locked(repo_root / "config" / "requirements-newest.txt")
    for name, versions in shipped.items():
        assert tested[name] <= versions
    for name, versions in newest.items():
        assert versions <= tested[name]


def test_build_requirements_are_locked(project: dict[str, Any]) -> None:
    locked = {one.name: one.specifier for one in map(Requirement, project["dependency-groups"]["install"])}
    for needed in map(Requirement, project["build-system"]["requires"]):
        assert str(locked[needed.name]).removeprefix("==") in needed.specifier


@pytest.mark.parametrize("name", ["Dockerfile", "config/setup.sh"])
def test_installs_require_hashes(name: str, repo_root: Path) -> None:
    text = (repo_root / name).read_text().replace('-m pip install -qq"', "")
    installs = re.findall(r"(?:pip install|\$pip) (.*)", text)
    ours = [line for line in installs if "--no-deps --no-build-isolation" in line]
    assert len(ours) == 1 and len(installs) > 1
    assert all("--require-hashes -r" in line for line in installs if line not in ours)
