# SPDX-License-Identifier: Apache-2.0
"""Serve the page, /api/stalls, /metrics and /healthz over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Optional

from prometheus_client import CollectorRegistry, make_wsgi_app

from agent.errors import UserError
from agent.render import agent_html
from agent.reports.types import StatusObject
from agent.serve.server import Server, ServerV6
from agent.settings.webfile import Security

__all__ = ["WebError", "WebServer"]

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_ALLOW = ("Allow", "GET, HEAD")
_Start = Callable[..., Any]


class WebError(UserError):
    """The server cannot listen on its address; one line says why."""


class WebServer:
    """Bind the address when created, so that a port in use is detected early; serve after ``start``."""

    def __init__(self, host: str, port: int, security: Optional[Security] = None) -> None:
        self._security = security or Security(None)
        server = ServerV6 if ":" in host else Server
        try:
            self._server = server((host, port), lambda: self._security.current().tls)
        except OSError as error:
            raise WebError(
                f"cannot listen on {host}:{port}: {error.strerror}: is another agent running there?"
                " Set web.listen in the configuration to another address"
            ) from error
        except (ValueError, TypeError) as error:  # not a host name, such as one with a NUL
            raise WebError(f"cannot listen on {host!r}: {error}: set web.listen to an address") from error

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._server.server_port

    @property
    def scheme(self) -> str:
        """http or https."""
        return "http" if self._security.current().tls is None else "https"

    def start(
        self,
        registry: CollectorRegistry,
        healthy: Callable[[], bool],
        status: Callable[[], StatusObject],
    ) -> None:
        """Serve requests, each in its own thread, until ``stop``.

        status: returns the object of /api/stalls, which the page shows too.
        """
        metrics = make_wsgi_app(registry)
        scraping = threading.Lock()

        def application(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "/")
            method = environ.get("REQUEST_METHOD")
            if method not in ("GET", "HEAD"):
                return _respond(start, "405 Method Not Allowed", b"GET or HEAD\n", _TEXT, _ALLOW)
            if path == "/metrics":
                with scraping:  # bounds memory, and scrapes are not faster in parallel
                    body: Iterable[bytes] = metrics({**environ, "REQUEST_METHOD": "GET"}, start)
                return body
            if path == "/healthz":
                if healthy():
                    return _respond(start, "200 OK", b"ok\n")
                return _respond(start, "503 Service Unavailable", b"not tracing\n")
            if path == "/api/stalls":
                text = json.dumps(status()) + "\n"
                return _respond(start, "200 OK", text.encode(), "application/json")
            if path == "/":
                render = (
                    agent_html.news if environ.get("QUERY_STRING") == agent_html.NEWS else agent_html.page
                )
                return _respond(start, "200 OK", render(status()).encode(), _HTML)
            return _respond(start, "404 Not Found", b"/, /api/stalls, /metrics or /healthz\n")

        self._server.set_app(self._guarded(application))
        # No poll interval: only a connection or stop wakes it.
        threading.Thread(target=self._server.serve_forever, args=(None,), name="web", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes serve_forever
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        """Close the port if ``start`` was never called."""
        self._server.server_close()

    def _guarded(
        self, application: Callable[[dict[str, Any], _Start], Iterable[bytes]]
    ) -> Callable[[dict[str, Any], _Start], Iterable[bytes]]:
        """The application with authentication, if users are configured, and the headers of every response."""

        def guarded(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
            security = self._security.current()
            headers = {
                "Cache-Control": "no-store",
                "Content-Security-Policy": agent_html.content_security_policy(),
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "deny",
                **security.headers,
            }

            def start_with_headers(status: str, own: list[tuple[str, str]], *more: Any) -> Any:
                return start(status, [*own, *headers.items()], *more)

            if not security.admits(environ.get("HTTP_AUTHORIZATION", "")):
                challenge = ("WWW-Authenticate", "Basic")
                return _respond(start_with_headers, "401 Unauthorized", b"Unauthorized\n", _TEXT, challenge)
            body = application(environ, start_with_headers)
            return [] if environ["REQUEST_METHOD"] == "HEAD" else body

        return guarded


def _respond(
    start: _Start, status: str, body: bytes, kind: str = _TEXT, *more: tuple[str, str]
) -> Iterable[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *more])
    return [body]
