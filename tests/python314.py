# SPDX-License-Identifier: Apache-2.0
"""Unpack Python 3.14 of Debian forky, for a host that has none.

``python -m tests.python314 FOLDER`` prints the path of its binary.  It needs a newer libc than the host's, so
a script starts it with the loader and the libraries beside it.
"""

from __future__ import annotations

import stat
import sys
import tempfile
from pathlib import Path

from tests.debian import DebianError, Release, run

__all__ = ["install"]

_SCRIPT = """\
#!/bin/sh
exec {loader} --argv0 "$0" --library-path {libraries} {python} "$@"
"""
_CHECK = "import ctypes, ensurepip, ssl, subprocess, sys; sys.exit(sys.executable != sys.argv[1])"


def install(cache: Path) -> Path:
    """Return the path of its binary in the folder; raises DebianError if it cannot be installed."""
    root = cache / "python3.14"
    binary = root / "usr/bin/python3.14"
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="python3.14.", dir=cache) as work:
            new = Path(work) / "root"
            with Release("forky", Path(work)) as forky:
                forky.unpack_all(["python3.14-venv"], new)
            _wrap(new, root)
            new.rename(root)  # complete or not at all
    run([str(binary), "-c", _CHECK, str(binary)])
    return binary


def _wrap(new: Path, root: Path) -> None:
    """Make it work in the folder root, where it will be."""
    loaders = [*new.glob("usr/lib64/ld-linux-*"), *new.glob("usr/lib/ld-linux-*")]
    libraries = list(new.glob("usr/lib/*-linux-gnu"))
    if not loaders or not libraries:
        raise DebianError("forky: libc6 has no loader where it used to be")
    binary = new / "usr/bin/python3.14"
    binary.rename(f"{binary}.real")
    binary.write_text(
        _SCRIPT.format(
            loader=root / loaders[0].relative_to(new),
            libraries=root / libraries[0].relative_to(new),
            python=root / "usr/bin/python3.14.real",
        )
    )
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    for settings in new.glob("usr/lib/python3.14/_sysconfigdata_*.py"):  # the host's pip is too old
        if not settings.is_symlink():
            wheels = "/usr/share/python-wheels"
            settings.write_text(settings.read_text().replace(wheels, f"{root}{wheels}"))


if __name__ == "__main__":
    try:
        print(install(Path(sys.argv[1]).resolve()))
    except DebianError as error:
        sys.exit(f"python3.14: {error}")
