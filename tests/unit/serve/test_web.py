# SPDX-License-Identifier: Apache-2.0
"""agent.serve.web and server, on a free port."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Optional

import bcrypt
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agent.serve import server
from agent.serve.documents import Queue
from agent.serve.history import History
from agent.serve.stallkinds import StallKinds
from agent.serve.status import Status
from agent.serve.unixserver import SocketFile
from agent.serve.web import WebError, WebServer
from agent.settings.webfile import Security
from tests.unit.certificates import Authority, Pair
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import spawn, stall
from tests.unit.serve.test_metrics import FakeSource


@dataclass
class Answer:
    status: int
    body: str
    headers: Message

    @property
    def kind(self) -> str:
        return str(self.headers["Content-Type"])


class Site:
    """A running server."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        security: Optional[Security] = None,
        allowed_hosts: Collection[str] = (),
        unix: Optional[SocketFile] = None,
    ) -> None:
        self.healthy = True
        self.refused: list[str] = []
        self.registry = CollectorRegistry()
        self.history = History(100)
        status = Status(
            FakeSource(),
            self.history,
            StallKinds(CLOCK),
            lambda: (1, 0, 99, 0),
            CLOCK,
            lambda: self.healthy,
            "0.26.0",
        )
        self.server = WebServer(host, 0, security, unix, allowed_hosts)
        self.base = f"{self.server.scheme}://{f'[{host}]' if ':' in host else host}:{self.server.port}"
        self.server.start(self.registry, lambda: self.healthy, status.read, self.refused.append)

    def ask(
        self,
        path: str,
        method: str = "GET",
        data: Optional[bytes] = None,
        tls: Optional[ssl.SSLContext] = None,
        authorization: Optional[str] = None,
        headers: Optional[dict[str, str]] = None,
    ) -> Answer:
        headers = dict(headers or {})
        if authorization is not None:
            headers["Authorization"] = authorization
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20, context=tls) as answer:
                return Answer(answer.status, answer.read().decode(), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), error.headers)

    def connect(self) -> socket.socket:
        """A raw connection to the server."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=20)


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.stop()


@pytest.fixture
def site(running: Site) -> Site:
    running.healthy = True
    return running


@pytest.fixture
def quiet() -> Iterator[Site]:
    """A server that nobody has asked anything yet."""
    site = Site()
    yield site
    site.server.stop()


def test_metrics(site: Site) -> None:
    Gauge("answer", "Of it all.", registry=site.registry).set(42)
    answer = site.ask("/metrics")
    assert answer.status == 200
    assert answer.kind.startswith("text/plain; version=")
    (family,) = text_string_to_metric_families(answer.body)
    assert [(sample.name, sample.value) for sample in family.samples] == [("answer", 42)]


def test_healthz(site: Site) -> None:
    answer = site.ask("/healthz")
    assert (answer.status, answer.body, answer.kind) == (200, "ok\n", "text/plain; charset=utf-8")
    site.healthy = False
    answer = site.ask("/healthz")
    assert (answer.status, answer.body, answer.kind) == (503, "not tracing\n", "text/plain; charset=utf-8")
    site.healthy = True
    assert site.ask("/healthz").status == 200


def test_page(site: Site) -> None:
    answer = site.ask("/")
    assert answer.status == 200
    assert answer.kind == "text/html; charset=utf-8"
    assert answer.body.startswith("<!doctype html>")
    for path in ("/metrics", "/healthz", "/api/stalls"):
        assert f'href=".{path}"' in answer.body
        assert site.ask(path).status == 200


@pytest.mark.parametrize("path", ["/nothing", "/metrics/x", "/healthz/", "/../etc/passwd", "/favicon.ico"])
def test_not_found(path: str, site: Site) -> None:
    answer = site.ask(path)
    assert answer.status == 404
    assert answer.body == "/, /api/stalls, /metrics or /healthz\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/", "/api/stalls", "/nothing"])
def test_other_methods_are_rejected(method: str, path: str, site: Site) -> None:
    answer = site.ask(path, method, b"" if method == "POST" else None)
    assert (answer.status, answer.body) == (405, "GET or HEAD\n")


@pytest.mark.parametrize("path", ["/healthz", "/", "/metrics", "/api/stalls"])
def test_head(path: str, site: Site) -> None:
    assert site.ask(path, "HEAD").status == 200
    with site.connect() as client, client.makefile("rb") as answer:
        client.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
        assert answer.read().endswith(b"\r\n\r\n")  # no body


def test_api_stalls() -> None:
    site = Site()
    try:
        site.history.add(stall(of=spawn(id=7)))
        answer = site.ask("/api/stalls")
        status = json.loads(answer.body)
        assert answer.kind == "application/json"
        assert [each["id"] for each in status["ended"]] == ["0000000000000007"]
        assert status["ongoing"] == []
        assert status["agent"]["healthy"] is True
        assert "stall-0000000000000007" in site.ask("/").body
        assert "stall-0000000000000007" not in site.ask("/?news").body
    finally:
        site.server.stop()


@pytest.mark.parametrize("path", ["/", "/api/stalls", "/metrics", "/healthz", "/nothing"])
def test_headers_of_every_response(path: str, site: Site) -> None:
    headers = site.ask(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert headers["X-Frame-Options"] == "deny"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\xff nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000, b"431"),
    ],
)
def test_headers_of_responses_to_malformed_requests(sent: bytes, status: bytes, site: Site) -> None:
    with site.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(sent)
        answer = client.recv(8192)
        assert answer.split()[1] == status
        assert b"\r\nContent-Security-Policy: default-src 'none';" in answer
        assert b"\r\nX-Content-Type-Options: nosniff\r\n" in answer
        assert b"\r\nReferrer-Policy: no-referrer\r\n" in answer


def test_a_failure_is_logged_and_has_the_headers_too(quiet: Site, caplog: pytest.LogCaptureFixture) -> None:
    Gauge("broken", "Fails.", registry=quiet.registry).set_function(lambda: 1 / 0)
    answer = quiet.ask("/metrics")
    assert (answer.status, answer.body) == (500, "see the agent's log\n")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "ZeroDivisionError" in caplog.text
    assert quiet.ask("/healthz").status == 200


# -- other web sites --


@pytest.mark.parametrize("path", ["/", "/?news", "/api/stalls", "/metrics", "/healthz", "/nothing"])
def test_a_foreign_host_name_on_the_loopback_is_refused(path: str, site: Site) -> None:
    """As in a page of evil.example after its name was rebound to 127.0.0.1."""
    site.refused.clear()
    answer = site.ask(path, headers={"Host": f"evil.example:{site.server.port}"})
    assert (answer.status, answer.body.count("\n")) == (421, 1)
    assert "web.allowed_hosts" in answer.body
    assert "evil" not in answer.body
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert site.refused == ["host"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]", socket.gethostname()])
def test_the_hosts_own_names_are_accepted(host: str, site: Site) -> None:
    assert site.ask("/api/stalls", headers={"Host": host}).status == 200


def test_a_request_without_a_host_is_accepted(site: Site) -> None:
    with site.connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert client.recv(20).startswith(b"HTTP/1.0 200")


def test_two_hosts_are_refused(site: Site) -> None:
    with site.connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert client.recv(20).startswith(b"HTTP/1.0 421")


def test_allowed_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy passes on the name by which it is reached; if set, they are checked on all addresses."""
    for is_on_loopback in (True, False):
        monkeypatch.setattr("agent.serve.web.is_loopback", lambda _address, told=is_on_loopback: told)
        site = Site(allowed_hosts=["Agent.example"])
        try:
            assert site.ask("/", headers={"Host": "agent.example"}).status == 200
            assert site.ask("/", headers={"Host": "evil.example"}).status == 421
        finally:
            site.server.stop()


