"""The HTTP server's sockets: bounded threads, deadlines, TLS.  What is answered is in ``web``.

Whoever can reach the port can open connections and send nothing, or a byte now and then.  So a request has
to be there, with its TLS handshake, within seconds, and when all places are taken the oldest gives way.
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

__all__ = ["MOST_CONNECTIONS", "Server", "ServerV6"]

MOST_CONNECTIONS = 32
"""Connections that are served at once; one more, and the oldest is cut off."""

_log = logging.getLogger(__name__)
_MOST_THREADS = 2 * MOST_CONNECTIONS  # with those whose connections were cut off, and that have not ended yet
_REQUEST_SECONDS = 10
_REQUEST_BYTES = 16384
_ROOM_SECONDS = 1.0


class Server(ThreadingMixIn, WSGIServer):
    """A WSGI server; raises OSError when the address cannot be listened on.

    tls: gives the context for the next connection, None: plain HTTP.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], tls: Callable[[], Optional[ssl.SSLContext]]) -> None:
        self._tls = tls
        self._open: dict[Any, bool] = {}  # by age; whether it was cut off
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """As WSGIServer's, without its reverse look-up of the address, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; its handshake is left to its own thread."""
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
        """Serves a connection in a thread of its own; makes room for it when there is none."""
        with self._changed:
            waiting = [connection for connection, was_cut in self._open.items() if not was_cut]
            if len(waiting) >= MOST_CONNECTIONS:
                self._open[waiting[0]] = True
                _cut(waiting[0])
            # Those that were cut off end at once, if they are not at work on an answer.
            has_room = self._changed.wait_for(lambda: len(self._open) < _MOST_THREADS, _ROOM_SECONDS)
            if has_room:
                self._open[request] = False
        if has_room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or spoke nonsense is no news."""
        _log.debug("%s: %s", client_address[0], sys.exc_info()[1])


class ServerV6(Server):
    """The same for IPv6."""

    address_family = socket.AF_INET6


def _cut(connection: Any) -> None:
    """Ends a connection under the thread that serves it, which sees an end of file."""
    with contextlib.suppress(OSError):  # the client was quicker
        # Not SSLSocket's: it ends TLS first, and what that thread sends then would go out in the clear.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS  # of a write
    default_request_version = "HTTP/1.0"  # an answer to what has none, or a wrong one, has a head too

    def handle(self) -> None:
        deadline = time.monotonic() + _REQUEST_SECONDS
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()  # all of it within the timeout
        head = self._head(deadline)
        if head is None:
            self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
            self.send_error(431)
        elif head:
            self.rfile.close()
            self.rfile = io.BytesIO(head)
            super().handle()

    def _head(self, deadline: float) -> Optional[bytes]:
        """The request up to its empty line, b"" when it does not come, None when it is too long."""
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
        """HTTP/0.9, whose answers have no head, is answered as HTTP/1.0 is."""
        is_right = super().parse_request()
        if self.request_version == "HTTP/0.9":
            self.request_version = self.default_request_version
        return is_right

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """In our words alone: http.server's have the request in them."""
        self.request_version = self.default_request_version
        super().send_error(code)

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug("%s: %s", self.client_address[0], format % arguments)
