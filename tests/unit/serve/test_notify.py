# SPDX-License-Identifier: Apache-2.0
"""agent.serve.notify: the messages to a service manager, received on a socket of the test."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.serve.notify import Notifier


class Manager:
    """A fake service manager."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def received(self) -> list[str]:
        """The messages since the last call."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """On a socket with a path, and on one in the abstract namespace."""
    kind = request.param
    listening = Manager(str(tmp_path / "notify") if kind == "path" else f"@spawnstall-test-{os.getpid()}")
    yield listening
    listening.close()


def test_ready_and_stopping(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.ready()
    notifier.alive()  # not sent without a watchdog
    notifier.stopping()
    assert manager.received() == ["READY=1", "STOPPING=1"]


def test_the_watchdog_is_reset_twice_per_timeout(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = Notifier(
        {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    )
    for now, expected in ((1000.0, 1), (1001.0, 0), (1014.9, 0), (1015.1, 1), (1030.0, 0), (1031.0, 1)):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        notifier.alive()
        assert manager.received() == ["WATCHDOG=1"] * expected


@pytest.mark.parametrize(
    "environ",
    [{"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "3", "WATCHDOG_PID": "1"}],
)
def test_a_watchdog_that_is_off_or_for_another_process(manager: Manager, environ: dict[str, str]) -> None:
    Notifier({"NOTIFY_SOCKET": manager.address, **environ}).alive()
    assert manager.received() == []


def test_without_a_service_manager() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.alive()
    notifier.stopping()


def test_a_failure_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "missing"), "WATCHDOG_USEC": "1"})
    notifier.ready()
    notifier.alive()
    [message] = [record.getMessage() for record in caplog.records]
    assert "READY=1" in message and "NOTIFY_SOCKET" in message and "No such file" in message
