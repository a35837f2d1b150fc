"""What the agent answers over HTTP: the page, /api/stalls, /metrics and /healthz."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Optional

from prometheus_client import CollectorRegistry, make_wsgi_app

from agent.render import agent_html
from agent.serve.server import Server, ServerV6
from agent.settings.webfile import Security

__all__ = ["WebError", "WebServer"]

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_ALLOW = ("Allow", "GET, HEAD")
_Start = Callable[..., Any]


class WebError(Exception):
    """The address cannot be listened on; one line."""


class WebServer:
    """Bound when it is made, so that a taken port is known first; answers from ``start`` on."""

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
        except (ValueError, TypeError) as error:  # no name of a host, as with a NUL in it
            raise WebError(f"cannot listen on {host!r}: {error}: set web.listen to an address") from error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.server_port

    @property
    def scheme(self) -> str:
        """http or https."""
        return "http" if self._security.current().tls is None else "https"

    def start(
        self,
        registry: CollectorRegistry,
        healthy: Callable[[], bool],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        """Answers requests, each in a thread of its own, until ``stop``.

        status gives the object of /api/stalls, which is also what the page shows.
        """
        metrics = make_wsgi_app(registry)
        scraping = threading.Lock()

        def application(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "/")
            method = environ.get("REQUEST_METHOD")
            if method not in ("GET", "HEAD"):
                return _answer(start, "405 Method Not Allowed", b"GET or HEAD\n", _TEXT, _ALLOW)
            if path == "/metrics":
                with scraping:  # one at a time is no slower, and a hundred at once take the memory of one
                    body: Iterable[bytes] = metrics({**environ, "REQUEST_METHOD": "GET"}, start)
                return body
            if path == "/healthz":
                if healthy():
                    return _answer(start, "200 OK", b"ok\n")
                return _answer(start, "503 Service Unavailable", b"not tracing\n")
            if path == "/api/stalls":
                text = json.dumps(status()) + "\n"
                return _answer(start, "200 OK", text.encode(), "application/json")
            if path == "/":
                render = (
                    agent_html.news if environ.get("QUERY_STRING") == agent_html.NEWS else agent_html.page
                )
                return _answer(start, "200 OK", render(status()).encode(), _HTML)
            return _answer(start, "404 Not Found", b"/, /api/stalls, /metrics or /healthz\n")

        self._server.set_app(self._guarded(application))
        # Nothing wakes it but a connection, and stop.
        threading.Thread(target=self._server.serve_forever, args=(None,), name="web", daemon=True).start()

    def stop(self) -> None:
        """Stops listening."""
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes it
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        """Gives the address back when ``start`` was never called."""
        self._server.server_close()

    def _guarded(
        self, application: Callable[[dict[str, Any], _Start], Iterable[bytes]]
    ) -> Callable[[dict[str, Any], _Start], Iterable[bytes]]:
        """The application for users only, if there are any, and with the headers that every answer has."""

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
                return _answer(start_with_headers, "401 Unauthorized", b"Unauthorized\n", _TEXT, challenge)
            body = application(environ, start_with_headers)
            return [] if environ["REQUEST_METHOD"] == "HEAD" else body

        return guarded


def _answer(
    start: _Start, status: str, body: bytes, kind: str = _TEXT, *more: tuple[str, str]
) -> Iterable[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *more])
    return [body]