def test_any_host_name_is_accepted_on_other_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus scrapes other hosts by whatever name they have."""
    monkeypatch.setattr("agent.serve.web.is_loopback", lambda _address: False)
    site = Site()
    try:
        assert site.ask("/metrics", headers={"Host": "web1.example:9848"}).status == 200
    finally:
        site.server.stop()


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_requests_for_pages_of_other_sites_are_refused(headers: dict[str, str], site: Site) -> None:
    site.refused.clear()
    for path in ("/", "/api/stalls", "/metrics"):
        assert site.ask(path, headers=headers).status == 403
    assert site.refused == ["cross_site"] * 3


# -- many clients --


def test_concurrent_scrapes_share_one_exposition() -> None:
    site = Site()
    renderings = []
    asked, go_on = threading.Event(), threading.Event()

    def slow() -> float:
        renderings.append(1)
        asked.set()
        go_on.wait(30)
        return 1

    Gauge("slow", "Waits.", registry=site.registry).set_function(slow)
    with ThreadPoolExecutor(20) as clients:
        try:
            answers = [clients.submit(site.ask, "/metrics") for _ in range(20)]
            assert asked.wait(30)
        finally:
            go_on.set()
        assert {answer.result(30).status for answer in answers} == {200}
        site.server.stop()
    assert len(renderings) == 1


@pytest.mark.parametrize("path", ["/", "/?news", "/api/stalls"])
def test_concurrent_readers_share_one_page(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on, made = threading.Event(), threading.Event(), []
    read = Status.read

    def slow(status: Status) -> Any:
        made.append(1)
        asked.set()
        go_on.wait(30)
        return read(status)

    monkeypatch.setattr(Status, "read", slow)
    site = Site()
    with ThreadPoolExecutor(20) as clients:
        try:
            answers = [clients.submit(site.ask, path) for _ in range(20)]
            assert asked.wait(30)
            assert site.ask("/healthz").status == 200
        finally:
            go_on.set()
        assert {answer.result(30).status for answer in answers} == {200}
        site.server.stop()
    assert len(made) == 1


def test_formats_and_encodings_of_the_exposition(quiet: Site) -> None:
    """Two formats, whatever versions and escapings a client asks for."""
    site = quiet
    Gauge("metric", "A metric.", registry=site.registry).set(1)
    kinds = set()
    for accept in (
        "*/*",
        "text/plain;version=0.0.4",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0;escaping=values",
        "application/openmetrics-text;version=7.8.9",
    ):
        plain = site.ask("/metrics", headers={"Accept": accept})
        kinds.add(plain.kind)
        assert "\nmetric 1.0\n" in plain.body
    assert kinds == {choose_encoder("")[1], openmetrics.CONTENT_TYPE_LATEST}
    with site.connect() as client, client.makefile("rb") as answer:
        client.sendall(b"GET /metrics HTTP/1.1\r\nAccept-Encoding: br, gzip;q=0.5\r\n\r\n")
        head, _, body = answer.read().partition(b"\r\n\r\n")
    assert b"\r\nContent-Encoding: gzip\r\n" in head
    assert b"\nmetric 1.0\n" in gzip.decompress(body)


def test_too_many_waiting_clients_get_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.serve.documents._MAX_WAITING", 0)
    site = Site()
    try:
        for path in ("/", "/api/stalls", "/metrics"):
            answer = site.ask(path)
            assert (answer.status, answer.body, answer.headers["Retry-After"]) == (
                503,
                "busy: try again\n",
                "1",
            )
        assert site.ask("/healthz").status == 200
        assert site.refused == ["busy"] * 3
    finally:
        site.server.stop()


@pytest.mark.parametrize("path", ["/", "/api/stalls", "/metrics"])
def test_nothing_is_computed_for_a_client_that_has_gone(
    path: str, quiet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = threading.Event()
    body = Queue.body

    def compute(*_arguments: object) -> Any:
        pytest.fail("computed")

    def later(*arguments: Any) -> bytes:
        assert cut.wait(20)
        return body(*arguments)

    monkeypatch.setattr(Queue, "body", later)
    monkeypatch.setattr(Status, "read", compute)
    Gauge("gauge", "Fails.", registry=quiet.registry).set_function(compute)
    with quiet.connect() as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        cut.set()
        assert client.recv(1) == b""
    assert quiet.refused == ["gone"]


def test_a_query_is_ignored(site: Site) -> None:
    assert site.ask("/healthz?verbose=1").status == 200


def test_a_silent_client_does_not_block_others(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.server.port)):
        assert site.ask("/healthz").status == 200


def test_a_slow_scrape_does_not_block_the_health_check() -> None:
    """Each request has its own thread."""
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


def test_a_malformed_request(site: Site) -> None:
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


def test_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(WebError) as caught:
            WebServer("127.0.0.1", port)
    message = str(caught.value)
    assert message.startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")
    assert "web.listen" in message
    assert "\n" not in message


def test_an_address_of_another_host() -> None:
    with pytest.raises(WebError, match=r"^cannot listen on 192\.0\.2\.1:0: "):
        WebServer("192.0.2.1", 0)  # TEST-NET-1


@pytest.mark.parametrize("started", [True, False])
def test_the_port_is_released(started: bool) -> None:
    web = WebServer("127.0.0.1", 0)
    port = web.port
    if started:
        web.start(CollectorRegistry(), lambda: True, lambda: pytest.fail("asked for"))
        web.stop()
    else:
        web.close()
    with contextlib.closing(socket.socket()) as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    again = WebServer("127.0.0.1", port)
    again.close()


def test_the_port_is_bound_before_the_server_starts() -> None:
    web = WebServer("127.0.0.1", 0)
    try:
        with pytest.raises(WebError):
            WebServer("127.0.0.1", web.port)
    finally:
        web.close()


# -- slow clients --


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with at most four connections."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(server, "_MAX_THREADS", 8)
    site = Site()
    yield site
    site.server.stop()


def _threads() -> int:
    targets = [getattr(thread, "_target", None) for thread in threading.enumerate()]
    return sum(getattr(target, "__name__", "") == "process_request_thread" for target in targets)


def test_incomplete_requests_do_not_use_up_all_connections(crowded: Site) -> None:
    with contextlib.ExitStack() as clients:
        for number in range(40):
            client = clients.enter_context(crowded.connect())
            client.sendall(b"GET / HTTP/1.0\r\nX: "[: number % 20])
            if number % 10 == 9:
                assert crowded.ask("/healthz").status == 200
        assert _threads() <= 8


def test_a_new_connection_closes_the_oldest(crowded: Site) -> None:
    with contextlib.ExitStack() as clients:
        waiting = [clients.enter_context(crowded.connect()) for _ in range(4)]
        _until(lambda: _threads() == 4)
        assert crowded.ask("/healthz").status == 200
        waiting[0].settimeout(10)
        assert waiting[0].recv(1) == b""
        waiting[3].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert waiting[3].recv(20).startswith(b"HTTP/1.0 200")


@contextlib.contextmanager
def _slow_requests(site: Site, number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Clients whose responses take until the event is set, as when each has to hash a password."""
    go_on = threading.Event()

    def slow(_self: object, _authorization: str) -> bool:
        return go_on.wait(30)

    monkeypatch.setattr("agent.settings.webfile.WebConfig.admits", slow)
    with contextlib.ExitStack() as clients:
        try:
            for _ in range(number):
                clients.enter_context(site.connect()).sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            yield go_on
        finally:
            go_on.set()


