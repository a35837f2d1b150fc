"""Unpacks a real Python 2.7, of Debian 11, into a folder.

Fast when the folder has it already; several may ask at once (a lock file beside it).
"""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

from tests.debian import DebianError, Release, run

__all__ = ["install"]

_PACKAGES = ("python2.7-minimal", "libpython2.7-minimal", "libpython2.7-stdlib", "libffi7")
# ctypes needs libffi.so.7, which Debian 12 has no more, and the dynamic loader does not look into
# the folder. Once loaded by its path (the import fails only after that), it is found by its name.
_SITECUSTOMIZE = """\
import glob, imp, os
for library in glob.glob(os.path.join(os.path.dirname(os.__file__), "..", "*", "libffi.so.7")):
    try:
        imp.load_dynamic("libffi", library)
    except ImportError:
        pass
"""


def install(folder: Path) -> Path:
    """The path of its binary; raises DebianError with one line that says why there is none."""
    binary = folder / "usr" / "bin" / "python2.7"
    if binary.exists():
        return binary
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        if folder.exists() and any(folder.iterdir()):
            raise DebianError(f"{folder} holds something else than Python 2.7")
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as work:
            root = Path(work, "root")
            _unpack(Path(work), root)
            run([str(root / "usr" / "bin" / "python2.7"), "-c", "import subprocess, json, ctypes"])
            root.rename(folder)  # whole or not at all
    return binary


def _unpack(work: Path, root: Path) -> None:
    with Release("bullseye", work) as bullseye:
        bullseye.unpack(_PACKAGES, root)
    sitecustomize = root / "usr" / "lib" / "python2.7" / "sitecustomize.py"
    sitecustomize.unlink()  # a link into the system's /etc
    sitecustomize.write_text(_SITECUSTOMIZE)
