"""agent.serve.notify: what a service manager is told, on a socket that stands for its own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.serve.notify import Notifier


class Manager:
    """Listens as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def told(self) -> list[str]:
        """What has come since the last time."""
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
    """On a socket with a path, and on one of the abstract namespace."""
    kind = request.param
    listening = Manager(str(tmp_path / "notify") if kind == "path" else f"@spawnstall-test-{os.getpid()}")
    yield listening
    listening.close()


def test_ready_and_stopping(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.ready()
    notifier.alive()  # no watchdog: not told
    notifier.stopping()
    assert manager.told() == ["READY=1", "STOPPING=1"]


def test_watchdog_is_told_twice_in_its_time(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = Notifier(
        {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    )
    for now, expected in ((1000.0, 1), (1001.0, 0), (1014.9, 0), (1015.1, 1), (1030.0, 0), (1031.0, 1)):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        notifier.alive()
        assert manager.told() == ["WATCHDOG=1"] * expected


@pytest.mark.parametrize(
    "environ",
    [{"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "3", "WATCHDOG_PID": "1"}],
)
def test_a_watchdog_of_somebody_else(manager: Manager, environ: dict[str, str]) -> None:
    Notifier({"NOTIFY_SOCKET": manager.address, **environ}).alive()
    assert manager.told() == []


def test_nobody_wants_to_know() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.alive()
    notifier.stopping()


def test_a_manager_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1"})
    notifier.ready()
    notifier.alive()
    assert [record.getMessage() for record in caplog.records] == [
        "NOTIFY_SOCKET cannot be told READY=1: [Errno 2] No such file or directory"
    ]
