# SPDX-License-Identifier: Apache-2.0
"""Serve the page, /api/stalls, /metrics and /healthz over HTTP."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Optional

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.openmetrics import exposition as openmetrics

from agent.errors import UserError
from agent.render import agent_html
from agent.reports.types import StatusObject
from agent.serve.documents import Busy, Document, Gone, Queue
from agent.serve.origins import is_accepted_host, is_cross_site, is_loopback
from agent.serve.server import IS_GONE, Server, ServerV6
from agent.serve.unixserver import SocketFile, UnixServer
from agent.settings.webfile import Security, TooManyLogins

__all__ = ["WebError", "WebServer"]

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_ALLOW = ("Allow", "GET, HEAD")
_RETRY = ("Retry-After", "1")
_UNKNOWN_HOST = b"unknown Host: use an IP address, localhost or this host's name; see web.allowed_hosts\n"
_OPENMETRICS = "application/openmetrics-text"
_Start = Callable[..., Any]
_Application = Callable[[dict[str, Any], _Start], Iterable[bytes]]

_log = logging.getLogger(__name__)


class WebError(UserError):
    """The server cannot listen on its address or socket; one line says why."""


class WebServer:
    """Bind the address when created, so that a port in use is detected early; serve after ``start``.

    host, port: where to listen; host is "" for only unix.  unix: a Unix socket to listen on.
    allowed_hosts: names in Host headers that are accepted on the loopback, besides this host's own.
    """

    def __init__(
        self,
        host: str,
        port: int,
        security: Optional[Security] = None,
        unix: Optional[SocketFile] = None,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        self._security = security or Security(None)
        self._tcp: Optional[Server] = None
        self._unix: Optional[Server] = None
        self._refused: Callable[[str], None] = _ignore
        self._host = host
        self._names = {name.lower() for name in (host, *allowed_hosts)}
        self._checks_hosts = bool(allowed_hosts)
        if host:
            self._tcp = self._listen(host, port)
            self._checks_hosts |= is_loopback(self._tcp.server_name)
        if unix is not None:
            try:
                self._unix = UnixServer(unix, headers=self._headers, refused=self._refuse)
            except (OSError, ValueError) as error:
                self.close()
                why = getattr(error, "strerror", None) or error
                raise WebError(f"cannot listen on {unix.path!r}: {why}: see web.socket") from error

    def _listen(self, host: str, port: int) -> Server:
        server = ServerV6 if ":" in host else Server
        try:
            return server((host, port), lambda: self._security.current().tls, self._headers, self._refuse)
        except OSError as error:
            raise WebError(
                f"cannot listen on {host}:{port}: {error.strerror}: is another agent running there?"
                " Set web.listen in the configuration to another address"
            ) from error
        except (ValueError, TypeError) as error:  # not a host name, such as one with a NUL
            raise WebError(f"cannot listen on {host!r}: {error}: set web.listen to an address") from error

    @property
    def port(self) -> int:
        """The TCP port, 0 if there is only a Unix socket."""
        return 0 if self._tcp is None else self._tcp.server_port

    @property
    def scheme(self) -> str:
        """http or https."""
        return "http" if self._security.current().tls is None else "https"

    @property
    def where(self) -> str:
        """Where it listens, for the log."""
        found = []
        if self._tcp is not None:
            host = f"[{self._host}]" if ":" in self._host else self._host
            found.append(f"{self.scheme}://{host}:{self.port}")
        if self._unix is not None:
            found.append(f"the socket {self._unix.server_address!r}")
        return " and ".join(found)

    def start(
        self,
        registry: CollectorRegistry,
        healthy: Callable[[], bool],
        status: Callable[[], StatusObject],
        refused: Optional[Callable[[str], None]] = None,
    ) -> None:
        """Serve requests, each in its own thread, until ``stop``.

        status: returns the object of /api/stalls, which the page shows too.  refused: called with the reason
        for each request or connection that is not served.
        """
        if refused is not None:
            self._refused = refused
        application = self._application(registry, healthy, status)
        for server in self._servers():
            # No browser connects to a Unix socket; a proxy in front of it has to check hosts itself.
            checks_hosts = self._checks_hosts and server is self._tcp
            server.set_app(self._guarded(application, checks_hosts))
            # No poll interval: only a connection or stop wakes it.
            threading.Thread(target=server.serve_forever, args=(None,), name="web", daemon=True).start()

    def stop(self) -> None:
        """Stop serving, close the port and remove the socket."""
        for server in self._servers():
            server.socket.shutdown(socket.SHUT_RDWR)  # wakes serve_forever
            server.shutdown()
        self.close()

    def close(self) -> None:
        """Close the port and remove the socket; all that is needed if ``start`` was never called."""
        for server in self._servers():
            server.server_close()

    def _servers(self) -> list[Server]:
        return [server for server in (self._tcp, self._unix) if server is not None]

    def _application(
        self, registry: CollectorRegistry, healthy: Callable[[], bool], status: Callable[[], StatusObject]
    ) -> _Application:
        queue = Queue()
        _, plain = choose_encoder("")
        text = Document(plain, lambda: generate_latest(registry))
        exemplars = Document(
            openmetrics.CONTENT_TYPE_LATEST,
            lambda: openmetrics.generate_latest(registry),  # type: ignore[no-untyped-call]
        )
        stalls = Document("application/json", lambda: (json.dumps(status()) + "\n").encode())
        page = Document(_HTML, lambda: agent_html.page(status()).encode())
        news = Document(_HTML, lambda: agent_html.news(status()).encode())

        def document(environ: Mapping[str, Any]) -> Optional[Document]:
            path = environ.get("PATH_INFO", "/")
            if path == "/metrics":
                # Two formats, not one for each version and escaping that a client may ask for.
                _, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
                return exemplars if content_type.startswith(_OPENMETRICS) else text
            if path == "/":
                return news if environ.get("QUERY_STRING") == agent_html.NEWS else page
            return stalls if path == "/api/stalls" else None

        def application(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
            if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
                return _respond(start, "405 Method Not Allowed", b"GET or HEAD\n", _TEXT, _ALLOW)
            if environ.get("PATH_INFO") == "/healthz":  # never waits for others
                if healthy():
                    return _respond(start, "200 OK", b"ok\n")
                return _respond(start, "503 Service Unavailable", b"not tracing\n")
            wanted = document(environ)
            if wanted is None:
                return _respond(start, "404 Not Found", b"/, /api/stalls, /metrics or /healthz\n")
            gzipped = gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", ""))
            try:
                body = queue.body(wanted, gzipped, environ[IS_GONE])
            except Busy:
                return self._busy(start)
            except Gone:
                self._refuse("gone")
                raise
            encoding = (("Content-Encoding", "gzip"),) if gzipped else ()
            return _respond(start, "200 OK", body, wanted.content_type, *encoding)

        return application

    def _guarded(self, application: _Application, checks_hosts: bool) -> _Application:
        """The application behind the checks of origin and user, with the headers of every response."""

        def checked(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
            if checks_hosts and not is_accepted_host(environ.get("HTTP_HOST", ""), self._names):
                self._refuse("host")
                return _respond(start, "421 Misdirected Request", _UNKNOWN_HOST)
            if is_cross_site(environ):
                self._refuse("cross_site")
                return _respond(start, "403 Forbidden", b"requests from other web sites are refused\n")
            try:
                is_admitted = self._security.current().admits(environ.get("HTTP_AUTHORIZATION", ""))
            except TooManyLogins:
                return self._busy(start)
            if not is_admitted:
                self._refuse("unauthorized")
                challenge = ("WWW-Authenticate", "Basic")
                return _respond(start, "401 Unauthorized", b"Unauthorized\n", _TEXT, challenge)
            return application(environ, start)

        def guarded(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
            headers = self._headers()

            def start_with_headers(status: str, own: list[tuple[str, str]], *more: Any) -> Any:
                return start(status, [*own, *headers.items()], *more)

            try:
                body = checked(environ, start_with_headers)
            except ConnectionError:
                raise  # the server closes the connection
            except Exception:
                _log.exception("a request failed")
                body = _respond(start_with_headers, "500 Internal Server Error", b"see the agent's log\n")
            return [] if environ["REQUEST_METHOD"] == "HEAD" else body

        return guarded

    def _busy(self, start: _Start) -> Iterable[bytes]:
        self._refuse("busy")
        return _respond(start, "503 Service Unavailable", b"busy: try again\n", _TEXT, _RETRY)

    def _headers(self) -> dict[str, str]:
        """The headers of every response."""
        return {
            "Cache-Control": "no-store",
            "Content-Security-Policy": agent_html.content_security_policy(),
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "deny",
            **self._security.current().headers,
        }

    def _refuse(self, reason: str) -> None:
        self._refused(reason)


def _ignore(_reason: str) -> None:
    """Count nothing: nobody asked for it."""


def _respond(
    start: _Start, status: str, body: bytes, kind: str = _TEXT, *more: tuple[str, str]
) -> Iterable[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *more])
    return [body]
