# SPDX-License-Identifier: Apache-2.0
"""agent.serve.origins: what a browser says about the page that makes it send a request."""

from __future__ import annotations

import ipaddress
import socket
from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.serve.origins import is_accepted_host, is_cross_site, is_loopback


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host has a name."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Web1.example.com")


@pytest.mark.parametrize(
    "host",
    [
        "",
        *("127.0.0.1", "127.0.0.1:9848", "192.0.2.7:80", "[::1]", "[::1]:9848", "[2001:db8::7]:"),
        *("localhost", "localhost:9848", "LOCALHOST:1", "localhost."),
        *("web1", "web1:9848", "web1.example.com:9848", "WEB1.EXAMPLE.COM", "web1.example.com."),
        *("agent.example", "Agent.Example:443"),
    ],
)
def test_accepted_hosts(host: str) -> None:
    assert is_accepted_host(host, {"agent.example"})


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:9848", "web2.example.com", "example.com", "x.web1.example.com"),
        *("localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1,evil.example", "127.0.0.1 evil"),
        *("::1", "[::1", "[evil.example]", "[::1]evil", "a@localhost", "localhost:80:80", "localhost:x"),
        *("http://localhost", "localhost/", "1", "127.1", "0x7f.0.0.1", "localhost\0", ":9848", "."),
    ],
)
def test_other_hosts(host: str) -> None:
    assert not is_accepted_host(host, {"agent.example"})


@given(
    address=st.ip_addresses(), port=st.one_of(st.just(""), st.integers(0, 65535).map(lambda port: f":{port}"))
)
def test_every_address_is_accepted(
    address: Union[ipaddress.IPv4Address, ipaddress.IPv6Address], port: str
) -> None:
    host = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
    assert is_accepted_host(host + port, ())


@given(host=st.text(st.characters(exclude_characters="0123456789"), min_size=1, max_size=20))
def test_nothing_else_is(host: str) -> None:
    """No address has no digit, except ``::``."""
    assert not is_accepted_host(host, ()) or "[::]" in host


_SAME = {"HTTP_HOST": "127.0.0.1:9848"}
_LINK = {"HTTP_SEC_FETCH_MODE": "navigate", "HTTP_SEC_FETCH_DEST": "document"}
_FRAME = {"HTTP_SEC_FETCH_MODE": "navigate", "HTTP_SEC_FETCH_DEST": "iframe"}
_FETCH = {"HTTP_SEC_FETCH_MODE": "cors", "HTTP_SEC_FETCH_DEST": "empty"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        _SAME,
        {**_SAME, "HTTP_ORIGIN": "http://127.0.0.1:9848"},
        {"HTTP_HOST": "Web1:9848", "HTTP_ORIGIN": "https://web1:9848"},
        {**_SAME, **_FETCH, "HTTP_SEC_FETCH_SITE": "same-origin"},
        {**_SAME, **_LINK, "HTTP_SEC_FETCH_SITE": "none"},
        {**_SAME, **_LINK, "HTTP_SEC_FETCH_SITE": "cross-site"},
        {**_SAME, **_LINK, "HTTP_SEC_FETCH_SITE": "same-site"},
    ],
)
def test_requests_of_the_own_page_and_links_to_it(environ: dict[str, str]) -> None:
    assert not is_cross_site(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {**_SAME, "HTTP_ORIGIN": "http://evil.example"},
        {**_SAME, "HTTP_ORIGIN": "http://127.0.0.1:3000"},
        {**_SAME, "HTTP_ORIGIN": "null"},
        {**_SAME, "HTTP_ORIGIN": ""},
        {**_SAME, "HTTP_ORIGIN": "http://[127.0.0.1:9848"},
        {"HTTP_ORIGIN": "http://127.0.0.1:9848"},
        {"HTTP_ORIGIN": "null"},
        {**_SAME, **_FETCH, "HTTP_SEC_FETCH_SITE": "cross-site"},
        {**_SAME, **_FETCH, "HTTP_SEC_FETCH_SITE": "same-site"},
        {**_SAME, **_FRAME, "HTTP_SEC_FETCH_SITE": "cross-site"},
        {**_SAME, "HTTP_SEC_FETCH_SITE": "cross-site"},
    ],
)
def test_requests_of_other_sites(environ: dict[str, str]) -> None:
    assert is_cross_site(environ)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("fe80::1%eth0", False)),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
