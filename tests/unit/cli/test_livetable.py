# SPDX-License-Identifier: Apache-2.0
"""agent.cli.livetable: the terminal is restored, and nothing that was reported is lost."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import IO, Any

import pytest
from rich.console import Console

from agent.cli.livetable import LiveTable, keyboard
from agent.cli.outputs import Text
from agent.render.liverows import Status
from agent.reports.kinds import stall_key
from agent.reports.objects import stall_object
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import UNSEEN, spawn, stall

STATUS = Status(1.0, "the whole host", spawns=1)


@dataclass
class Pty:
    """Both sides of a terminal, and the live table on it."""

    master: int
    output: IO[str]
    table: LiveTable
    text: Text

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.output.fileno())

    def sent(self) -> str:
        """What the terminal has received since the last call."""
        self.output.flush()
        os.set_blocking(self.master, False)
        parts = []
        with contextlib.suppress(BlockingIOError):
            while True:
                parts.append(os.read(self.master, 65536))
        return b"".join(parts).decode()


@pytest.fixture
def terminal() -> Iterator[Pty]:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as output:
        console = Console(file=output, force_terminal=True, width=100, height=24)
        text = Text(console, steps=False)
        yield Pty(master, output, LiveTable(console, slave, text), text)
    os.close(master)


def shown(terminal: Pty, status: Status = STATUS) -> str:
    """What the table draws now."""
    terminal.table._next = 0.0
    terminal.table.update(lambda: status)
    return terminal.sent()


class _Failure(Exception):
    pass


def test_an_exception_restores_the_terminal_and_loses_nothing(
    terminal: Pty, capsys: pytest.CaptureFixture[str]
) -> None:
    before = terminal.settings()
    handlers = [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT, signal.SIGQUIT)]
    with pytest.raises(_Failure), terminal.table:
        assert terminal.settings() != before
        assert "\x1b[?1049h" in terminal.sent()
        for sink in (terminal.text, terminal.table):
            sink.write(stall_object(stall(), CLOCK))
        terminal.table.say("a loss")
        assert "a loss" not in capsys.readouterr().err
        raise _Failure
    assert terminal.settings() == before
    sent = terminal.sent()
    assert sent.index("\x1b[?1049l") < sent.index("STALL")
    assert "\x1b[?25h" in sent
    assert capsys.readouterr().err == "a loss\n"
    assert [signal.getsignal(n) for n in (signal.SIGTSTP, signal.SIGCONT, signal.SIGQUIT)] == handlers


def test_after_the_table_lines_are_printed_at_once(terminal: Pty, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.table:
        pass
    terminal.table.say("a late loss")
    assert capsys.readouterr().err == "a late loss\n"


def test_keys_are_read_from_the_terminal(terminal: Pty) -> None:
    with terminal.table:
        os.write(terminal.master, b"?")
        assert "reverse the order" in shown(terminal)
        os.write(terminal.master, b"\x1bq")
        shown(terminal)
        assert terminal.table.quit


def test_a_frozen_table_keeps_its_rows_but_not_its_status(terminal: Pty) -> None:
    with terminal.table:
        terminal.table.write(stall_object(stall(), CLOCK))
        assert "worker" in shown(terminal)
        os.write(terminal.master, b"f")
        terminal.table.write(stall_object(stall(UNSEEN, of=spawn(id=2)), CLOCK))
        drawn = shown(terminal, Status(1.0, "", spawns=777, losses=("3 losses",)))
        assert "1 kind of stall" in drawn
        assert "777 spawns" in drawn and "lost: 3 losses" in drawn
        os.write(terminal.master, b"f")
        assert "2 kinds of stall" in shown(terminal)


def test_stalls_in_progress_grow_and_end(terminal: Pty) -> None:
    """One that is not in progress any more, and whose end is not reported, does not stay in progress."""
    ongoing = stall_object(stall(ended=None), CLOCK)
    key = stall_key(ongoing)
    with terminal.table:
        terminal.table.write(ongoing)
        shown(terminal, Status(1.0, "", lasting={key: 41.0}))
        [row] = terminal.table._rows
        assert (row.ongoing, row.total) == (1, 41.0)
        assert row.last is not None
        assert abs(row.last - datetime.now(timezone.utc)).total_seconds() < 60
        shown(terminal)
        assert terminal.table._rows[0].ongoing == 1
        terminal.table._seen[key] = time.monotonic() - 3
        shown(terminal)
        [row] = terminal.table._rows
        assert (row.count, row.ongoing, row.total) == (1, 0, 41.0)


def test_a_stall_found_in_proc_is_in_progress_until_its_end_is_reported(terminal: Pty) -> None:
    with terminal.table:
        terminal.table.write(stall_object(stall(ended=None), CLOCK))
        shown(terminal)
        terminal.table._seen.clear()
        shown(terminal)
        assert terminal.table._rows[0].ongoing == 1


def test_no_keyboard_without_a_terminal(terminal: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keyboard(Console(file=io.StringIO(), force_terminal=True)) is None
    # It is not the controlling terminal of the tests.
    assert keyboard(Console(file=terminal.output, force_terminal=True)) is None
    monkeypatch.setenv("TERM", "dumb")
    assert keyboard(Console(file=terminal.output)) is None
