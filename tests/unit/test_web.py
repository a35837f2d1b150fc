"""agent.web: the real server, on a free port."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from agent.web import WebError, WebServer


@dataclass
class Answer:
    status: int
    body: str
    kind: str


class Site:
    """A running server."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.healthy = True
        self.registry = CollectorRegistry()
        self.server = WebServer(host, 0)
        self.base = f"http://{f'[{host}]' if ':' in host else host}:{self.server.port}"
        self.server.start(self.registry, lambda: self.healthy)

    def ask(self, path: str, method: str = "GET", data: Optional[bytes] = None) -> Answer:
        request = urllib.request.Request(self.base + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Answer(answer.status, answer.read().decode(), answer.headers["Content-Type"])
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), error.headers["Content-Type"])


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.stop()


@pytest.fixture
def site(running: Site) -> Site:
    running.healthy = True
    return running


def test_metrics(site: Site) -> None:
    Gauge("answer", "Of it all.", registry=site.registry).set(42)
    answer = site.ask("/metrics")
    assert answer.status == 200
    assert answer.kind.startswith("text/plain; version=")
    (family,) = text_string_to_metric_families(answer.body)
    assert [(sample.name, sample.value) for sample in family.samples] == [("answer", 42)]


def test_healthz(site: Site) -> None:
    assert site.ask("/healthz") == Answer(200, "ok\n", "text/plain; charset=utf-8")
    site.healthy = False
    assert site.ask("/healthz") == Answer(503, "not tracing\n", "text/plain; charset=utf-8")
    site.healthy = True
    assert site.ask("/healthz").status == 200


def test_landing_page(site: Site) -> None:
    answer = site.ask("/")
    assert answer.status == 200
    assert answer.kind == "text/html; charset=utf-8"
    for path in ("/metrics", "/healthz"):
        assert f'href="{path}"' in answer.body
        assert site.ask(path).status == 200


@pytest.mark.parametrize("path", ["/nothing", "/metrics/x", "/healthz/", "/../etc/passwd", "/favicon.ico"])
def test_not_found(path: str, site: Site) -> None:
    answer = site.ask(path)
    assert answer.status == 404
    assert answer.body == "/metrics or /healthz\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/", "/nothing"])
def test_only_reading_is_allowed(method: str, path: str, site: Site) -> None:
    answer = site.ask(path, method, b"" if method == "POST" else None)
    assert (answer.status, answer.body) == (405, "GET or HEAD\n")


@pytest.mark.parametrize("path", ["/healthz", "/"])
def test_head(path: str, site: Site) -> None:
    assert site.ask(path, "HEAD").status == 200


def test_a_query_is_ignored(site: Site) -> None:
    assert site.ask("/healthz?verbose=1").status == 200


def test_a_client_that_says_nothing_does_not_hold_up_others(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.port)):
        assert site.ask("/healthz").status == 200


def test_a_slow_scrape_does_not_hold_up_the_health_check() -> None:
    """Each request has a thread of its own."""
    site = Site()
    asked, go_on = threading.Event(), threading.Event()

    def slow() -> float:
        asked.set()
        go_on.wait(10)
        return 1

    Gauge("slow", "Waits.", registry=site.registry).set_function(slow)
    scraper = threading.Thread(target=site.ask, args=("/metrics",))
    scraper.start()
    try:
        assert asked.wait(10)
        assert site.ask("/healthz").status == 200
    finally:
        go_on.set()
        scraper.join()
        site.server.stop()


def test_nonsense_in_place_of_a_request(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.port), timeout=10) as client:
        client.sendall(b"\xff\xfe\x00 nonsense\r\n\r\n")
        assert b" 400 " in client.recv(4096)
    assert site.ask("/healthz").status == 200


def test_ipv6() -> None:
    try:
        site = Site("::1")
    except WebError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        assert site.ask("/healthz").status == 200
    finally:
        site.server.stop()


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(WebError) as caught:
            WebServer("127.0.0.1", port)
    said = str(caught.value)
    assert said.startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")
    assert "web.listen" in said
    assert "\n" not in said


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(WebError, match=r"^cannot listen on 192\.0\.2\.1:0: "):
        WebServer("192.0.2.1", 0)  # TEST-NET-1


@pytest.mark.parametrize("started", [True, False])
def test_the_port_is_given_back(started: bool) -> None:
    server = WebServer("127.0.0.1", 0)
    port = server.port
    if started:
        server.start(CollectorRegistry(), lambda: True)
        server.stop()
    else:
        server.close()
    with contextlib.closing(socket.socket()) as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    again = WebServer("127.0.0.1", port)
    again.close()


def test_the_port_is_taken_before_anything_is_answered() -> None:
    server = WebServer("127.0.0.1", 0)
    try:
        with pytest.raises(WebError):
            WebServer("127.0.0.1", server.port)
    finally:
        server.close()
