# SPDX-License-Identifier: Apache-2.0
"""The software bill of materials, pinned actions and images."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest


def _sbom(script: Path, *options: str) -> dict[str, Any]:
    command = ["/usr/bin/python3", "-I", str(script), *options]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environ)
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environ)
    assert again.stdout == done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    return found


def test_the_sbom_has_every_locked_file(repo_root: Path) -> None:
    """Compared word by word, without the parser of config/sbom.py."""
    text = (repo_root / "config/requirements.txt").read_text()
    sbom = _sbom(repo_root / "config/sbom.py")
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    pins = {f"{one['name']}=={one['version']}" for one in sbom["components"]}
    assert pins == {line.split()[0] for line in text.splitlines() if line[0] not in "# "}
    hashes = [
        digest["content"]
        for one in sbom["components"]
        for reference in one["externalReferences"]
        for digest in reference["hashes"]
    ]
    assert sorted(hashes) == sorted(re.findall(r"sha256:(\w+)", text))
    references = [one["bom-ref"] for one in sbom["components"]]
    assert references == sorted(set(references))


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """What the image has in its virtual environment, as far as metadata goes."""
    folder = tmp_path / "lib/python3.11/site-packages"
    for name, version in (("spawnstall", "0.2.0"), ("PyYAML", "6.0.3"), ("unlocked", "1.0+x")):
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return tmp_path


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no dpkg-query")
def test_the_sbom_of_an_image(repo_root: Path, venv: Path) -> None:
    sbom = _sbom(repo_root / "config/sbom.py", "--image", str(venv))
    assert sbom["metadata"]["component"]["purl"] == "pkg:pypi/spawnstall@0.2.0"
    found = {one["purl"]: one for one in sbom["components"]}
    python = {purl for purl in found if purl.startswith("pkg:pypi/")}
    assert python == {"pkg:pypi/pyyaml@6.0.3", "pkg:pypi/unlocked@1.0%2Bx"}
    assert found["pkg:pypi/pyyaml@6.0.3"]["externalReferences"]
    system = [one["name"] for purl, one in found.items() if re.match(r"pkg:deb/\w+/\S+@\S+\?arch=\S+", purl)]
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n"], stdout=subprocess.PIPE
    )
    installed = [line[3:].strip() for line in listed.stdout.decode().splitlines() if line.startswith("ii")]
    assert sorted(system) == sorted(installed)


def test_a_venv_without_the_project(repo_root: Path, tmp_path: Path) -> None:
    command = ["/usr/bin/python3", str(repo_root / "config/sbom.py"), "--image", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("sbom: ") and str(tmp_path) in line


def test_actions_are_pinned_by_commit(repo_root: Path) -> None:
    for path in (repo_root / ".github/workflows").iterdir():
        used = re.findall(r"uses: (\S+)(.*)", path.read_text())
        assert used
        for action, comment in used:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


# -- config/pin.sh --

_WITH_IMAGES = ("Dockerfile", ".github/workflows/ci.yaml")


@pytest.fixture
def checkout(repo_root: Path, tmp_path: Path) -> Path:
    """The files that config/pin.sh reads and writes."""
    for name in ("config/pin.sh", "config/packages.sh", *_WITH_IMAGES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repo_root / name, tmp_path / name)
    return tmp_path


def _pin(checkout: Path, answer: str) -> tuple[int, str]:
    """Run it with a skopeo that answers with a digest of the tag, or with a fixed text."""
    skopeo = checkout / "bin/skopeo"
    skopeo.parent.mkdir(exist_ok=True)
    skopeo.write_text(f"#!/bin/sh\nfor image; do :; done\n{answer}\n")
    skopeo.chmod(skopeo.stat().st_mode | stat.S_IXUSR)
    environ = {**os.environ, "PATH": f"{skopeo.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", checkout / "config/pin.sh"], capture_output=True, text=True, timeout=60, env=environ
    )
    return done.returncode, done.stderr


def _without_digests(text: str) -> str:
    return re.sub("@sha256:[0-9a-f]{64}", "", text)


def test_the_images_of_debian_are_pinned(repo_root: Path) -> None:
    for name in _WITH_IMAGES:
        text = (repo_root / name).read_text()
        found = re.findall(r"library/debian:[a-z0-9-]+@sha256:[0-9a-f]{64}\n", text)
        assert len(found) == text.count("library/debian:") > 0


def test_pin_writes_the_digest_of_each_tag(checkout: Path) -> None:
    """Anew if there is one already, and without mixing up a tag and a longer one."""
    before = {name: (checkout / name).read_text() for name in _WITH_IMAGES}
    for salt in ("1", "2"):
        status, said = _pin(checkout, f'echo "sha256:$(echo "$image {salt}" | sha256sum | cut -d" " -f1)"')
        assert status == 0, said
        digests = set()
        for name, text in before.items():
            now = (checkout / name).read_text()
            assert _without_digests(now) == _without_digests(text)
            found = re.findall(r"(debian:[a-z0-9-]+)@(sha256:[0-9a-f]{64})", now)
            assert len(found) == text.count("library/debian:") > 0
            digests |= set(found)
        assert len(digests) == 2  # of bookworm and of bookworm-slim
        assert len({digest for _tag, digest in digests}) == 2


@pytest.mark.parametrize("answer", ["exit 1", "echo not found"])
def test_pin_changes_nothing_without_an_answer(answer: str, checkout: Path) -> None:
    before = (checkout / "Dockerfile").read_text()
    status, said = _pin(checkout, answer)
    assert status == 2
    assert "docker.io/library/debian:bookworm" in said.splitlines()[-1]
    assert (checkout / "Dockerfile").read_text() == before
