# SPDX-License-Identifier: Apache-2.0
"""The whole screen of the live table: status, table or one stall or help, and keys.

It is a pure function of the data, of what the user has chosen, and of the size of the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from agent.render.liverows import COLUMNS, Row, Status, status_lines, table_lines
from agent.render.steptable import step_table
from agent.render.text import stall_text
from agent.render.words import count
from agent.reports.kinds import KindName, stall_key
from agent.reports.types import StallObject

__all__ = ["Opened", "Screen", "View", "draw"]

_MAX_HOLDERS = 50
_MAX_STEPS = 200
"""Of the stall that is shown: a screen is drawn twice a second, beside tracing."""
_BY_TOTAL = 1
_ORDER_LINES = 2  # the line about the order, where the terminal is narrow
_KEYS = "q quit  Up/Down select  Enter open  Left/Right sort  r reverse  f freeze  h help"
_STALL_KEYS = "q back  Up/Down PgUp/PgDn scroll  Tab longest/latest  f freeze  h help"
_HELP_KEYS = "q back"
_HELP = """\
The table has a row for each kind of stall: who waited, who held the errpipe, and why.

  Up, Down, j, k          select a row, or scroll
  PgUp, PgDn, Home, End   the same, by a page or to an end
  Enter                   open the longest stall of the row
  Tab                     show its latest stall, or its longest
  Esc                     back to the table
  Left, Right             sort by another column
  r                       reverse the order
  f, Space                freeze the table, or resume; tracing goes on
  h, ?                    this help
  q                       back; in the table: quit
  Ctrl-C                  quit

stalls: their number.  total, p50, p99, longest: how long they lasted.
last seen: when the latest ended, or was in progress (UTC).  now: how many are in progress.
After quitting, the first stall of each kind and the summary are printed.
"""


@dataclass(frozen=True)
class Opened:
    """One stall of a kind.  top: the first line to show."""

    name: KindName
    latest: bool = False
    top: int = 0


@dataclass(frozen=True)
class View:
    """What the user has chosen.

    column: a place in COLUMNS, by which the table is sorted.  selected: None: the first row.
    """

    column: int = _BY_TOTAL
    ascending: bool = False
    frozen: bool = False
    selected: Optional[KindName] = None
    opened: Optional[Opened] = None
    help: bool = False
    quit: bool = False


@dataclass(frozen=True)
class Screen:
    """As many lines as the terminal has.

    page: how many rows or lines are shown at once.  last_top: the last line from which a stall can be shown.
    """

    lines: Sequence[Sequence[Segment]]
    page: int
    last_top: int = 0

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        for number, line in enumerate(self.lines):
            if number:
                yield Segment.line()
            yield from line


def draw(console: Console, status: Status, shown: Sequence[Row], view: View) -> Screen:
    """The screen.  shown: the rows in the order in which they are shown."""
    width, height = console.size
    head = _lines(console, status_lines(status, view.frozen))
    keys = _HELP_KEYS if view.help else _STALL_KEYS if view.opened else _KEYS
    foot = _lines(console, [Text(keys, "dim")])
    last_top = 0
    if view.help or view.opened is not None:
        title, what = (Text("Help", "bold"), [Text(_HELP)]) if view.help else _stall(shown, view, status)
        titles = _lines(console, [title])
        body = _lines(console, what)
        page = max(height - len(head) - len(titles) - len(foot), 1)
        last_top = max(len(body) - page, 0)
        top = min(view.opened.top, last_top) if view.opened is not None and not view.help else 0
        body = body[top : top + page]
    else:
        selected = _place(shown, view.selected)
        header, blocks = table_lines(shown, view.column, selected, width)
        titles = _lines(console, header)
        room = max(height - len(head) - len(titles) - len(foot) - _ORDER_LINES, 1)
        first, page = _window([len(_lines(console, block)) for block in blocks], selected, room)
        body = _lines(console, [line for block in blocks[first : first + page] for line in block])
        titles = [*_lines(console, [_which(shown, first, page, view)]), *titles]
    blank: list[list[Segment]] = [[]] * (height - len(head) - len(titles) - len(body) - len(foot))
    # The head comes first: on a terminal that is too low, losses are the last to go.
    lines = [*head, *titles, *body, *blank, *foot][:height]
    return Screen(Segment.set_shape(lines, width, height), page, last_top)


def _lines(console: Console, what: Iterable[RenderableType]) -> list[list[Segment]]:
    """The lines of something; those that are too long go on in the next line, as on a terminal."""
    width = console.width
    found = []
    for line in Segment.split_lines(console.render(Group(*what))):
        length = Segment.get_line_length(line)
        cuts = [*range(width, length, width), length]
        found += [list(part) for part in Segment.divide(line, cuts)] if length else [[]]
    return found


def _place(shown: Sequence[Row], name: Optional[KindName]) -> int:
    return next((place for place, row in enumerate(shown) if row.name == name), 0)


def _window(heights: Sequence[int], selected: int, room: int) -> tuple[int, int]:
    """The page of rows that has the selected one: its first row, and how many it has."""
    first, used = 0, 0
    for place, height in enumerate(heights):
        if used and used + height > room:
            if selected < place:
                return first, place - first
            first, used = place, 0
        used += height
    return first, max(len(heights) - first, 1)


def _which(shown: Sequence[Row], first: int, page: int, view: View) -> Text:
    if not shown:
        return Text("No stall so far.", "bold")
    last = min(first + page, len(shown))
    which = "" if last - first == len(shown) else f", {first + 1} to {last}"
    order = "smallest first" if view.ascending else "largest first"
    return Text(
        f"{count(len(shown), 'kind')} of stall{which}, by {COLUMNS[view.column].title}, {order}", "dim"
    )


def _stall(shown: Sequence[Row], view: View, status: Status) -> tuple[Text, list[RenderableType]]:
    """The heading and the block of the opened stall."""
    opened = view.opened
    assert opened is not None
    name = opened.name
    which = "Latest" if opened.latest else "Longest"
    title = Text(
        f"{which} stall of {name.comm}, held by {name.holder or 'unknown'}, {name.cause.value}", "bold"
    )
    row = next((row for row in shown if row.name == name), None)
    stall = row and (row.latest_stall if opened.latest else row.longest_stall)
    if not stall:
        return title, [Text("There is none any more: it has ended as another kind.")]
    return title, _block(stall, status)


def _block(stall: StallObject, status: Status) -> list[RenderableType]:
    seconds = status.lasting.get(stall_key(stall))
    holders, steps = stall["holders"], stall["steps"]
    part = {**stall, "holders": holders[:_MAX_HOLDERS], "steps": steps[:_MAX_STEPS]}
    if stall["state"] == "ongoing" and seconds is not None:
        part["stall_seconds"] = seconds
    short = cast(StallObject, part)
    table = step_table(short)
    block: list[RenderableType] = [stall_text(short, steps=False)]
    if len(holders) > _MAX_HOLDERS:
        block.append(Text(f"  and {count(len(holders) - _MAX_HOLDERS, 'more holder')}"))
    if table is not None:
        block.append(table)
    if len(steps) > _MAX_STEPS:
        block.append(Text(f"  and {count(len(steps) - _MAX_STEPS, 'more step')}"))
    return block
