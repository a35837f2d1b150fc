# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernels, downloaded once: the image, and the modules that the machine needs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.debian import DebianError, Release
from tests.kernels.architectures import Architecture
from tests.kernels.machine import Kernel
from tests.kernels.modules import closure

__all__ = ["fetch"]


def fetch(suite: str, architecture: Architecture, cache: Path) -> Kernel:
    """Return the kernel of a Debian release, from the cache if possible.  Raises DebianError."""
    kept = cache / (f"{suite}-{architecture.debian}" if architecture.is_foreign else suite)
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{suite}.", dir=cache) as work:
            _download(suite, architecture.debian, Path(work))
            (Path(work) / "kept").rename(kept)  # complete or not at all
    [image] = kept.glob("vmlinuz-*")
    return Kernel(image.name.removeprefix("vmlinuz-"), image, kept / "modules", architecture)


def _download(suite: str, architecture: str, work: Path) -> None:
    root, kept = work / "root", work / "kept"
    metapackage = f"linux-image-{architecture}"
    with Release(suite, work, architecture) as release:
        # The metapackage depends on the plain kernel; the cloud kernels have no 9p.
        images = [name for name in release.depends(metapackage) if name.startswith("linux-image-")]
        if not images:
            raise DebianError(f"{suite}: {metapackage} depends on no kernel")
        version = images[0].removeprefix("linux-image-")
        # In forky image, modules and the lists of modules are separate packages.
        parts = {f"linux-{part}-{version}" for part in ("base", "binary", "modules")}
        release.unpack([images[0], *parts.intersection(release.depends(images[0]))], root)
    modules = _only(root, f"lib/modules/{version}", f"usr/lib/modules/{version}")
    (kept / "modules").mkdir(parents=True)
    shutil.copy(
        _only(root, f"boot/vmlinuz-{version}", f"usr/lib/modules/{version}/vmlinuz"),
        kept / f"vmlinuz-{version}",
    )
    for file in [*closure(modules), *modules.glob("modules.builtin")]:
        shutil.copy(file, kept / "modules")


def _only(root: Path, *places: str) -> Path:
    """Return the first of some places that exists."""
    for place in places:
        if (root / place).exists():
            return root / place
    raise DebianError(f"the kernel's package contains none of {', '.join(places)}")
