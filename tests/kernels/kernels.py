"""Debian's stock kernels, fetched once: the image, and the few modules that a machine needs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.debian import DebianError, Release
from tests.kernels.machine import Kernel
from tests.kernels.modules import closure

__all__ = ["SUITES", "fetch"]

SUITES = ("bullseye", "bookworm", "trixie", "forky")
"""5.10, 6.1, 6.12 (RHEL 10's base), and the newest."""


def fetch(suite: str, cache: Path) -> Kernel:
    """The kernel of a Debian release, from the cache if it is there; raises DebianError."""
    kept = cache / suite
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{suite}.", dir=cache) as work:
            _download(suite, Path(work))
            (Path(work) / "kept").rename(kept)  # whole or not at all
    [image] = kept.glob("vmlinuz-*")
    return Kernel(image.name.removeprefix("vmlinuz-"), image, kept / "modules")


def _download(suite: str, work: Path) -> None:
    root, kept = work / "root", work / "kept"
    with Release(suite, work) as release:
        # The cloud kernels have no 9p; a plain one is what the meta package wants.
        images = [name for name in release.depends("linux-image-amd64") if name.startswith("linux-image-")]
        if not images:
            raise DebianError(f"{suite}: linux-image-amd64 depends on no kernel")
        version = images[0].removeprefix("linux-image-")
        # In forky the image, the modules and their listings are packages of their own.
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
    """The one of some places that is there."""
    for place in places:
        if (root / place).exists():
            return root / place
    raise DebianError(f"the kernel's package has none of {', '.join(places)}")
