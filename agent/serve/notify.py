"""Tells systemd (or podman) that the agent is ready, alive and stopping: sd_notify(3), without libsystemd.

Where nobody wants to know (no NOTIFY_SOCKET in the environment), nothing is done.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Optional

__all__ = ["Notifier"]

_log = logging.getLogger(__name__)


class Notifier:
    """Sends datagrams to NOTIFY_SOCKET; a failure is logged once, and is no reason to stop."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # of the abstract namespace
            self._address = "\0" + self._address[1:]
        self._pause = _watchdog_seconds(environ)
        self._told = 0.0

    def ready(self) -> None:
        """The agent traces."""
        self._send("READY=1")

    def alive(self) -> None:
        """To be called again and again while the agent works: keeps the watchdog (WatchdogSec=) quiet."""
        now = time.monotonic()
        if self._pause is not None and now - self._told >= self._pause:
            self._told = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The agent is about to end."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            _log.warning("NOTIFY_SOCKET cannot be told %s: %s", state, error)
            self._address = ""


def _watchdog_seconds(environ: Mapping[str, str]) -> Optional[float]:
    """How often to say that we live, half of what is allowed (sd_watchdog_enabled(3)); None: never."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 / 2
