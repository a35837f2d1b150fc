# SPDX-License-Identifier: Apache-2.0
"""Keep compiled programs in files, so that the next start needs no compiler.

Whoever writes these files runs code in the kernel, so a folder or file is used only if it belongs to this
user and no other user can write it.  Every failure counts as a miss, and the caller compiles.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional, Union

__all__ = ["Cache", "default_folder"]

_MAX_FILES = 16
"""Enough for a few kinds of tracing on a few kernels; each has about 120 KB."""


def default_folder() -> Optional[Path]:
    """Return systemd's CACHE_DIRECTORY, or root's default folder, or None.

    An empty CACHE_DIRECTORY turns the cache off.
    """
    named = os.environ.get("CACHE_DIRECTORY")
    if named is not None:
        return Path(named.split(":")[0]) if named else None
    return Path("/var/cache/spawnstall") if os.geteuid() == 0 else None


class Cache:
    """The cache in a folder; with None, nothing is kept."""

    def __init__(self, folder: Optional[Path]) -> None:
        self._folder = folder

    @property
    def is_empty(self) -> bool:
        """Whether the cache has no files."""
        try:
            return self._folder is None or not any(self._folder.glob("*.bytecode"))
        except OSError:
            return True

    @staticmethod
    def key(parts: Sequence[bytes]) -> str:
        """Return the key for parts that the content depends on, in this order."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    def get(self, key: str) -> Optional[bytes]:
        """Return the content of a key; None if there is none that can be trusted."""
        if self._folder is None:
            return None
        try:
            with _only_ours(self._folder, os.O_DIRECTORY) as folder:
                name = f"{key}.bytecode"
                with _only_ours(name, os.O_NOFOLLOW, folder) as fd, open(fd, "rb", closefd=False) as file:
                    digest, _, content = file.read().partition(b"\n")
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest().encode() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Keep a content, and delete the oldest files beyond the limit."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with _only_ours(self._folder, os.O_DIRECTORY):
                new = self._folder / f"{key}.{os.getpid()}"
                try:
                    new.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                    new.chmod(0o600)
                    new.replace(self._folder / f"{key}.bytecode")
                except OSError:
                    new.unlink()
                    raise
                kept = sorted(self._folder.glob("*.bytecode"), key=lambda file: file.stat().st_mtime)
                for old in kept[:-_MAX_FILES]:
                    old.unlink()


@contextlib.contextmanager
def _only_ours(path: Union[Path, str], flags: int, folder: Optional[int] = None) -> Iterator[int]:
    """Open a file or folder; raise PermissionError if another user owns it or can write it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{path} belongs to another user, or other users can write it")
        yield fd
    finally:
        os.close(fd)
