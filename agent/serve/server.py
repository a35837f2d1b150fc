# SPDX-License-Identifier: Apache-2.0
"""The HTTP server's sockets: bounded threads, deadlines, TLS.  ``web`` has the responses.

A client may open connections and send nothing, or a byte now and then.  So the TLS handshake and the request
have deadlines, and when all connections are in use, a new one replaces the oldest: of those whose request is
incomplete, or of those that get a response, whichever are more.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import io
import logging
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from socketserver import ThreadingMixIn
from typing import Any, Optional
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["IS_GONE", "MAX_CONNECTIONS", "REFUSALS", "Server", "ServerV6"]

MAX_CONNECTIONS = 32
"""Concurrent connections; one more closes the oldest."""

REFUSALS = ("busy", "connections", "cross_site", "gone", "host", "threads", "unauthorized")
"""Why a request or connection is not served."""

IS_GONE = "spawnstall.is_gone"
"""The key of the WSGI environment for a function that waits for some seconds, or until the client closes its
connection, and returns whether it did."""

_log = logging.getLogger(__name__)
_MAX_THREADS = 2 * MAX_CONNECTIONS  # including those that are still ending after their connection was closed
_REQUEST_SECONDS = 10
_REQUEST_BYTES = 16384
_ROOM_SECONDS = 1.0
_ACCEPT_PAUSE_SECONDS = 0.2
_COMPLAINT_SECONDS = 60.0
_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class _State(enum.Enum):
    """How far a connection is."""

    WAITS = "its request is incomplete"
    ASKED = "its request is complete"
    CLOSED = "we have closed it, and its thread has not ended yet"


class Server(ThreadingMixIn, WSGIServer):
    """A WSGI server; raises OSError if it cannot listen on the address.

    tls: returns the TLS context for the next connection, or None for plain HTTP.
    headers: returns the headers of responses to malformed requests, which the application does not see.
    refused: called with the reason for each connection that is closed or refused for lack of room.
    """

    daemon_threads = True
    block_on_close = False  # nobody waits for these threads, so they need no list
    request_queue_size = 64

    def __init__(
        self,
        address: Any,
        tls: Callable[[], Optional[ssl.SSLContext]] = lambda: None,
        headers: Callable[[], Mapping[str, str]] = dict,
        refused: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._tls = tls
        self._headers = headers
        self._refused = refused
        self._open: dict[Any, _State] = {}  # by age
        self._changed = threading.Condition()
        self._complaints: dict[str, float] = {}
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
        try:
            connection, address = self.socket.accept()
        except OSError as error:
            if error.errno in _NO_RESOURCES:
                self._complain("clients wait for a connection", str(error.strerror))
                time.sleep(_ACCEPT_PAUSE_SECONDS)  # the connection stays in the kernel's queue: do not spin
            raise
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
            self._close_one_of_too_many()
            # A closed connection ends its thread at once, unless that is computing a response.
            has_room = self._changed.wait_for(lambda: len(self._open) < _MAX_THREADS, _ROOM_SECONDS)
            if has_room:
                self._open[request] = _State.WAITS
        if not has_room:
            self._refuse(request, "threads")
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:  # no memory or no process number for a thread
            self._complain("a connection is refused", str(error))
            self._refuse(request, "threads")

    def error_headers(self) -> Mapping[str, str]:
        """The headers of responses to malformed requests."""
        return self._headers()

    def asked(self, request: Any) -> None:
        """Note that a connection has sent its whole request."""
        with self._changed:
            if self._open.get(request) is _State.WAITS:
                self._open[request] = _State.ASKED

    def _close_one_of_too_many(self) -> None:
        waits = [connection for connection, state in self._open.items() if state is _State.WAITS]
        asked = [connection for connection, state in self._open.items() if state is _State.ASKED]
        if len(waits) + len(asked) >= MAX_CONNECTIONS:
            oldest = max(waits, asked, key=len)[0]
            self._open[oldest] = _State.CLOSED
            _shut_down(oldest)
            self._refused("connections")

    def _refuse(self, request: Any, reason: str) -> None:
        self._refused(reason)
        if not isinstance(request, ssl.SSLSocket):  # it would need a handshake first
            with contextlib.suppress(OSError):
                request.recv(_REQUEST_BYTES, socket.MSG_DONTWAIT)  # else closing it resets the connection
            with contextlib.suppress(OSError):
                request.send(_BUSY, socket.MSG_DONTWAIT)
        self.shutdown_request(request)

    def _complain(self, what: str, why: str) -> None:
        """Log a lack of resources, at most once a minute for each kind."""
        now = time.monotonic()
        if now >= self._complaints.get(what, now):
            self._complaints[what] = now + _COMPLAINT_SECONDS
            _log.warning("%s: %s", what, why)

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
    server: Server
    timeout = _REQUEST_SECONDS  # of a write
    default_request_version = "HTTP/1.0"  # responses to malformed requests get a status line and headers too

    def handle(self) -> None:
        deadline = time.monotonic() + _REQUEST_SECONDS
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()  # the timeout covers the whole handshake
        head = self._head(deadline)
        if head != b"":
            self.server.asked(self.request)
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

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environment, with IS_GONE."""
        return {**super().get_environ(), IS_GONE: self._is_gone}

    def _is_gone(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        return bool(poll.poll(seconds * 1000))

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

    def end_headers(self) -> None:
        """End the headers of an error; the application sends its own."""
        for name, value in self.server.error_headers().items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug("%s: %s", self.client_address[0], format % arguments)
