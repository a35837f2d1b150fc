"""Kernel modules on disk: which ones a module needs, in the order in which they are to be loaded."""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["NEEDED", "ModuleError", "closure", "contents"]

NEEDED = ("virtio_pci", "9pnet_virtio", "9p")
"""What a machine needs to see the host's files; a kernel may have them built in."""

_OPENERS: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
}


class ModuleError(Exception):
    """A module is missing, or packed in a way that is not known here."""


def contents(file: Path) -> bytes:
    """The unpacked module of a ``.ko``, ``.ko.xz`` or ``.ko.gz`` file."""
    opener = _OPENERS.get(file.suffix)
    if opener is None:
        raise ModuleError(f"{file}: only .ko, .ko.xz and .ko.gz are known here: unpack it")
    return opener(file.read_bytes())


def closure(folder: Path, wanted: Iterable[str] = NEEDED) -> list[Path]:
    """Files of the wanted modules and of all that they depend on, each after what it needs.

    Raises ModuleError when one is neither in the folder nor listed in a modules.builtin there.
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

    for name in wanted:
        add(_name(name))
    return list(ordered.values())


def _depends(module: bytes) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [_name(name) for name in found[1].decode().split(",") if name] if found else []


def _name(file: str) -> str:
    return file.split(".")[0].replace("-", "_")
