#!/usr/bin/python3
"""Unpacks a real Python 2.7, of Debian 11, into a folder and prints the path of its binary.

Nothing is installed in the system: apt gets its own sources, lists and cache, and the packages are
only unpacked. Fast when the folder has it already; several may ask at once (a lock file beside it).
"""

from __future__ import annotations

import argparse
import fcntl
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ["python2.7-minimal", "libpython2.7-minimal", "libpython2.7-stdlib", "libffi7"]
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
PLAIN_SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: bullseye
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
# ctypes needs libffi.so.7, which Debian 12 has no more, and the dynamic loader does not look into
# the folder. Once loaded by its path (the import fails only after that), it is found by its name.
SITECUSTOMIZE = """\
import glob, imp, os
for library in glob.glob(os.path.join(os.path.dirname(os.__file__), "..", "*", "libffi.so.7")):
    try:
        imp.load_dynamic("libffi", library)
    except ImportError:
        pass
"""
DEFAULT = Path(__file__).resolve().parents[2] / ".cache" / "python2.7"


class InstallError(Exception):
    """Says in one line why there is no Python 2.7."""


def run(args: list[str], cwd: Path) -> None:
    try:
        result = subprocess.run(
            args, check=False, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise InstallError(f"{args[0]}: {error.strerror}") from error
    if result.returncode:
        output = (result.stderr.strip() or result.stdout.strip()).splitlines()
        # apt's last line is a summary; its first error names the cause
        errors = [line for line in output if line.startswith("E:")] or output or ["no message"]
        raise InstallError(f"{args[0]} failed ({result.returncode}): {errors[0]}")


def bullseye_sources() -> str:
    """The machine's own Debian mirror, for the older release."""
    if not SOURCES.exists():
        return PLAIN_SOURCES
    stanzas = re.split(r"\n\s*\n", SOURCES.read_text())
    kept = [stanza for stanza in stanzas if "URIs:" in stanza and "-security" not in stanza]
    if not kept:
        return PLAIN_SOURCES
    return (
        "\n\n".join(re.sub(r"(?m)^Suites:.*", "Suites: bullseye", stanza).strip() for stanza in kept) + "\n"
    )


def unpack(work: Path, root: Path) -> None:
    for folder in ("src", "lists/partial", "cache/archives/partial", "debs"):
        (work / folder).mkdir(parents=True)
    (work / "src" / "bullseye.sources").write_text(bullseye_sources())
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": work / "src",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",  # otherwise an unreachable mirror is only a warning
    }
    apt = ["apt-get", "-q"] + [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    run([*apt, "update"], work)
    run([*apt, "download", *PACKAGES], work / "debs")
    for deb in sorted((work / "debs").glob("*.deb")):
        run(["dpkg", "-x", str(deb), str(root)], work)
    sitecustomize = root / "usr" / "lib" / "python2.7" / "sitecustomize.py"
    sitecustomize.unlink()  # a link into the system's /etc
    sitecustomize.write_text(SITECUSTOMIZE)


def install(folder: Path) -> Path:
    binary = folder / "usr" / "bin" / "python2.7"
    if binary.exists():
        return binary
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        if folder.exists() and any(folder.iterdir()):
            raise InstallError(f"{folder} holds something else than Python 2.7")
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as work:
            root = Path(work, "root")
            unpack(Path(work), root)
            run(
                [str(root / "usr" / "bin" / "python2.7"), "-c", "import subprocess, json, ctypes"],
                Path(work),
            )
            root.rename(folder)  # whole or not at all
    return binary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT, help=f"default: {DEFAULT}")
    try:
        print(install(parser.parse_args().folder.absolute()))
    except (InstallError, OSError) as error:
        sys.exit(f"python27: no Python 2.7: {error}")


if __name__ == "__main__":
    main()
