# SPDX-License-Identifier: Apache-2.0
"""Packages of other Debian releases, unpacked into a folder.

Nothing is installed in the system: apt gets its own sources, lists and cache.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

__all__ = ["DebianError", "Release", "run"]

_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_PLAIN_SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


class DebianError(Exception):
    """The packages are not available; the message is one line."""


class Release:
    """A Debian release as a context manager: fetches its package lists, and removes them at the end.

    suite: its name, such as bullseye or testing.  folder: for the lists.  architecture: as Debian names it,
    None: this machine's.
    """

    def __init__(self, suite: str, folder: Path, architecture: Optional[str] = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._work = tempfile.TemporaryDirectory(prefix=f"{suite}.", dir=folder)
        work = Path(self._work.name)
        for name in ("sources", "lists/partial", "cache/archives/partial"):
            (work / name).mkdir(parents=True)
        (work / "sources" / f"{suite}.sources").write_text(_sources(suite))
        (work / "status").touch()  # of the installed packages: none
        settings: dict[str, object] = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": work / "sources",
            "Dir::State::Lists": work / "lists",
            "Dir::State::Status": work / "status",
            "Dir::Cache": work / "cache",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",  # otherwise an unreachable mirror is only a warning
        }
        if architecture:
            settings |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
        self._options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def __enter__(self) -> Release:
        try:
            run(["apt-get", "-q", *self._options, "update"])
        except DebianError:
            self._work.cleanup()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._work.cleanup()

    def depends(self, package: str) -> list[str]:
        """Return the direct dependencies of a package, the first of each set of alternatives."""
        shown = run(["apt-cache", *self._options, "--no-all-versions", "show", package])
        line = re.search(r"(?m)^Depends: (.*)", shown)
        return re.findall(r"(?:^|, )([^\s,|]+)", line[1]) if line else []

    def unpack(self, packages: Sequence[str], root: Path) -> None:
        """Download packages and unpack them into a folder."""
        debs = Path(self._work.name) / "debs"
        debs.mkdir()
        run(["apt-get", "-q", *self._options, "download", *packages], debs)
        _unpack(debs, root)

    def unpack_all(self, packages: Sequence[str], root: Path) -> None:
        """The same, with all packages that they depend on; none of their scripts runs."""
        wanted = ["-y", "--no-install-recommends", "--download-only", "install", *packages]
        run(["apt-get", "-q", *self._options, *wanted])
        _unpack(Path(self._work.name) / "cache" / "archives", root)


def _unpack(debs: Path, root: Path) -> None:
    for deb in sorted(debs.glob("*.deb")):
        run(["dpkg", "-x", str(deb), str(root)])


def run(args: Sequence[str], cwd: Path = Path("/")) -> str:
    """Return the output of a command; raises DebianError with the line that explains its failure."""
    try:
        result = subprocess.run(
            args, check=False, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise DebianError(f"{args[0]}: {error.strerror}") from error
    if result.returncode:
        raise DebianError(f"{args[0]} failed ({result.returncode}): {_cause(result.stderr or result.stdout)}")
    return result.stdout


def _cause(output: str) -> str:
    lines = output.strip().splitlines()
    # apt's last line is a summary; its first error names the cause
    errors: Iterable[str] = (line for line in lines if line.startswith("E:"))
    return next(iter(errors), lines[0] if lines else "no message")


def _sources(suite: str) -> str:
    """Return the sources of the machine's own Debian mirror, for the other release."""
    plain = _PLAIN_SOURCES.format(suite=suite)
    if not _SOURCES.exists():
        return plain
    stanzas = re.split(r"\n\s*\n", _SOURCES.read_text())
    kept = [stanza for stanza in stanzas if "URIs:" in stanza and "-security" not in stanza]
    if not kept:
        return plain
    return (
        "\n\n".join(re.sub(r"(?m)^Suites:.*", f"Suites: {suite}", stanza).strip() for stanza in kept) + "\n"
    )
