# SPDX-License-Identifier: Apache-2.0
"""Print the software bill of materials (CycloneDX 1.6, JSON): which packages are shipped, with their hashes.

    python3 config/sbom.py                # of the project: the locked packages, for every Python and machine
    python3 config/sbom.py --image VENV   # of an image: the packages in VENV, and the distribution's

The same input and SOURCE_DATE_EPOCH make the same bytes.  Needs only Python: the build of the image runs it.
Formats: https://cyclonedx.org/docs/1.6/json/, https://github.com/package-url/purl-spec.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

_ROOT = Path(__file__).parent.parent
_LOCKED = _ROOT / "config" / "requirements.txt"
_LISTS = (
    ("deb", ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"]),
    ("rpm", ["rpm", "-qa", "--qf", "ii\t%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n"]),
)
"""The type of the distribution's packages, and what lists them: state, name, version, machine."""
_NAMESPACE = uuid.UUID("6f0d3cf6-0a53-5b0b-9d5e-1d8f3f3f5a77")


def locked(text: str) -> dict[tuple[str, str], list[str]]:
    """The SHA-256 hashes of the files of each package, by name and version."""
    found = {}
    for entry in re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", text)):
        pin = re.match(r"(\S+)==(\S+)", entry)
        if pin is not None:
            found[pin[1], pin[2]] = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    return found


def bill(components: list[dict[str, Any]], version: str, seconds: int) -> dict[str, Any]:
    """The whole document; seconds: since the epoch, when it was made."""
    project = {
        "type": "application",
        "bom-ref": f"pkg:pypi/spawnstall@{version}",
        "name": "spawnstall",
        "version": version,
        "purl": f"pkg:pypi/spawnstall@{version}",
    }
    made: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
            "component": project,
        },
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
    }
    made["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps(made))}"
    return made


def python_component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    """A package of PyPI; one of its files has one of the hashes."""
    made = _component(f"pkg:pypi/{name}@{quote(version, safe='')}", name, version)
    if hashes:
        found = [{"alg": "SHA-256", "content": value} for value in hashes]
        url = f"https://pypi.org/project/{name}/{version}/"
        made["externalReferences"] = [{"type": "distribution", "url": url, "hashes": found}]
    return made


def system_components() -> Iterator[dict[str, Any]]:
    """The distribution's packages; exits if neither dpkg nor rpm can list them."""
    release = _release()
    distro = f"{release['ID']}-{release.get('VERSION_ID', '')}".rstrip("-")
    for kind, command in _LISTS:
        if shutil.which(command[0]) is None:
            continue
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            state, name, version, machine = line.split("\t")
            if state.startswith("ii"):
                at = f"{quote(name, safe='')}@{quote(version, safe='')}"
                yield _component(
                    f"pkg:{kind}/{release['ID']}/{at}?arch={machine}&distro={quote(distro)}", name, version
                )
        return
    sys.exit("sbom: neither dpkg-query nor rpm lists the distribution's packages")


def _release() -> dict[str, str]:
    """The keys of os-release(5): platform.freedesktop_os_release does this from Python 3.10 on."""
    lines = Path("/etc/os-release").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key: value.strip("'\"") for key, _, value in pairs}


def _component(purl: str, name: str, version: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="sbom", description="Print the software bill of materials.")
    parser.add_argument("--image", metavar="VENV", type=Path, help="list what is installed, with this venv")
    options = parser.parse_args()
    hashes = locked(_LOCKED.read_text())
    if options.image is None:
        (version,) = re.findall(r'(?m)^version = "(.+)"$', (_ROOT / "pyproject.toml").read_text())
        components = [python_component(*pin, files) for pin, files in hashes.items()]
    else:
        folders = [str(folder) for folder in options.image.glob("lib*/python3*/site-packages")]
        found = {_canonical(one.metadata["Name"]): one.version for one in distributions(path=folders)}
        version = found.pop("spawnstall", "")
        if not version:
            sys.exit(f"sbom: spawnstall is not installed in {options.image}")
        components = [python_component(*pin, hashes.get(pin, [])) for pin in found.items()]
        components += system_components()
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    print(json.dumps(bill(components, version, seconds), indent=1))


if __name__ == "__main__":
    main()
