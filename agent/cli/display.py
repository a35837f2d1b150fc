# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows while trace-popen traces: nothing, or a line of status.  The table: livetable.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Optional, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from agent.render.liverows import Status
from agent.render.words import count, headline_words

__all__ = ["Display", "StatusLine"]


class Display(Protocol):
    """A context manager: what it shows on the terminal is gone when it is left."""

    @property
    def quit(self) -> bool:
        """Whether the user asks to end the run."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_exception: object) -> None: ...

    def say(self, line: str) -> None:
        """Print a line to standard error, now or when the display is left."""

    def update(self, status: Callable[[], Status]) -> None:
        """Show the status; called all the time."""


class StatusLine:
    """A line below the reports.  console: None shows nothing."""

    quit = False

    def __init__(self, console: Optional[Console]) -> None:
        self._live: Optional[Live] = None
        if console is not None:
            self._live = Live(console=console, refresh_per_second=4, transient=True, redirect_stderr=False)

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *_exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line to standard error, above the status line if there is one."""
        live = self._live if self._live is not None and self._live.is_started else None
        if live is not None:
            live.stop()
        print(line, file=sys.stderr)
        if live is not None:
            live.start()

    def update(self, status: Callable[[], Status]) -> None:
        """Show the status."""
        if self._live is None:
            return
        now = status()
        words = headline_words(now.p99_ns, now.stalled_ns, now.spawns, now.lost_records)
        line = Text(f"{now.seconds:.0f} s", "dim")
        line.append(f"  {count(now.spawns, 'spawn')}, {count(now.stalls, 'stall')}")
        if now.ongoing:
            line.append(f", {now.ongoing} in progress", "bold red")
        line.append(f", {count(now.lost_records, 'lost record')}", "red" if now.lost_records else "dim")
        line.append(f", {words}", "bold")
        self._live.update(line)
