"""The agent's HTTP server: /metrics, /healthz, and a landing page."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

__all__ = ["WebError", "WebServer"]

_log = logging.getLogger(__name__)
_REQUEST_SECONDS = 10
_STOP_SECONDS = 0.1  # how often the server looks whether it is to stop
_PAGE = b"""<!doctype html><title>spawnstall agent</title>
<h1>spawnstall agent</h1>
<p><a href="/metrics">/metrics</a> <a href="/healthz">/healthz</a></p>
"""


class WebError(Exception):
    """The address cannot be listened on; one line."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # As WSGIServer's, without its reverse look-up of the address, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS  # a client that sends nothing is dropped

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug("%s: %s", self.address_string(), format % arguments)


class WebServer:
    """Bound when it is made, so that a taken port is known first; answers from ``start`` on."""

    def __init__(self, host: str, port: int) -> None:
        server = _ServerV6 if ":" in host else _Server
        try:
            self._server = server((host, port), _Handler)
        except OSError as error:
            raise WebError(
                f"cannot listen on {host}:{port}: {error.strerror}: is another agent running there?"
                " Set web.listen in the configuration to another address"
            ) from error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.server_port

    def start(self, registry: CollectorRegistry, healthy: Callable[[], bool]) -> None:
        """Answers requests, each in a thread of its own, until ``stop``."""
        metrics = make_wsgi_app(registry)

        def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "/")
            method = environ.get("REQUEST_METHOD")
            if method not in ("GET", "HEAD"):
                return _answer(start, "405 Method Not Allowed", b"GET or HEAD\n")
            if path == "/metrics":
                body: Iterable[bytes] = metrics({**environ, "REQUEST_METHOD": "GET"}, start)
                return [] if method == "HEAD" else body
            if path == "/healthz":
                if healthy():
                    return _answer(start, "200 OK", b"ok\n")
                return _answer(start, "503 Service Unavailable", b"not tracing\n")
            if path == "/":
                return _answer(start, "200 OK", _PAGE, "text/html; charset=utf-8")
            return _answer(start, "404 Not Found", b"/metrics or /healthz\n")

        self._server.set_app(application)
        threading.Thread(
            target=self._server.serve_forever, args=(_STOP_SECONDS,), name="web", daemon=True
        ).start()

    def stop(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        """Gives the address back when ``start`` was never called."""
        self._server.server_close()


def _answer(
    start: Callable[..., Any], status: str, body: bytes, kind: str = "text/plain; charset=utf-8"
) -> Iterable[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
    if status.startswith("405"):
        headers.append(("Allow", "GET, HEAD"))
    start(status, headers)
    return [body]
