# SPDX-License-Identifier: Apache-2.0
"""The HTTP server's sockets: bounded threads, deadlines, TLS.  ``web`` has the responses.

A client may open connections and send nothing, or a byte now and then.  So the TLS handshake and the request
have deadlines, and when all connections are in use, a new one replaces the oldest.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any, Optional
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["MAX_CONNECTIONS", "Server", "ServerV6"]

MAX_CONNECTIONS = 32
"""Concurrent connections; one more closes the oldest."""

_log = logging.getLogger(__name__)
_MAX_THREADS = 2 * MAX_CONNECTIONS  # including those that are still ending after their connection was closed
_REQUEST_SECONDS = 10
_REQUEST_BYTES = 16384
_ROOM_SECONDS = 1.0


class Server(ThreadingMixIn, WSGIServer):
    """A WSGI server; raises OSError if it cannot listen on the address.

    tls: returns the TLS context for the next connection, or None for plain HTTP.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], tls: Callable[[], Optional[ssl.SSLContext]]) -> None:
        self._tls = tls
        self._open: dict[Any, bool] = {}  # by age; True once we have closed it
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without WSGIServer's reverse lookup of the address, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its thread does the TLS handshake."""
        connection, address = self.socket.accept()
        try:
            context = self._tls()
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except BaseException:
            connection.close()
            raise
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its own thread; close the oldest one if there are too many."""
        with self._changed:
            waiting = [connection for connection, was_closed in self._open.items() if not was_closed]
            if len(waiting) >= MAX_CONNECTIONS:
                self._open[waiting[0]] = True
                _shut_down(waiting[0])
            # A closed connection ends its thread at once, unless that is computing a response.
            has_room = self._changed.wait_for(lambda: len(self._open) < _MAX_THREADS, _ROOM_SECONDS)
            if has_room:
                self._open[request] = False
        if has_room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log errors of clients at debug level only."""
        _log.debug("%s: %s", client_address[0], sys.exc_info()[1])


class ServerV6(Server):
    """The same for IPv6."""

    address_family = socket.AF_INET6


def _shut_down(connection: Any) -> None:
    """Shut down a connection that another thread serves; that thread reads end-of-file."""
    with contextlib.suppress(OSError):  # the client closed it first
        # Not SSLSocket.shutdown: it ends TLS first, and the thread would then send in the clear.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS  # of a write
    default_request_version = "HTTP/1.0"  # responses to malformed requests get a status line and headers too

    def handle(self) -> None:
        deadline = time.monotonic() + _REQUEST_SECONDS
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()  # the timeout covers the whole handshake
        head = self._head(deadline)
        if head is None:
            self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
            self.send_error(431)
        elif head:
            self.rfile.close()
            self.rfile = io.BytesIO(head)
            super().handle()

    def _head(self, deadline: float) -> Optional[bytes]:
        """The request up to its empty line; b"" if it is incomplete, None if it is too long."""
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            left = deadline - time.monotonic()
            if left <= 0:
                return b""
            self.connection.settimeout(left)
            more = self.connection.recv(4096)
            if not more:
                return b""
            head += more
            if len(head) > _REQUEST_BYTES:
                return None
        self.connection.settimeout(_REQUEST_SECONDS)
        return head

    def parse_request(self) -> bool:
        """Respond to HTTP/0.9 as to HTTP/1.0, because HTTP/0.9 responses have no headers."""
        is_valid = super().parse_request()
        if self.request_version == "HTTP/0.9":
            self.request_version = self.default_request_version
        return is_valid

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """Send an error without message and explanation, which would contain parts of the request."""
        self.request_version = self.default_request_version
        super().send_error(code)

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug("%s: %s", self.client_address[0], format % arguments)
