# SPDX-License-Identifier: Apache-2.0
"""The HTTP server on a Unix socket, whose mode and group say who may connect."""

from __future__ import annotations

import grp
import logging
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from agent.serve.server import Server
from agent.settings import agentfile

__all__ = ["SocketFile", "UnixServer"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SocketFile:
    """Where the socket is.

    mode: permission bits; connecting takes the permission to write.  group: "" for that of the agent.
    """

    path: str
    mode: int = 0o600
    group: str = ""

    @classmethod
    def of(cls, web: agentfile.Web) -> Optional[SocketFile]:
        """The socket of a configuration, or None."""
        return cls(web.socket, int(web.socket_mode, 8), web.socket_group) if web.socket else None


class UnixServer(Server):
    """A WSGI server on a Unix socket; raises OSError or ValueError if it cannot create the socket.

    A socket that an earlier agent left behind is replaced; anything else at its path is an error.
    """

    address_family = socket.AF_UNIX

    def __init__(self, file: SocketFile, **options: Any) -> None:
        self._file = file
        self._created: Optional[tuple[int, int]] = None
        super().__init__(file.path, **options)

    def server_bind(self) -> None:
        """Create the socket with its mode and group, before clients can connect."""
        group = -1 if not self._file.group else _group_id(self._file.group)
        _remove_stale(self._file.path)
        # bind(2) takes the mode of the unbound socket, less the umask, and does not follow a symlink.
        os.fchmod(self.socket.fileno(), self._file.mode)
        umask = os.umask(0)
        try:
            self.socket.bind(self._file.path)
        finally:
            os.umask(umask)
        self._created = _identity(self._file.path)
        os.chown(self._file.path, -1, group, follow_symlinks=False)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; clients have no address."""
        connection, _ = super().get_request()
        return connection, ("unix", 0)

    def server_close(self) -> None:
        """Close the socket and remove its file, unless another agent has replaced it."""
        super().server_close()
        try:
            if self._created is not None and _identity(self._file.path) == self._created:
                Path(self._file.path).unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("cannot remove the socket %r: %s", self._file.path, error.strerror)


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        raise ValueError("it exists and is not a socket of this user: remove it")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
    raise ValueError("another program listens there")


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {name!r}") from None
