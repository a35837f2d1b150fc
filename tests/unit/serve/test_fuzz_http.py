# SPDX-License-Identifier: Apache-2.0
"""Arbitrary requests get a well-formed response or a closed connection, and the next scrape is served."""

from __future__ import annotations

import contextlib
import io
import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.serve.test_web import Site

_STATUS = re.compile(rb"HTTP/1\.[01] [1-5]\d\d [ -~]*\r\n")
_PATHS = [
    "/",
    "/metrics",
    "/healthz",
    "/api/stalls",
    "/?news",
    "/metrics?name[]=",
    "*",
    "http://a/metrics",
    "//a",
]
_PIECES = st.one_of(
    st.sampled_from(
        [
            b"\0",
            b"\xff",
            b"\x1b[31m",
            b"%",
            b"%00",
            b"%ff",
            b"%s%n",
            b"..",
            b"/",
            b"?",
            b"#",
            b"<script>x",
            b" ",
        ]
    ),
    st.binary(max_size=10),
)
_PATH = st.builds(
    lambda base, more: base.encode() + b"".join(more), st.sampled_from(_PATHS), st.lists(_PIECES, max_size=3)
)
_METHOD = st.sampled_from(
    [
        b"GET",
        b"HEAD",
        b"POST",
        b"PUT",
        b"OPTIONS",
        b"TRACE",
        b"CONNECT",
        b"PRI",
        b"get",
        b"",
        b"G\0T",
        b"\xff",
    ]
)
_VERSION = st.sampled_from(
    [
        b" HTTP/1.0",
        b" HTTP/1.1",
        b" HTTP/2.0",
        b" HTTP/0.9",
        b" HTTP/9999999999999999999.1",
        b" HTTP/-1",
        b"",
        b" X",
    ]
)
_NAME = st.sampled_from(
    [
        *(
            b"Host",
            b"Host",
            b"Origin",
            b"Sec-Fetch-Site",
            b"Accept",
            b"Accept-Encoding",
            b"Authorization",
            b"Content-Length",
            b"Transfer-Encoding",
        ),
        *(
            b"Connection",
            b"Expect",
            b"Content-Type",
            b"X-Forwarded-For",
            b"Upgrade",
            b"Range",
            b"Proxy",
            b"",
            b"\xff",
        ),
    ]
)
_VALUE = st.one_of(
    st.sampled_from(
        [
            b"application/openmetrics-text; version=1.0.0; escaping=allow-utf-8",
            b"application/openmetrics-text;version=abc;q=x",
            b"text/plain;version=1.0.0;escaping=nonsense;q=;=,;,",
            *(
                b"localhost",
                b"127.0.0.1:9848",
                b"[::1]:9848",
                b"evil.example",
                b"[::1%lo]",
                b"[",
                b"a:b:c",
                b"xn--",
            ),
            *(b"http://127.0.0.1", b"http://[", b"//a", b"null", b"cross-site", b"same-origin"),
            *(b"gzip", b"chunked", b"-1", b"99999999999999999999", b"100-continue", b"close", b"keep-alive"),
            *(
                b"Basic",
                b"Basic !!!",
                b"Basic Og==",
                b"Basic " + b"A" * 4000,
                b"Bearer x",
                b"a\r\n b",
                b"0",
                b"",
            ),
        ]
    ),
    st.binary(max_size=20),
    st.binary(max_size=2).map(lambda piece: piece * 2000),
)
_HEADERS = st.one_of(
    st.lists(st.tuples(_NAME, _VALUE), max_size=6),
    st.integers(90, 400).map(lambda number: [(b"X", b"y")] * number),
)


def _request(
    method: bytes, path: bytes, version: bytes, headers: list[tuple[bytes, bytes]], body: bytes, end: bytes
) -> bytes:
    head = [method + b" " + path + version, *(name + b": " + value for name, value in headers)]
    return end.join(head) + end + end + body


_REQUESTS = st.builds(
    _request,
    _METHOD,
    _PATH,
    _VERSION,
    _HEADERS,
    st.sampled_from([b"", b"5\r\nhello\r\n0\r\n\r\n", b"x" * 5000, b"GET /metrics HTTP/1.1\r\n\r\n"]),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n\0"]),
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    Gauge("answer", "Of it all.", registry=site.registry).set(42)
    yield site
    site.server.stop()


def _talk(site: Site, sent: bytes) -> bytes:
    with site.connect() as connection:
        answer = b""
        # The server may close the connection before it has read everything.
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            if b"\r\n\r\n" not in sent and b"\n\n" not in sent:
                connection.shutdown(socket.SHUT_WR)  # later, it would mean that the client has gone
        with contextlib.suppress(ConnectionResetError):
            while more := connection.recv(65536):
                answer += more
    return answer


def _check(site: Site, sent: bytes) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as complaints:
        answer = _talk(site, sent)
        scraped = site.ask("/metrics")
    assert complaints.getvalue() == ""
    assert not answer or _STATUS.match(answer), answer[:300]
    assert b"<script>x" not in answer
    assert scraped.status == 200
    assert [family.name for family in text_string_to_metric_families(scraped.body)] == ["answer"]


@given(sent=_REQUESTS)
def test_requests(site: Site, sent: bytes) -> None:
    _check(site, sent)


@given(sent=st.lists(_REQUESTS, min_size=2, max_size=4))
def test_pipelined_requests(site: Site, sent: list[bytes]) -> None:
    _check(site, b"".join(sent))


@given(sent=st.binary(max_size=300), ended=st.booleans())
def test_bytes(site: Site, sent: bytes, ended: bool) -> None:
    _check(site, sent + (b"\r\n\r\n" if ended else b""))


@given(host=_VALUE, more=st.lists(st.tuples(_NAME, _VALUE), max_size=2))
def test_hosts(site: Site, host: bytes, more: list[tuple[bytes, bytes]]) -> None:
    """No value of Host reads the page, unless it is a name of this host."""
    headers = b"".join(name + b": " + value + b"\r\n" for name, value in [(b"Host", host), *more])
    answer = _talk(site, b"GET /healthz HTTP/1.1\r\n" + headers + b"\r\n")
    assert not answer or _STATUS.match(answer), answer[:300]
    name = re.split(b"[\r\n]", host)[0].decode("latin-1").strip()
    if answer.startswith(b"HTTP/1.0 200"):
        assert name in ("", "localhost", "127.0.0.1:9848", "[::1]:9848")


@given(value=_VALUE, path=_PATH, name=_NAME)
def test_headers_and_paths_of_a_scrape(site: Site, value: bytes, path: bytes, name: bytes) -> None:
    _check(site, b"GET " + path + b" HTTP/1.1\r\n" + name + b": " + value + b"\r\n\r\n")
