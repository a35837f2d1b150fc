# SPDX-License-Identifier: Apache-2.0
"""Open the files to which reports are written, so that nobody else decides which file that is.

trace-popen often runs as root, and writes to folders where everybody can create names, such as /tmp.  A path
is walked folder by folder, and a link or pipe that a stranger has put there is refused.  A stranger is a
user other than root, this user, and the owner of a folder in which others cannot create names.

A new file is created under a temporary name in the same folder and then renamed: that replaces what has the
name without opening it, and readers see the old file or the new one.  Pipes and devices are opened as they
are, and so is a file that cannot be replaced: a mount point, or one in a folder that we cannot write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from pathlib import Path
from typing import IO, Optional

from agent.errors import UserError

__all__ = ["OutputFile"]

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC
_MAX_LINKS = 40  # as in Linux
_PROC = Path("/proc")


class OutputFile:
    """A file that gets its name by ``publish``; or a pipe or device, which has one.

    The constructor raises OSError, or UserError if another user decides where the path leads.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._temporary: Optional[str] = None
        self._fd = -1
        with contextlib.ExitStack() as undo:
            self._folder = _Folder(path)
            undo.callback(self.close)
            try:
                self._name = self._folder.walk()
                self._fd = self._open()
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
            undo.pop_all()

    def text(self) -> IO[str]:
        """A stream of text, which the caller closes."""
        return open(self.path, "w", encoding="utf-8", opener=self._take)

    def binary(self) -> IO[bytes]:
        """An unbuffered stream of bytes, which the caller closes."""
        return open(self.path, "wb", buffering=0, opener=self._take)

    @property
    def is_in_foreign_folder(self) -> bool:
        """Whether ``publish`` needs the privilege to write to a folder of another user."""
        return self._temporary is not None and os.fstat(self._folder.fd).st_uid != os.geteuid()

    def publish(self) -> None:
        """Give the file its name, in place of any other file of that name.  Raises OSError."""
        if self._temporary is not None:
            try:
                os.rename(self._temporary, self._name, src_dir_fd=self._folder.fd, dst_dir_fd=self._folder.fd)
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from error
            self._temporary = None

    def close(self) -> None:
        """Remove the file if it has not been published; a stream stays open."""
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder.fd)
            self._temporary = None
        self._folder.close()
        if self._fd >= 0:
            os.close(self._take())

    def _take(self, *_arguments: object) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def _open(self) -> int:
        old = self._folder.status(self._name)
        if old is None or (stat.S_ISREG(old.st_mode) and not self._folder.has_mount(self._name)):
            if old is not None and self._folder.protects(old):
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            try:
                return self._create(old)
            except PermissionError:
                if old is None:
                    raise
            except OSError as error:
                if old is None or error.errno != errno.EROFS:
                    raise
        return self._open_existing(old)

    def _create(self, old: Optional[os.stat_result]) -> int:
        """Create the file, with the mode and owner of the old one unless that is a stranger's."""
        keep = None if old is None or self._folder.is_of_stranger(old) else old
        name = f".trace-popen-{secrets.token_hex(8)}"
        mode = 0o666 if keep is None else stat.S_IMODE(keep.st_mode) & 0o777
        fd = os.open(name, _WRITE | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=self._folder.fd)
        self._temporary = name
        if keep is not None:
            with contextlib.suppress(PermissionError):
                os.fchown(fd, keep.st_uid, keep.st_gid)
            os.fchmod(fd, mode)
        return fd

    def _open_existing(self, old: os.stat_result) -> int:
        folder = self._folder
        if stat.S_ISLNK(old.st_mode):  # of the kernel, as /dev/stdout: leads to a file that is open already
            return os.open(self._name, _WRITE | os.O_TRUNC, dir_fd=folder.fd)
        if stat.S_ISFIFO(old.st_mode) and folder.is_of_stranger(old):
            raise UserError(f"{self.path}: not opened: this pipe belongs to another user (uid {old.st_uid})")
        fd = os.open(self._name, _WRITE | os.O_NOFOLLOW, dir_fd=folder.fd)
        try:
            now = os.fstat(fd)
            if (now.st_dev, now.st_ino) != (old.st_dev, old.st_ino):
                raise OSError(errno.EBUSY, "replaced while it was opened")
            if stat.S_ISREG(now.st_mode):
                os.ftruncate(fd, 0)
        except OSError:
            os.close(fd)
            raise
        return fd


class _Folder:
    """The folder of a path, held open: nobody can put another one in its place."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.fd = os.open("/" if path.startswith("/") else ".", _FOLDER)

    def walk(self) -> str:
        """Go to the folder of the path; return the last name, which is not a link, except one in /proc.

        Raises OSError, or UserError at another user's link.
        """
        todo = self._path.split("/")[::-1]
        links = 0
        while True:
            name = todo.pop() or "."
            is_last = not any(todo)
            status = self.status(name)
            is_link = status is not None and stat.S_ISLNK(status.st_mode)
            of_kernel = status is not None and status.st_dev == _PROC.stat().st_dev
            if status is None or not is_link or of_kernel:
                if is_last:
                    return name
                self._enter(name, of_kernel)
                continue
            if self.is_of_stranger(status):
                raise UserError(
                    f"{self._path}: not followed: the symbolic link {name} belongs to another user"
                    f" (uid {status.st_uid})"
                )
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(name, dir_fd=self.fd)
            if target.startswith("/"):
                self._enter("/", False)
            todo += target.split("/")[::-1]

    def status(self, name: str) -> Optional[os.stat_result]:
        """The status of a name, not of what a link leads to; None if there is nothing."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_of_stranger(self, status: os.stat_result) -> bool:
        """Whether a name in this folder belongs to somebody whom we do not trust."""
        folder = os.fstat(self.fd)
        trusted = {0, os.geteuid()} if folder.st_mode & stat.S_IWOTH else {0, os.geteuid(), folder.st_uid}
        return status.st_uid not in trusted

    def protects(self, status: os.stat_result) -> bool:
        """Whether this folder is sticky, so that we cannot replace the file of another user."""
        folder = os.fstat(self.fd)
        owners = (folder.st_uid, status.st_uid)
        return bool(folder.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, *owners)

    def has_mount(self, name: str) -> bool:
        """Whether something is mounted over a file, as a container engine does: it cannot be replaced."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            return _mount_of(fd) != _mount_of(self.fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _enter(self, name: str, follow: bool) -> None:
        fd = os.open(name, _FOLDER if follow else _FOLDER | os.O_NOFOLLOW, dir_fd=self.fd)
        os.close(self.fd)
        self.fd = fd


def _mount_of(fd: int) -> Optional[str]:
    found = re.search(r"^mnt_id:\t(\d+)$", (_PROC / f"self/fdinfo/{fd}").read_text(), re.MULTILINE)
    return found and found[1]
