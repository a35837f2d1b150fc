# SPDX-License-Identifier: Apache-2.0
"""One small HTTP server for a fleet of agents: /0, /1, ... are the metrics of one each."""

from __future__ import annotations

import contextlib
import gzip
import math
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.bench.fleet.hosts import Template

__all__ = ["serving"]

_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class _Agent:
    """One host: more or less busy than others of its kind, varying over time."""

    def __init__(self, template: Template, number: int) -> None:
        chance = random.Random(number)
        self._template = template
        self._scale = chance.uniform(0.5, 2)
        self._phase = chance.uniform(0, 2 * math.pi)
        self._born = time.time() - chance.uniform(3600, 86400)

    def metrics(self) -> bytes:
        age = time.time() - self._born
        # Its derivative is between 2/3 and 4/3, so that counters only rise.
        wavering = age + 30 * math.sin(age / 90 + self._phase)
        return self._template.render(self._scale * wavering).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, agents: Sequence[_Agent]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.agents = agents


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        body = gzip.compress(self.server.agents[int(self.path[1:])].metrics(), 1)  # Prometheus requests gzip
        self.send_response(200)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # Prometheus has aborted a late scrape
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serving(hosts: Sequence[Template]) -> Iterator[int]:
    """Serve an agent of each template in a separate process until the block ends; yield the port."""
    server = _Server([_Agent(template, number) for number, template in enumerate(hosts)])
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    server.socket.close()  # the other process uses it
    try:
        yield server.server_port
    finally:
        process.kill()  # it may have inherited a handler of SIGTERM (pytest-xdist)
        process.join()
