# SPDX-License-Identifier: Apache-2.0
"""Unpack the Python of another Debian release, with packages for it, beside the host's.

``python -m tests.unpackedpython FOLDER`` prints the path of a Python 3.14, for a host that has none.  It
needs a newer libc than the host's, so a script starts it with the loader and the libraries beside it.
"""

from __future__ import annotations

import re
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.debian import DebianError, Release, run

__all__ = ["install", "with_bcc"]

_SCRIPT = """\
#!/bin/sh
exec {loader} --argv0 "$0" --library-path {libraries} {python} "$@"
"""
_CHECK = "import {modules}, sys; sys.exit(sys.executable != sys.argv[1])"


def with_bcc(cache: Path, suite: str) -> Path:
    """Return the path of a release's Python with its bcc.  Raises DebianError."""
    return install(cache / f"bcc-{suite}", suite, ["python3-bpfcc"], "bcc")


def install(root: Path, suite: str, packages: Sequence[str], modules: str) -> Path:
    """Return the path of the Python on which these packages depend, which can import these modules.

    root: a folder that is kept, and created if there is none.  Raises DebianError.
    """
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{root.name}.", dir=root.parent) as work:
            new = Path(work) / "root"
            with Release(suite, Path(work)) as release:
                release.unpack_all(packages, new)
            _wrap(new, root)
            new.rename(root)  # complete or not at all
    binary = _binary(root)
    run([str(binary), "-c", _CHECK.format(modules=modules), str(binary)])
    return binary


def _binary(root: Path) -> Path:
    found = [
        path for path in (root / "usr/bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)
    ]
    if len(found) != 1:
        raise DebianError(f"{root} has {len(found)} versions of Python")
    return found[0]


def _wrap(new: Path, root: Path) -> None:
    """Make it work in the folder root, where it will be."""
    loaders = [*new.glob("usr/lib64/ld-linux-*"), *new.glob("usr/lib/ld-linux-*")]
    libraries = list(new.glob("usr/lib/*-linux-gnu"))
    if not loaders or not libraries:
        raise DebianError(f"{root.name}: libc6 has no loader where it used to be")
    binary = _binary(new)
    binary.rename(f"{binary}.real")
    binary.write_text(
        _SCRIPT.format(
            loader=root / loaders[0].relative_to(new),
            libraries=root / libraries[0].relative_to(new),
            python=root / f"usr/bin/{binary.name}.real",
        )
    )
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    for settings in new.glob("usr/lib/python3.*/_sysconfigdata_*.py"):  # the host's pip is too old
        if not settings.is_symlink():
            wheels = "/usr/share/python-wheels"
            settings.write_text(settings.read_text().replace(wheels, f"{root}{wheels}"))


if __name__ == "__main__":
    try:
        cache = Path(sys.argv[1]).resolve()
        print(
            install(cache / "python3.14", "forky", ["python3.14-venv"], "ctypes, ensurepip, ssl, subprocess")
        )
    except DebianError as error:
        sys.exit(f"python3.14: {error}")
