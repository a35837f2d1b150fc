# SPDX-License-Identifier: Apache-2.0
"""A hundred scrapers, and half-open, slow or huge requests: the agent's resources remain bounded."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.serve.server import MAX_CONNECTIONS
from tests.bench.cost import memory
from tests.live.lab import PYTHON, Lab, RunningAgent

pytestmark = pytest.mark.alone

_MAX_THREADS = 2 * MAX_CONNECTIONS + 16  # two for each connection, and the agent's own
_MAX_GROWTH_MIB = 36
_SCRAPE_SECONDS = 8  # for a regular scrape meanwhile, on a busy machine; Prometheus allows 10


def _threads(agent: RunningAgent) -> int:
    return len(list(Path(f"/proc/{agent.process.pid}/task").iterdir()))


@contextlib.contextmanager
def _watched(agent: RunningAgent) -> Iterator[None]:
    """Check the agent's threads and memory during the block, and scrape it from time to time."""
    agent.get("/metrics")
    before = memory(agent.process.pid).private
    done = threading.Event()
    threads: list[int] = []
    scrapes: list[float] = []

    def watch() -> None:
        while not threads or not done.wait(0.05):
            threads.append(_threads(agent))

    def scrape() -> None:
        while not scrapes or not done.wait(0.5):
            began = time.monotonic()
            with contextlib.suppress(OSError):  # later connections can cut it off: Prometheus tries again
                agent.get("/healthz")
                scrapes.append(time.monotonic() - began)

    with ThreadPoolExecutor(2) as pool:
        watching = [pool.submit(watch), pool.submit(scrape)]
        try:
            yield
        finally:
            done.set()
        for each in watching:
            each.result()
    assert max(threads) <= _MAX_THREADS
    assert statistics.median(scrapes) < _SCRAPE_SECONDS
    assert memory(agent.process.pid).private - before < _MAX_GROWTH_MIB
    began = time.monotonic()
    assert "spawnstall_build_info" in agent.get("/metrics")
    assert time.monotonic() - began < _SCRAPE_SECONDS


def _connect(agent: RunningAgent, first: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", agent.port), 30)
    connection.sendall(first)
    return connection


def _fill(agent: RunningAgent) -> None:
    """Create many series, so that a scrape takes time and its response is long."""
    code = (
        "import os\n"
        "for number in range(100):\n"
        "    with open('/proc/self/comm', 'w') as comm: comm.write(f'c{number}')\n"
        "    try: os.posix_spawn('/no/such/program', ['x'], {})\n"
        "    except OSError: pass\n"
    )
    subprocess.run([PYTHON, "-c", code], check=True, timeout=60)
    assert len(agent.get("/metrics")) > 100_000


def test_a_hundred_scrapers_at_once(lab: Lab) -> None:
    """Many are cut off or refused; each response is complete, and all end soon."""
    with lab.agent() as agent:
        _fill(agent)

        def scrape(_number: int) -> bool:
            try:
                return agent.get("/metrics").endswith("\n")
            except OSError:
                return False

        with _watched(agent), ThreadPoolExecutor(100) as scrapers:
            answered = list(scrapers.map(scrape, range(100)))
        assert any(answered)
        agent.wait_until(lambda: _threads(agent) < 16, 30)


def test_half_open_connections(lab: Lab) -> None:
    """Two hundred clients send half a request and then nothing: the next one is served at once."""
    with lab.agent() as agent, contextlib.ExitStack() as clients, _watched(agent):
        for number in range(200):
            clients.enter_context(_connect(agent, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: "[: number % 40]))
        for _ in range(3):
            assert agent.get("/healthz") == "ok\n"


def test_slow_writers_and_slow_readers(lab: Lab) -> None:
    """One byte a second, up or down: closed after ten seconds, or when others need the place."""
    with lab.agent() as agent:
        _fill(agent)
        with contextlib.ExitStack() as clients, _watched(agent):
            writers = [clients.enter_context(_connect(agent, b"GET")) for _ in range(8)]
            readers = [clients.enter_context(socket.socket()) for _ in range(8)]
            for reader in readers:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                reader.settimeout(30)
                reader.connect(("127.0.0.1", agent.port))
                reader.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            began = time.monotonic()
            while writers and time.monotonic() - began < 40:
                for client in writers[:]:
                    with contextlib.suppress(OSError):
                        client.sendall(b" ")
                        continue
                    writers.remove(client)
                for reader in readers:
                    with contextlib.suppress(OSError):
                        reader.recv(1)
                time.sleep(1)
            assert not writers
        agent.wait_until(lambda: _threads(agent) < 16, 30)


def test_huge_headers(lab: Lab) -> None:
    """A header of a hundred megabytes is not kept; the response is 431 or a reset."""
    with lab.agent() as agent, _watched(agent):
        for _ in range(4):
            with _connect(agent, b"GET / HTTP/1.0\r\nX: ") as client, contextlib.suppress(OSError):
                for _ in range(100):
                    client.sendall(b"x" * (1 << 20))
        with _connect(agent, b"GET / HTTP/1.0\r\nX: " + b"x" * 16384) as client:
            assert b" 431 " in client.recv(100)
