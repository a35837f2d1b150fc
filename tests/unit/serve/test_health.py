# SPDX-License-Identifier: Apache-2.0
"""agent.serve.health, against a running web server."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml

from agent.serve.health import why_unhealthy
from agent.settings.agentfile import Web
from agent.settings.webfile import Security
from tests.unit.certificates import Authority, Pair
from tests.unit.serve.test_web import Site


def _ask(folder: Path, secured: Optional[dict[str, Any]], healthy: bool = True) -> Optional[str]:
    """The result for a server with this web configuration, with HERE for its address."""
    file = folder / "web.yml"
    if secured is not None:
        file.write_text(yaml.safe_dump(secured))
    site = Site("127.0.0.1", Security(file if secured is not None else None))
    site.healthy = healthy
    try:
        listen = f"127.0.0.1:{site.server.port}"
        message = why_unhealthy(Web(listen=listen, config_file=str(file) if secured is not None else ""))
        return message and message.replace(listen, "HERE")
    finally:
        site.server.stop()


def test_plain(tmp_path: Path) -> None:
    assert _ask(tmp_path, None) is None
    assert _ask(tmp_path, None, healthy=False) == "HERE answers 503: the agent does not trace"


def test_users(tmp_path: Path) -> None:
    users = {"basic_auth_users": {"me": "$2b$04$" + "." * 53}}
    assert _ask(tmp_path, users) is None


@pytest.mark.parametrize("client_auth_type", ["NoClientCert", "RequireAndVerifyClientCert"])
def test_tls(tmp_path: Path, client_auth_type: str, authority: Authority, pair: Pair) -> None:
    tls = {
        "cert_file": str(pair.certificate),
        "key_file": str(pair.key),
        "client_auth_type": client_auth_type,
    }
    if client_auth_type != "NoClientCert":
        tls["client_ca_file"] = str(authority.certificate)
    assert _ask(tmp_path, {"tls_server_config": tls}) is None


def _program(config: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "agent.serve.health", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


def test_as_a_program(tmp_path: Path) -> None:
    site = Site()
    config = tmp_path / "agent.yaml"
    config.write_text(f"web: {{listen: '127.0.0.1:{site.server.port}'}}")
    assert _program(config) == (0, "")
    site.server.stop()
    status, message = _program(config)
    assert (status, message.count("\n")) == (1, 1)
    assert "does not answer" in message


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.serve.health._SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        listen = f"127.0.0.1:{silent.getsockname()[1]}"
        assert why_unhealthy(Web(listen=listen)) == f"{listen} does not answer: timed out"


def test_an_invalid_configuration_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("web: 3")
    status, message = _program(config)
    assert (status, message.count("\n")) == (1, 1)
    assert message.startswith("agent.serve.health: ")
