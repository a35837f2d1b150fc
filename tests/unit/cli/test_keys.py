# SPDX-License-Identifier: Apache-2.0
"""agent.cli.keys: what the keys of the live table do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.keys import is_partial, keys_of, press
from agent.render.liverows import COLUMNS
from agent.render.livescreen import Opened, Screen, View
from tests.unit.render.test_livescreen import many

ROWS = many(5)
NAMES = [row.name for row in ROWS]
START = View()
SCREEN = Screen((), page=2, last_top=7)


def after(*keys: str, view: View = START) -> View:
    """The view after some keys."""
    for key in keys:
        view = press(view, key, ROWS, SCREEN)
    return view


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", ["pageup", "pagedown", "home", "end"]),
        (b"\x1b", ["escape"]),
        (b"\x1bOP\r\n\t ", ["help", "enter", "enter", "tab", "space"]),
        (b"\x1b[1;5A\x1b[200~\xff\x00", []),
        (b"jk\x1b[Cx", ["j", "k", "right", "x"]),
    ],
)
def test_keys_of_a_terminal(sent: bytes, keys: list[str]) -> None:
    assert keys_of(sent) == keys


@pytest.mark.parametrize(
    ("sent", "partial"),
    [(b"\x1b", True), (b"j\x1b[", True), (b"\x1b[1", True), (b"\x1b[A", False), (b"q", False)],
)
def test_partial_keys(sent: bytes, partial: bool) -> None:
    assert is_partial(sent) is partial


def test_quit() -> None:
    assert after("q").quit
    assert not after("x", "up", "enter").quit


def test_select() -> None:
    assert after("down").selected == NAMES[1]
    assert after("j", "j", "k").selected == NAMES[1]
    assert after("up").selected == NAMES[0]
    assert after("pagedown").selected == NAMES[2]
    assert after("end").selected == after("G").selected == NAMES[4]
    assert after("end", "down").selected == NAMES[4]
    assert after("end", "home").selected == NAMES[0]


def test_the_selection_follows_its_row() -> None:
    view = after("down", "down")
    moved = list(reversed(ROWS))
    assert press(view, "down", moved, SCREEN).selected == NAMES[1]


def test_sort() -> None:
    assert COLUMNS[View().column].title == "total"
    assert after("right").column == View().column + 1
    assert after(*["left"] * len(COLUMNS)).column == View().column
    assert after("r").ascending and not after("r", "r").ascending


def test_freeze() -> None:
    assert after("f").frozen and after("space").frozen
    assert not after("f", "f").frozen
    assert after("enter", "f").frozen


def test_open_scroll_and_go_back() -> None:
    assert after("down", "enter").opened == Opened(NAMES[1])
    assert after("enter").opened == Opened(NAMES[0])
    assert after("enter", "down").opened == Opened(NAMES[0], top=1)
    assert after("enter", "pagedown", "pagedown", "up").opened == Opened(NAMES[0], top=3)
    assert after("enter", "end", "down").opened == Opened(NAMES[0], top=7)
    assert after("enter", "end", "tab").opened == Opened(NAMES[0], latest=True)
    assert after("enter", "tab", "tab").opened == Opened(NAMES[0])
    for key in ("escape", "q", "backspace", "left"):
        assert after("down", "enter", key) == View(selected=NAMES[1])


def test_a_place_beyond_the_end_is_left_at_once() -> None:
    """The terminal has become higher, so that there are fewer lines to scroll."""
    view = View(opened=Opened(NAMES[0], top=90))
    assert after("up", view=view).opened == Opened(NAMES[0], top=6)


def test_help() -> None:
    assert after("h").help and after("?").help and after("help").help
    for key in ("h", "q", "escape", "enter"):
        assert after("?", key) == View()
    assert after("enter", "?", "q").opened == Opened(NAMES[0])


def test_keys_without_rows() -> None:
    for key in ("up", "end", "enter", "pagedown"):
        assert press(View(), key, [], SCREEN) == View()


@given(st.binary(max_size=200))
def test_any_bytes_are_keys_or_ignored(sent: bytes) -> None:
    view = View()
    for key in keys_of(sent):
        view = press(view, key, ROWS, SCREEN)
    assert view.selected is None or view.selected in NAMES
    assert view.opened is None or 0 <= view.opened.top <= SCREEN.last_top
