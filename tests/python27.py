# SPDX-License-Identifier: Apache-2.0
"""Unpack a real Python 2.7 of Debian 11 into ``.cache``.

Fast if it is already there; a lock file beside it allows several callers at once.
"""

from __future__ import annotations

import fcntl
import platform
import tempfile
from pathlib import Path
from typing import Optional

from tests.debian import DebianError, Release, run

__all__ = ["install"]

_DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names of machines."""
_PACKAGES = ("python2.7-minimal", "libpython2.7-minimal", "libpython2.7-stdlib", "libffi7")
# ctypes needs libffi.so.7, which Debian 12 no longer has, and the dynamic loader does not search the
# folder. Once it has been loaded by path (the import fails only afterwards), it is found by name.
_SITECUSTOMIZE = """\
import glob, imp, os
for library in glob.glob(os.path.join(os.path.dirname(os.__file__), "..", "*", "libffi.so.7")):
    try:
        imp.load_dynamic("libffi", library)
    except ImportError:
        pass
"""


def install(repo_root: Path, machine: Optional[str] = None) -> Path:
    """Return the path of its binary; raises DebianError if it cannot be installed.

    machine: as in uname, None: this one; that of another machine cannot be run here.
    """
    machine = machine or platform.machine()
    folder = repo_root / ".cache" / ("python2.7" if machine == "x86_64" else f"python2.7-{machine}")
    binary = folder / "usr" / "bin" / "python2.7"
    if binary.exists():
        return binary
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        if folder.exists() and any(folder.iterdir()):
            raise DebianError(f"{folder} contains something other than Python 2.7")
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as work:
            root = Path(work, "root")
            _unpack(Path(work), root, _DEBIAN.get(machine))
            if machine == platform.machine():
                run([str(root / "usr" / "bin" / "python2.7"), "-c", "import subprocess, json, ctypes"])
            root.rename(folder)  # complete or not at all
    return binary


def _unpack(work: Path, root: Path, architecture: Optional[str]) -> None:
    with Release("bullseye", work, architecture) as bullseye:
        bullseye.unpack(_PACKAGES, root)
    sitecustomize = root / "usr" / "lib" / "python2.7" / "sitecustomize.py"
    sitecustomize.unlink()  # a link into the system's /etc
    sitecustomize.write_text(_SITECUSTOMIZE)
