# SPDX-License-Identifier: Apache-2.0
"""agent.serve.unixserver: the file of the socket, and requests through it."""

from __future__ import annotations

import grp
import http.client
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from agent.serve.health import why_unhealthy
from agent.serve.unixserver import SocketFile
from agent.serve.web import WebError, WebServer
from agent.settings.agentfile import Web
from agent.settings.webfile import Security
from tests.unit.serve.test_web import Site


def _ask(path: Path, wanted: str = "/healthz", host: str = "localhost") -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(f"GET {wanted} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read().decode()


def _listen(path: Path, mode: int = 0o600, group: str = "") -> WebServer:
    return WebServer("", 0, None, SocketFile(str(path), mode, group))


def _serve(web: WebServer) -> None:
    web.start(CollectorRegistry(), lambda: True, lambda: pytest.fail("asked for"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.sock"


@pytest.fixture
def site(path: Path) -> Iterator[Site]:
    """A server on a port and on a socket."""
    site = Site(unix=SocketFile(str(path)))
    yield site
    site.server.stop()


def test_it_serves_the_same_as_the_port(path: Path, site: Site) -> None:
    for wanted in ("/", "/?news", "/api/stalls", "/metrics", "/healthz"):
        assert _ask(path, wanted)[0] == 200
        assert site.ask(wanted).status == 200
    assert _ask(path, "/nothing")[0] == 404


def test_every_host_is_accepted(path: Path, site: Site) -> None:
    """A proxy in front of it passes on the name by which it is reached."""
    assert _ask(path, host="agent.example") == (200, "ok\n")


def test_users_apply_to_it(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{me: $2b$04${'.' * 53}}}")
    web = WebServer("", 0, Security(file), SocketFile(str(path)))
    _serve(web)
    try:
        assert _ask(path)[0] == 401
    finally:
        web.stop()


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_its_mode_does_not_depend_on_the_umask(mode: int, umask: int, path: Path) -> None:
    before = os.umask(umask)
    try:
        web = _listen(path, mode)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    found = path.lstat()
    web.close()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == mode


def test_its_group(path: Path) -> None:
    group = grp.getgrall()[-1] if os.geteuid() == 0 else grp.getgrgid(os.getgid())
    web = _listen(path, 0o660, group.gr_name)
    assert path.lstat().st_gid == group.gr_gid
    web.close()
    with pytest.raises(WebError, match="there is no group 'no-such-group'") as caught:
        _listen(path, 0o660, "no-such-group")
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("started", [True, False])
def test_it_is_removed_at_the_end(started: bool, path: Path) -> None:
    web = _listen(path)
    if started:
        _serve(web)
        web.stop()
    else:
        web.close()
    assert not os.path.lexists(path)


def test_a_stale_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:  # as after SIGKILL
        stale.bind(str(path))
    web = _listen(path)
    _serve(web)
    try:
        assert _ask(path) == (200, "ok\n")
    finally:
        web.stop()


def test_the_socket_of_another_agent_stays(path: Path) -> None:
    first = _listen(path)
    _serve(first)
    try:
        with pytest.raises(WebError, match=r"another program listens there: see web\.socket"):
            _listen(path)
        assert _ask(path) == (200, "ok\n")
    finally:
        first.stop()


def test_a_later_socket_at_its_path_stays(path: Path) -> None:
    web = _listen(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        web.close()
        assert path.is_socket()


def test_a_symlink_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    for target in ("missing", "file", "stale"):
        path.symlink_to(target)
        with pytest.raises(WebError, match="is not a socket of this user"):
            _listen(path)
        assert path.is_symlink()
        path.unlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "stale"]


def test_a_file_or_directory_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(WebError, match="is not a socket of this user"):
        _listen(path)
    assert path.read_text() == "precious"
    path.unlink()
    path.mkdir()
    with pytest.raises(WebError, match="is not a socket of this user"):
        _listen(path)


@pytest.mark.parametrize("name", ["missing/web.sock", "x" * 200, "a\0b"])
def test_a_path_that_cannot_be_used_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(WebError, match=r"^cannot listen on '.*see web\.socket$") as caught:
        _listen(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_port_is_released_if_the_socket_fails(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(WebError):
        WebServer("127.0.0.1", port, None, SocketFile(str(tmp_path / "missing" / "web.sock")))
    WebServer("127.0.0.1", port).close()


def test_where_it_listens(path: Path, site: Site) -> None:
    assert f"http://127.0.0.1:{site.server.port}" in site.server.where
    assert str(path) in site.server.where


def test_from_the_configuration() -> None:
    assert SocketFile.of(Web()) is None
    web = Web(listen="none", socket="/run/web.sock", socket_mode="0660", socket_group="adm")
    assert SocketFile.of(web) == SocketFile("/run/web.sock", 0o660, "adm")


def test_the_health_check_of_the_image(path: Path) -> None:
    options = Web(listen="none", socket=str(path))
    why = why_unhealthy(options)
    assert why is not None and str(path) in why and "No such file or directory" in why
    healthy = True
    web = _listen(path)
    web.start(CollectorRegistry(), lambda: healthy, lambda: pytest.fail("asked for"))
    try:
        assert why_unhealthy(options) is None
        healthy = False
        assert why_unhealthy(options) == f"{path} answers 503: the agent does not trace"
    finally:
        web.stop()
