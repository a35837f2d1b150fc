"""Keeps compiled programs in files, so that the next start needs no compiler.

What is loaded from there runs in the kernel, so only a folder and files that belong to this user, and that
nobody else can write, are used.  Every failure means "not kept": the caller compiles.
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

_FILES = 16
"""As many are kept: a few kinds of tracing on a few kernels, 120 KB each."""


def default_folder() -> Optional[Path]:
    """systemd's CACHE_DIRECTORY, otherwise root's; None: there is none.  An empty variable turns it off."""
    named = os.environ.get("CACHE_DIRECTORY")
    if named is not None:
        return Path(named.split(":")[0]) if named else None
    return Path("/var/cache/spawnstall") if os.geteuid() == 0 else None


class Cache:
    """The files of one folder; folder None: nothing is kept."""

    def __init__(self, folder: Optional[Path]) -> None:
        self._folder = folder

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be found."""
        try:
            return self._folder is None or not any(self._folder.glob("*.bytecode"))
        except OSError:
            return True

    @staticmethod
    def key(parts: Sequence[bytes]) -> str:
        """A name for what is compiled from these; the order counts."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    def get(self, key: str) -> Optional[bytes]:
        """What was put there, None: nothing that can be trusted."""
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
        """Keeps it, and only the newest of all."""
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
                for old in kept[:-_FILES]:
                    old.unlink()


@contextlib.contextmanager
def _only_ours(path: Union[Path, str], flags: int, folder: Optional[int] = None) -> Iterator[int]:
    """The fd of something that nobody else can write; raises PermissionError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{path} is writable by others")
        yield fd
    finally:
        os.close(fd)
