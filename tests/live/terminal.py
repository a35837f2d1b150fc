# SPDX-License-Identifier: Apache-2.0
"""A terminal for tests: runs a program in it, types keys, and reads what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyte

__all__ = ["Terminal"]

_WHOLE_SECONDS = 0.1
ENTER_SCREEN, LEAVE_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """An xterm of some size.  A context manager: it kills the program in the end.

    sent: all that the program has written.
    """

    def __init__(self, command: Sequence[str], folder: Path, width: int = 100, **environment: str) -> None:
        self.sent = b""
        self._screen = pyte.Screen(width, 24)
        self._stream = pyte.ByteStream(self._screen)
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            removed = {"COLUMNS", "LINES", "NO_COLOR"}
            kept = {name: value for name, value in os.environ.items() if name not in removed}
            os.execvpe(command[0], list(command), {**kept, "TERM": "xterm-256color", **environment})
        self.modes = self.settings()
        self.resize(width, 24)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def settings(self) -> list[Any]:
        """The settings of the terminal, as ``stty`` shows them."""
        return termios.tcgetattr(self._fd)

    def resize(self, width: int, height: int) -> None:
        """Change the size; the program gets SIGWINCH."""
        self._screen.resize(height, width)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: str) -> None:
        """Type some keys."""
        os.write(self._fd, keys.encode())

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        os.kill(self.pid, number)

    def lines(self) -> list[str]:
        """What is on the screen.  (It shows no difference between the normal and the alternate screen.)"""
        return [line.rstrip() for line in self._screen.display]

    @property
    def row(self) -> int:
        """The line of the cursor."""
        return int(self._screen.cursor.y)

    def wait_until(self, holds: Callable[[list[str]], bool], seconds: float = 30) -> list[str]:
        """Wait until a condition holds for the screen, and return the screen.

        A screen counts when nothing has been written for a moment, because a read can return a part of one.
        """
        deadline = time.monotonic() + seconds
        while self._read(_WHOLE_SECONDS) or not holds(self.lines()):
            assert time.monotonic() < deadline, "\n".join(self.lines())
        return self.lines()

    def wait_for(self, text: str, seconds: float = 30) -> list[str]:
        """Wait until the screen has a line with this text, and return the screen."""
        return self.wait_until(lambda lines: any(text in line for line in lines), seconds)

    def pause(self, seconds: float) -> None:
        """Read what the program writes for some time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._read(0.05)

    def end(self) -> int:
        """Wait until the program ends; return its exit status as ``os.waitstatus_to_exitcode`` does."""
        deadline = time.monotonic() + 30
        while True:
            self._read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                self.pause(0.1)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, "\n".join(self.lines())

    def after_table(self) -> str:
        """What was written to the normal screen after the live table."""
        return self.sent[self.sent.rindex(LEAVE_SCREEN) :].decode()

    def _read(self, seconds: float) -> bool:
        if select.select([self._fd], [], [], seconds)[0]:
            try:
                part = os.read(self._fd, 65536)
            except OSError:  # EIO: the program has closed the terminal
                return False
            self.sent += part
            self._stream.feed(part)
            return True
        return False
