# SPDX-License-Identifier: Apache-2.0
"""The architectures of the emulated machines: QEMU's options, and the file system that a machine has."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.debian import Release

__all__ = ["ARCHITECTURES", "HOST", "Architecture", "foreign_root"]

HOST = "host"
"""The folder of a foreign root in which the machine has the host's files."""

_RELEASE = "bookworm"  # its Python is the host's, whose pure Python packages it imports
_PACKAGES = (
    "python3-bpfcc",
    "python3-bcrypt",
    "python3-hypothesis",
    "python3-jsonschema",
    "python3-yaml",
    "busybox-static",
    "dash",
    "coreutils",
)


@dataclass(frozen=True)
class Architecture:
    """How to emulate a machine.

    debian: its name in Debian; machine: in uname; suites: Debian's releases whose kernels are tested by
    default; qemu: command; console: first serial port, for the kernel's messages; port: second one, for the
    command's output; stdio: options that add it.
    """

    debian: str
    machine: str
    suites: tuple[str, ...]
    qemu: tuple[str, ...]
    console: str
    port: str
    stdio: tuple[str, ...]

    @property
    def is_foreign(self) -> bool:
        """Whether the host's programs do not run in the machine."""
        return self.machine != platform.machine()


ARCHITECTURES = {
    each.debian: each
    for each in (
        # 5.10, 6.1, 6.12 (on which RHEL 10 is based), and the newest.
        Architecture(
            debian="amd64",
            machine="x86_64",
            suites=("bullseye", "bookworm", "trixie", "forky"),
            qemu=("qemu-system-x86_64", "-cpu", "max"),
            console="ttyS0",
            port="ttyS1",
            stdio=("-serial", "stdio"),
        ),
        # 6.1, without programs at functions, and 6.12, with them.
        Architecture(
            debian="arm64",
            machine="aarch64",
            suites=("bookworm", "trixie"),
            qemu=("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72"),
            console="ttyAMA0",
            port="ttyS0",
            stdio=("-chardev", "stdio,id=output", "-device", "pci-serial,chardev=output"),
        ),
    )
}
"""By Debian's name."""


def foreign_root(architecture: Architecture, cache: Path) -> Optional[Path]:
    """Return a root folder with Python, bcc and a shell for a foreign architecture; None for the host's own.

    The packages are only unpacked, since their scripts cannot run here.  Raises DebianError.
    """
    if not architecture.is_foreign:
        return None
    kept = cache / f"root-{architecture.debian}"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{kept.name}.", dir=cache) as work:
            root = Path(work) / "root"
            _fill(root, Path(work), architecture.debian)
            root.rename(kept)  # complete or not at all
    return kept


def _fill(root: Path, work: Path, architecture: str) -> None:
    for name in ("dev", "proc", "sys", "run", "tmp", "etc", "var/tmp", HOST):
        (root / name).mkdir(parents=True)
    with Release(_RELEASE, work, architecture) as release:
        release.unpack_all(_PACKAGES, root)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