def test_the_number_of_busy_threads_is_bounded(crowded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread whose connection is closed continues until its response is computed."""
    monkeypatch.setattr(server, "_ROOM_SECONDS", 0.01)
    with _slow_requests(crowded, 30, monkeypatch):
        _until(lambda: _threads() >= 8)
        with crowded.connect() as last:
            assert last.recv(50).startswith(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n")
        assert _threads() == 8
    _until(lambda: _threads() == 0)
    assert crowded.ask("/healthz").status == 200


def test_a_client_waits_for_a_free_thread(crowded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_ROOM_SECONDS", 30)
    with _slow_requests(crowded, 8, monkeypatch) as go_on:
        _until(lambda: _threads() == 8)
        with crowded.connect() as last:
            last.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            last.settimeout(0.2)
            with pytest.raises(socket.timeout):
                last.recv(1)
            go_on.set()
            last.settimeout(20)
            assert last.recv(20).startswith(b"HTTP/1.0 200")


def test_a_slow_request_times_out(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """The deadline is for the whole request, not for each byte."""
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 1)
    with site.connect() as client:
        deadline = time.monotonic() + 20
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                client.sendall(b"x")
                client.settimeout(0.1)
                with contextlib.suppress(socket.timeout):
                    if client.recv(1) == b"":
                        break
        assert time.monotonic() < deadline


@pytest.mark.parametrize("line", [b"X: " + b"x" * 20_000, b"X: x\r\n" * 5000])
def test_a_request_that_is_too_long(line: bytes, site: Site) -> None:
    with site.connect() as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.0\r\n" + line)
        assert client.recv(4096).startswith(b"HTTP/1.0 431 ")
    assert site.ask("/healthz").status == 200


def test_a_client_that_disconnects_is_not_logged(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    for sent in (b"", b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.0\r\n\r\n"):
        with site.connect() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
            client.sendall(sent)
    assert site.ask("/healthz").status == 200
    assert capfd.readouterr().err == ""


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("host", ["a\0b", "\ud800"])
def test_an_invalid_host_name_is_one_line(host: str) -> None:
    with pytest.raises(WebError, match=r"cannot listen on '.*set web.listen to an address$"):
        WebServer(host, 0)


# -- TLS and users --


@contextlib.contextmanager
def _secured(folder: Path, document: Any) -> Iterator[Site]:
    file = folder / "web.yml"
    file.write_text(yaml.safe_dump(document))
    site = Site("127.0.0.1", Security(file))
    try:
        yield site
    finally:
        site.server.stop()


def _tls(pair: Pair, **more: str) -> dict[str, Any]:
    return {"cert_file": str(pair.certificate), "key_file": str(pair.key), **more}


def _client(authority: Authority, own: Optional[Pair] = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def test_https(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    with _secured(tmp_path, {"tls_server_config": _tls(pair)}) as site:
        assert site.base.startswith("https://")
        for path in ("/", "/metrics", "/healthz", "/api/stalls"):
            assert site.ask(path, tls=_client(authority)).status == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            site.ask("/", tls=ssl.create_default_context())


def test_a_client_without_a_handshake_does_not_block_others(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    with _secured(tmp_path, {"tls_server_config": _tls(pair)}) as site, contextlib.ExitStack() as clients:
        for sent in (b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.0\r\n\r\n", b"\0" * 500):
            clients.enter_context(site.connect()).sendall(sent)
        assert site.ask("/healthz", tls=_client(authority)).status == 200


def test_clients_without_a_handshake_do_not_use_up_all_connections(
    tmp_path: Path, authority: Authority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(server, "_MAX_THREADS", 8)
    with _secured(tmp_path, {"tls_server_config": _tls(pair)}) as site, contextlib.ExitStack() as clients:
        for _ in range(3):
            for _ in range(10):
                clients.enter_context(site.connect()).sendall(b"\x16\x03\x01")
            assert site.ask("/healthz", tls=_client(authority)).status == 200
        assert _threads() <= 8


def test_an_incomplete_handshake_times_out(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 0.5)
    with _secured(tmp_path, {"tls_server_config": _tls(pair)}) as site, site.connect() as client:
        client.sendall(b"\x16\x03\x01")
        assert client.recv(1) == b""


def test_client_certificates(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    required = _tls(
        pair, client_auth_type="RequireAndVerifyClientCert", client_ca_file=str(authority.certificate)
    )
    (tmp_path / "other").mkdir()
    untrusted = Authority(tmp_path / "other", "other").sign("client")
    with _secured(tmp_path, {"tls_server_config": required}) as site:
        assert site.ask("/healthz", tls=_client(authority, authority.sign("client"))).status == 200
        for own in (None, untrusted):
            with pytest.raises(OSError, match=r"(?i)alert|reset|EOF|closed|broken pipe"):
                site.ask("/healthz", tls=_client(authority, own))


def test_tls_versions(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    with _secured(tmp_path, {"tls_server_config": _tls(pair, min_version="TLS13")}) as site:
        client = _client(authority)
        assert site.ask("/healthz", tls=client).status == 200
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(urllib.error.URLError):
            site.ask("/healthz", tls=client)


def test_a_renewed_certificate_is_used_for_the_next_connection(tmp_path: Path, authority: Authority) -> None:
    first, second = authority.sign("first"), authority.sign("second")
    names = {"cert_file": "now.crt", "key_file": "now.key"}

    def install(pair: Pair) -> None:
        (tmp_path / "now.key").write_bytes(pair.key.read_bytes())
        (tmp_path / "now.crt").write_bytes(pair.certificate.read_bytes())

    def name(port: int) -> Any:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            _client(authority).wrap_socket(plain, server_hostname="localhost") as client,
        ):
            return dict(part[0] for part in client.getpeercert()["subject"])["commonName"]  # type: ignore[index,misc]

    install(first)
    with _secured(tmp_path, {"tls_server_config": names}) as site:
        assert name(site.server.port) == "first"
        install(second)
        assert name(site.server.port) == "second"


def _login(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/api/stalls", "/nothing"])
def test_users(path: str, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
    with _secured(tmp_path, {"basic_auth_users": {"ali": hashed}}) as site:
        expected = 404 if path == "/nothing" else 200
        assert site.ask(path, authorization=_login("ali", "open sesame")).status == expected
        for wrong in (None, _login("ali", "open barley"), _login("baba", "open sesame")):
            answer = site.ask(path, authorization=wrong)
            assert (answer.status, answer.body) == (401, "Unauthorized\n")
            assert answer.headers["WWW-Authenticate"] == "Basic"


def test_headers_of_the_web_configuration_take_precedence(tmp_path: Path) -> None:
    headers = {"X-Frame-Options": "sameorigin", "Strict-Transport-Security": "max-age=9"}
    with _secured(tmp_path, {"http_server_config": {"headers": headers}}) as site:
        answer = site.ask("/")
        assert answer.headers.get_all("X-Frame-Options") == ["sameorigin"]
        assert answer.headers["Strict-Transport-Security"] == "max-age=9"
