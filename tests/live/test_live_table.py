# SPDX-License-Identifier: Apache-2.0
"""The live table of trace-popen, on a real terminal with real stalls."""

from __future__ import annotations

import re
import signal
import subprocess
import termios
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab
from tests.live.terminal import ENTER_SCREEN, LEAVE_SCREEN, Terminal

APP = "table-app"
KEYS = {"up": "\x1b[A", "down": "\x1b[B", "left": "\x1b[D", "page down": "\x1b[6~", "escape": "\x1b"}


@pytest.fixture
def app(lab: Lab) -> list[str]:
    """A program with stalls whose comm is no other process's."""
    link = lab.folder / APP
    link.symlink_to(PYTHON)
    return [str(link), *lab.program("fork_beside_popen.py")[1:], "--live", "0.1", "--force"]


def stalls(app: list[str], number: int) -> None:
    """Have that many stalls."""
    subprocess.run([*app, str(number)], stdout=subprocess.DEVNULL, check=True)


def table(lab: Lab, *options: str, width: int = 100, **environment: str) -> Terminal:
    """Start trace-popen on a terminal."""
    command = [*lab.trace_popen, "--comm", APP, *options]
    return Terminal(command, lab.root, width, **environment)


def rows(lines: list[str]) -> list[list[str]]:
    """The words of the rows of the table, on a wide terminal."""
    return [line[2:].split() for line in lines if re.match(rf"[> ] {APP} ", line)]


def wait_for_count(terminal: Terminal, number: int) -> list[str]:
    """Wait until the only row counts that many stalls."""
    return terminal.wait_until(lambda lines: [row[3:4] for row in rows(lines)] == [[str(number)]])


def is_restored(terminal: Terminal) -> bool:
    """Whether the terminal is as it was before, with its cursor and its normal screen."""
    sent = terminal.sent
    return (
        terminal.settings() == terminal.modes
        and sent.count(ENTER_SCREEN) == sent.count(LEAVE_SCREEN) > 0
        and sent.rindex(LEAVE_SCREEN) > sent.rindex(ENTER_SCREEN)
        and sent.rindex(b"\x1b[?25h") > sent.rindex(b"\x1b[?25l")
    )


def test_a_row_appears_and_its_count_grows_in_place(lab: Lab, app: list[str]) -> None:
    with table(lab) as terminal:
        terminal.wait_for("No stall so far")
        assert not terminal.settings()[3] & termios.ECHO
        stalls(app, 1)
        first = wait_for_count(terminal, 1)
        stalls(app, 3)
        second = wait_for_count(terminal, 4)
        at = [place for place, line in enumerate(first) if APP in line]
        assert at == [place for place, line in enumerate(second) if APP in line]
        assert rows(second)[0][:3] == [APP, APP, "forked"]
        assert re.search(r"the whole host  \d+ spawns, 4 stalls.* 0 lost records", second[0])
        assert re.match(r"p99 of a spawn [\d.]+ m?s, [\d.]+ m?s lost to stalls", second[1])
        terminal.type("q")
        assert terminal.end() == 0
        assert is_restored(terminal)


def test_what_was_seen_stays_on_the_normal_screen(lab: Lab, app: list[str]) -> None:
    """As in a pipe: the first stall of each kind, the summary, the table of the kinds."""
    with table(lab, "--steps") as terminal:
        terminal.wait_for("No stall so far")
        stalls(app, 3)
        wait_for_count(terminal, 3)
        terminal.type("q")
        assert terminal.end() == 0
        left = re.sub(r"\x1b\[[0-9;?]*[a-z]", "", terminal.after_table())
    assert left.count("STALL  ") == 1
    assert len(re.findall(r"\bstep\b", left)) == 1
    assert re.search(r" s: p99 of a spawn .*, .* lost to stalls\r\n", left)
    assert "who waited" in left
    assert re.search(rf"\n  {APP} +3 ", left)


def test_a_stall_in_progress_is_shown_and_grows(lab: Lab, app: list[str]) -> None:
    with (
        table(lab) as terminal,
        subprocess.Popen([*app[:-3], "--live", "60", "--force", "1"], stdout=subprocess.DEVNULL) as stalled,
    ):
        try:
            terminal.wait_for("1 in progress")
            [row] = rows(terminal.wait_until(lambda lines: len(rows(lines)) == 1))
            assert row[-1] == "1"
            longest = [" ".join(row[4:6])]
            terminal.wait_until(lambda lines: " ".join(rows(lines)[0][4:6]) not in longest)
            terminal.type("\r")
            terminal.wait_for("STALL IN PROGRESS")
        finally:
            subprocess.run(["pkill", "-KILL", "-P", str(stalled.pid)], check=False)
            stalled.kill()
        terminal.type("q")
        terminal.wait_until(lambda lines: rows(lines) != [] and rows(lines)[0][-1] == "0")


def test_keys(lab: Lab, app: list[str]) -> None:
    with table(lab) as terminal:
        terminal.wait_for("No stall so far")
        stalls(app, 2)
        wait_for_count(terminal, 2)
        terminal.wait_for("by total, largest first")
        terminal.type(KEYS["left"] + "r")
        terminal.wait_for("by stalls, smallest first")
        terminal.type("\r")
        lines = terminal.wait_for("Longest stall of")
        assert any("STALL" in line and APP in line for line in lines)
        terminal.resize(100, 50)
        lines = terminal.wait_for("action")
        assert any("step" in line and "action" in line for line in lines)
        terminal.resize(100, 12)
        terminal.type(KEYS["page down"] * 9)
        terminal.wait_for("read returns")
        terminal.resize(100, 24)
        terminal.type("\t")
        terminal.wait_for("Latest stall of")
        terminal.type("h")
        terminal.wait_for("reverse the order")
        terminal.type(KEYS["escape"])
        terminal.wait_for("Latest stall of")
        terminal.type(KEYS["escape"])
        terminal.wait_for("by stalls, smallest first")
        terminal.type("f")
        terminal.wait_for("FROZEN")
        stalls(app, 2)
        lines = terminal.wait_until(lambda lines: "4 stalls" in lines[0])
        terminal.pause(1)
        assert rows(terminal.lines())[0][3] == "2"
        terminal.type("f")
        wait_for_count(terminal, 4)
        assert "FROZEN" not in terminal.lines()[0]


