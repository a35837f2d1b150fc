# SPDX-License-Identifier: Apache-2.0
"""Kernel modules on disk: the dependencies of modules, in the order of loading."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["NEEDED", "ModuleError", "closure", "contents"]

NEEDED = ("virtio_pci", "9pnet_virtio", "9p")
"""The modules with which the machine mounts the host's files; a kernel may have them built in."""

_OPENERS: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
}


class ModuleError(Exception):
    """A module is missing, or compressed in an unknown format."""


def contents(file: Path) -> bytes:
    """Return the uncompressed module of a ``.ko``, ``.ko.xz`` or ``.ko.gz`` file."""
    opener = _OPENERS.get(file.suffix)
    if opener is None:
        raise ModuleError(f"{file}: only .ko, .ko.xz and .ko.gz are supported: unpack it")
    return opener(file.read_bytes())


def closure(folder: Path, names: Iterable[str] = NEEDED) -> list[Path]:
    """Return the files of modules and of all their dependencies, dependencies first.

    Raises ModuleError if one is neither in the folder nor listed in a modules.builtin there.
    """
    files = {_name(file.name): file for file in sorted(folder.rglob("*.ko*"))}
    built_in = {
        _name(Path(line).name)
        for listing in folder.rglob("modules.builtin")
        for line in listing.read_text().splitlines()
    }
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in ordered or (name in built_in and name not in files):
            return
        if name not in files:
            raise ModuleError(f"{folder} has no kernel module {name}, and no modules.builtin that lists it")
        for needed in _depends(contents(files[name])):
            add(needed)
        ordered[name] = files[name]

    for name in names:
        add(_name(name))
    return list(ordered.values())


def _depends(module: bytes) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [_name(name) for name in found[1].decode().split(",") if name] if found else []


def _name(file: str) -> str:
    return file.split(".")[0].replace("-", "_")
