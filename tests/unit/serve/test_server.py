# SPDX-License-Identifier: Apache-2.0
"""agent.serve.server when the host is out of file descriptors or threads."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serve.test_web import Site

_OUT_OF_FDS = """
import logging, os, resource, sys
from prometheus_client import CollectorRegistry
from agent.serve.server import Server
from agent.serve.web import WebServer

logging.basicConfig(level="WARNING", format="%(message)s")
attempts = 0
get_request = Server.get_request

def counted(server):
    global attempts
    attempts += 1
    return get_request(server)

Server.get_request = counted
web = WebServer("127.0.0.1", 0)
web.start(CollectorRegistry(), lambda: True, lambda: {})
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    print(web.port, flush=True)
sys.stdin.readline()
print(attempts, flush=True)
for fd in taken:
    os.close(fd)
sys.stdin.readline()
web.stop()
"""


def test_out_of_file_descriptors(repo_root: Path) -> None:
    """Clients wait until there are some again; the agent neither spins nor fills its log."""
    with subprocess.Popen(
        [sys.executable, "-c", _OUT_OF_FDS],
        cwd=repo_root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as agent:
        assert agent.stdin is not None and agent.stdout is not None and agent.stderr is not None
        try:
            port = int(agent.stdout.readline())
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                client.settimeout(1)
                with pytest.raises(socket.timeout):
                    client.recv(1)
                agent.stdin.write("\n")
                agent.stdin.flush()
                attempts = int(agent.stdout.readline())
                assert 1 < attempts <= 2 + 5 * (time.monotonic() - began)
                client.settimeout(20)
                assert client.recv(20).startswith(b"HTTP/1.0 200")
            agent.stdin.write("\n")
            agent.stdin.flush()
            [line] = agent.stderr.read().splitlines()
            assert "Too many open files" in line
            assert agent.wait(20) == 0
        finally:
            agent.kill()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.stop()


def test_out_of_threads(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def fails(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(threading.Thread, "start", fails)
    for _ in range(3):
        with site.connect() as client:
            with contextlib.suppress(ConnectionError):  # it can be closed already
                client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n")
    assert caplog.messages == ["a connection is refused: can't start new thread"]
    assert site.refused == ["threads"] * 3
    monkeypatch.setattr(threading.Thread, "start", start)
    assert site.ask("/healthz").status == 200