def test_resize(lab: Lab, app: list[str]) -> None:
    with table(lab) as terminal:
        terminal.wait_for("No stall so far")
        stalls(app, 1)
        wait_for_count(terminal, 1)
        terminal.resize(60, 16)
        terminal.wait_until(
            lambda lines: any("stalls 1, total" in line for line in lines) and "quit" in lines[-2]
        )
        terminal.resize(150, 40)
        lines = terminal.wait_until(lambda lines: lines[-1].startswith("q quit"))
        assert sum(line.startswith("q quit") for line in lines) == 1
        assert len(rows(lines)) == 1


@pytest.mark.parametrize(
    ("how", "status"), [("\x03", 0), (signal.SIGTERM, 0), (signal.SIGINT, 0), ("\x1c", 128 + signal.SIGQUIT)]
)
def test_the_terminal_is_restored(lab: Lab, how: object, status: int) -> None:
    with table(lab) as terminal:
        terminal.wait_for("No stall so far")
        if isinstance(how, str):
            terminal.type(how)
        else:
            assert isinstance(how, signal.Signals)
            terminal.kill(how)
        assert terminal.end() == status
        assert is_restored(terminal)
        if status == 0:
            assert "no time lost to stalls" in terminal.after_table()


def test_the_end_of_the_target_is_said_after_the_table(lab: Lab) -> None:
    with (
        subprocess.Popen(["sleep", "60"]) as target,
        Terminal([*lab.trace_popen, "--pid", str(target.pid)], lab.root) as terminal,
    ):
        terminal.wait_for(f"pid {target.pid} and its descendants")
        target.kill()
        target.wait()
        assert terminal.end() == 0
        assert is_restored(terminal)
        assert f"pid {target.pid} has exited" in terminal.after_table()


def test_ctrl_z_gives_the_terminal_back_to_the_shell(lab: Lab, app: list[str], tmp_path: Path) -> None:
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with Terminal(shell, lab.root, PS1="READY ") as terminal:
        terminal.wait_for("READY")
        terminal.type("stty -g >" + str(tmp_path / "before") + "\r")
        terminal.type(" ".join([*lab.trace_popen, "--comm", APP]) + "\r")
        terminal.wait_for("No stall so far")
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        assert is_left(terminal)
        terminal.type("stty -g >" + str(tmp_path / "stopped") + "\r")
        terminal.pause(0.5)
        terminal.sent = b""
        terminal.type("fg\r")
        terminal.wait_for("No stall so far")
        stalls(app, 1)
        wait_for_count(terminal, 1)
        assert not terminal.settings()[3] & termios.ICANON
        terminal.type("q")
        terminal.wait_for("failed execs")
        terminal.wait_until(lambda lines: lines[terminal.row].startswith("READY"))
        terminal.type("stty -g >" + str(tmp_path / "after") + "; exit\r")
        terminal.end()
        assert terminal.sent.count(ENTER_SCREEN) == terminal.sent.count(LEAVE_SCREEN) == 1
    before = (tmp_path / "before").read_text()
    assert (tmp_path / "stopped").read_text() == before == (tmp_path / "after").read_text()


def is_left(terminal: Terminal) -> bool:
    """Whether the normal screen is shown."""
    return terminal.sent.rindex(LEAVE_SCREEN) > terminal.sent.rindex(ENTER_SCREEN)


@pytest.mark.parametrize("options", [["--no-tui"], ["--each"], ["--all"], ["--debug"]])
def test_without_the_table_stalls_are_printed_as_in_a_pipe(
    lab: Lab, app: list[str], options: list[str]
) -> None:
    with table(lab, *options) as terminal:
        terminal.wait_for(" lost records, no time lost to stalls")  # the status line
        stalls(app, 1)
        terminal.resize(80, 24)
        terminal.wait_for("read returns")
        terminal.wait_for(" 1 stall, ")
        terminal.type("\x03")
        assert terminal.end() == 0
        assert ENTER_SCREEN not in terminal.sent
        assert terminal.sent.rindex(b"\x1b[?25h") > terminal.sent.rindex(b"\x1b[?25l")
        assert terminal.settings() == terminal.modes
        assert any("who waited" in line for line in terminal.lines())


def test_no_table_on_a_dumb_terminal_in_a_file_or_in_the_background(lab: Lab, app: list[str]) -> None:
    with table(lab, "--duration", "3", TERM="dumb") as terminal:
        terminal.wait_for("tracing")
        stalls(app, 1)
        assert terminal.end() == 0
        assert "\x1b" not in terminal.sent.decode()
        assert terminal.sent.count(b"STALL") == 1
    with table(lab, "--duration", "1", "-o", str(lab.folder / "out")) as terminal:
        assert terminal.end() == 0
        assert ENTER_SCREEN not in terminal.sent
    traced = " ".join([*lab.trace_popen, "--comm", APP, "--duration", "1"])
    with Terminal(["bash", "--norc", "-mc", f"{traced} & wait"], lab.root) as terminal:
        assert terminal.end() == 0
        assert ENTER_SCREEN not in terminal.sent
        assert b"no time lost to stalls" in terminal.sent
