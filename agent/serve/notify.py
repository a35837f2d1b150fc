# SPDX-License-Identifier: Apache-2.0
"""Notify systemd or podman that the agent is ready, alive or stopping: sd_notify(3) without libsystemd.

Without NOTIFY_SOCKET in the environment, nothing is sent.
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
    """Send datagrams to NOTIFY_SOCKET; the first failure is logged and ends the notifications."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # the abstract namespace
            self._address = "\0" + self._address[1:]
        self._interval = _watchdog_seconds(environ)
        self._last_alive = 0.0

    def ready(self) -> None:
        """Report that the agent traces."""
        self._send("READY=1")

    def alive(self) -> None:
        """Reset the watchdog (WatchdogSec=); call often while the agent works."""
        now = time.monotonic()
        if self._interval is not None and now - self._last_alive >= self._interval:
            self._last_alive = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the agent is about to exit."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            _log.warning("cannot send %s to NOTIFY_SOCKET: %s", state, error)
            self._address = ""


def _watchdog_seconds(environ: Mapping[str, str]) -> Optional[float]:
    """The interval of watchdog messages, half the timeout (sd_watchdog_enabled(3)); None for no messages."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6 / 2
