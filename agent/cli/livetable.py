# SPDX-License-Identifier: Apache-2.0
"""The live table: shows the kinds of stalls on the terminal while trace-popen traces, and takes keys.

The terminal is in cbreak mode and shows its alternate screen meanwhile.  It is restored when the table is
left, by whatever exception or signal, and while trace-popen is stopped.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from types import FrameType
from typing import Any, Optional

from rich.console import Console
from rich.live import Live

from agent.cli.keys import is_partial, keys_of, press
from agent.cli.outputs import Text
from agent.render.liverows import Row, Status, ordered, rows
from agent.render.livescreen import Screen, View, draw
from agent.reports.kinds import Kinds
from agent.reports.types import ReportObject

__all__ = ["LiveTable", "keyboard"]

_DRAW_SECONDS = 0.5
_KEY_SECONDS = 0.05
"""How long the rest of a key can take."""
_OVER_SECONDS = 2.0
"""A stall that is not in progress any more is reported by then, if it is reported at all."""


def keyboard(console: Console) -> Optional[int]:
    """An fd for the keys of the terminal of a console, None if there can be no live table.

    There can be none in a pipe, on a terminal without a cursor, or in the background, where a change of the
    terminal would stop us.
    """
    if not (console.file.isatty() and console.is_interactive):
        return None
    try:
        fd = os.open(os.ttyname(console.file.fileno()), os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # it is not our controlling terminal
        if os.tcgetpgrp(fd) == os.getpgrp():
            return fd
    os.close(fd)
    return None


class LiveTable:
    """A display, and a sink of the reports.

    keyboard: as ``keyboard`` returns it.
    text: where the reports go afterwards; it is held meanwhile.
    """

    def __init__(self, console: Console, keyboard: int, text: Text) -> None:
        self._console = console
        self._keyboard = keyboard
        self._text = text
        self._live = Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._kinds = Kinds()
        self._seen: dict[Any, float] = {}
        self._status = Status(0.0, "")
        self._rows: list[Row] = []
        self._view = View()
        self._screen = Screen((), 1)
        self._said: Optional[list[str]] = None
        self._next = 0.0
        self._is_resized = self._is_stopped = self._is_continued = False
        self._cleanup = contextlib.ExitStack()
        self._before: Optional[list[Any]] = None

    @property
    def quit(self) -> bool:
        """Whether the user asks to end the run."""
        return self._view.quit

    def write(self, report: ReportObject) -> None:
        """Count a stall."""
        if report["type"] == "stall":
            self._kinds.add(report)

    def say(self, line: str) -> None:
        """Print a line to standard error, when the table is left if it is shown."""
        if self._said is None:
            print(line, file=sys.stderr)
        else:
            self._said.append(line)

    def __enter__(self) -> None:
        with contextlib.ExitStack() as undo:
            self._text.hold()
            undo.callback(lambda: self._text.release(self._status.lasting))
            self._said = []
            undo.callback(self._print_said)
            undo.enter_context(self._on_signals())
            undo.callback(self._leave)
            self._before = termios.tcgetattr(self._keyboard)
            self._show()
            self._cleanup = undo.pop_all()

    def __exit__(self, *_exception: object) -> None:
        self._cleanup.close()

    def update(self, status: Callable[[], Status]) -> None:
        """Take the keys, and show what is known now."""
        if self._is_stopped:
            self._stop()
        if self._is_continued:
            self._is_continued = False
            self._leave()
            self._show()
        keys = self._keys()
        for key in keys:
            was_frozen = self._view.frozen
            self._view = press(self._view, key, self._shown(), self._screen)
            if was_frozen and not self._view.frozen:
                self._rows = rows(self._kinds)
            self._draw()
        now = time.monotonic()
        if now >= self._next or self._is_resized:
            self._next = now + _DRAW_SECONDS
            self._is_resized = False
            self._status = status()
            self._grow(self._status, now)
            if not self._view.frozen:
                self._rows = rows(self._kinds)
            self._draw()

    # -- what is shown --

    def _shown(self) -> list[Row]:
        return ordered(self._rows, self._view.column, self._view.ascending)

    def _draw(self) -> None:
        self._screen = draw(self._console, self._status, self._shown(), self._view)
        self._live.update(self._screen, refresh=True)

    def _grow(self, status: Status, now: float) -> None:
        """Bring the stalls in progress up to date."""
        clock = datetime.now(timezone.utc)
        for key in list(self._kinds.ongoing):
            if key in status.lasting:
                self._seen[key] = now
                self._kinds.lasts(key, status.lasting[key], clock)
            elif now - self._seen.get(key, now) > _OVER_SECONDS:
                self._kinds.end(key)
        self._seen = {key: when for key, when in self._seen.items() if key in self._kinds.ongoing}

    def _print_said(self) -> None:
        said, self._said = self._said or [], None
        for line in said:
            self.say(line)

    # -- the terminal --

    def _show(self) -> None:
        # ISIG stays: Ctrl-C and Ctrl-Z send signals.
        with contextlib.suppress(termios.error):  # the terminal is gone
            tty.setcbreak(self._keyboard, termios.TCSADRAIN)
        self._live.start()
        self._next = 0.0

    def _leave(self) -> None:
        """Restore the terminal; again does nothing."""
        with contextlib.suppress(OSError):
            self._live.stop()
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)

    def _keys(self) -> list[str]:
        sent = b""
        wait = 0.0
        while select.select([self._keyboard], [], [], wait)[0]:
            try:
                part = os.read(self._keyboard, 1024)
            except OSError:  # the terminal is gone
                part = b""
            sent += part
            if not part or not is_partial(sent):
                break
            wait = _KEY_SECONDS
        return keys_of(sent)

    # -- signals --

    @contextlib.contextmanager
    def _on_signals(self) -> Iterator[None]:
        handlers = {
            signal.SIGWINCH: self._resized,
            signal.SIGTSTP: self._stopped,
            signal.SIGCONT: self._continued,
            signal.SIGQUIT: self._killed,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _resized(self, _number: int, _frame: Optional[FrameType]) -> None:
        self._is_resized = True

    def _stopped(self, _number: int, _frame: Optional[FrameType]) -> None:
        self._is_stopped = True

    def _continued(self, _number: int, _frame: Optional[FrameType]) -> None:
        self._is_continued = True  # after SIGSTOP too: the shell may have changed the terminal

    def _killed(self, number: int, _frame: Optional[FrameType]) -> None:
        raise SystemExit(128 + number)

    def _stop(self) -> None:
        """Stop as Ctrl-Z asks for, with the terminal restored; return when continued."""
        self._is_stopped = False
        self._leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self._is_continued = True
