# SPDX-License-Identifier: Apache-2.0
"""The keys of the live table: what a terminal sends for them, and what they change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from agent.render.liverows import COLUMNS, Row
from agent.render.livescreen import Opened, Screen, View

__all__ = ["is_partial", "keys_of", "press"]

_ESCAPED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])|[\x00-\xff]", re.DOTALL)
_PARTIAL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_NAMES = {
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\t": "tab",
    b" ": "space",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    **{lead + b"A": "up" for lead in (b"\x1b[", b"\x1bO")},
    **{lead + b"B": "down" for lead in (b"\x1b[", b"\x1bO")},
    **{lead + b"C": "right" for lead in (b"\x1b[", b"\x1bO")},
    **{lead + b"D": "left" for lead in (b"\x1b[", b"\x1bO")},
    **{code: "home" for code in (b"\x1b[H", b"\x1bOH", b"\x1b[1~", b"\x1b[7~")},
    **{code: "end" for code in (b"\x1b[F", b"\x1bOF", b"\x1b[4~", b"\x1b[8~")},
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1bOP": "help",
    b"\x1b[11~": "help",
}
"""By what xterm and its relatives, the Linux console and screen send."""
_SAME = {
    "k": "up",
    "j": "down",
    "g": "home",
    "G": "end",
    "h": "help",
    "?": "help",
    "f": "freeze",
    "space": "freeze",
}
_BACK = ("q", "escape", "backspace")


def keys_of(sent: bytes) -> list[str]:
    """The keys that a terminal has sent: their names, or the character; what is unknown is left out."""
    found = []
    for code in _ESCAPED.findall(sent):
        if code in _NAMES:
            found.append(_NAMES[code])
        elif len(code) == 1 and 0x20 < code[0] < 0x7F:
            found.append(code.decode())
    return found


def is_partial(sent: bytes) -> bool:
    """Whether the end may be the beginning of a longer key, such as an arrow."""
    return _PARTIAL.search(sent) is not None


def press(view: View, key: str, shown: Sequence[Row], screen: Screen) -> View:
    """The view after a key.

    shown: the rows in the order in which they are shown.  screen: as it was drawn last.
    """
    key = _SAME.get(key, key)
    if key == "freeze":
        return replace(view, frozen=not view.frozen)
    if view.help:
        return replace(view, help=False) if key in (*_BACK, "enter", "help") else view
    if key == "help":
        return replace(view, help=True)
    if view.opened is not None:
        return replace(view, opened=_scroll(view.opened, key, screen))
    if key == "q":
        return replace(view, quit=True)
    if key == "r":
        return replace(view, ascending=not view.ascending)
    if key in ("left", "right"):
        step = 1 if key == "right" else -1
        return replace(view, column=(view.column + step) % len(COLUMNS))
    return _select(view, key, shown, screen.page)


def _select(view: View, key: str, shown: Sequence[Row], page: int) -> View:
    if not shown:
        return view
    place = next((place for place, row in enumerate(shown) if row.name == view.selected), 0)
    if key == "enter":
        return replace(view, selected=shown[place].name, opened=Opened(shown[place].name))
    moved = _moved(place, key, page, len(shown) - 1)
    return view if moved is None else replace(view, selected=shown[moved].name)


def _scroll(opened: Opened, key: str, screen: Screen) -> Optional[Opened]:
    if key in (*_BACK, "left", "enter"):
        return None
    if key == "tab":
        return Opened(opened.name, latest=not opened.latest)
    moved = _moved(min(opened.top, screen.last_top), key, screen.page, screen.last_top)
    return opened if moved is None else replace(opened, top=moved)


def _moved(place: int, key: str, page: int, last: int) -> Optional[int]:
    """The place after a key that moves, from 0 to last; None for another key."""
    steps = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -place, "end": last - place}
    if key not in steps:
        return None
    return min(max(place + steps[key], 0), last)
