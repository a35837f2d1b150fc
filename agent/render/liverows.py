# SPDX-License-Identifier: Apache-2.0
"""The live table of a terminal: the status, and a row for each kind of stalls, as lines that fit its width.

Nothing is cut.  A row that does not fit on one line has a line for each name; on a narrow terminal, its
figures follow on the next line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple, Optional

from rich.cells import cell_len
from rich.text import Text

from agent.render.words import count, duration, headline_words
from agent.reports.kinds import KindName, Kinds
from agent.reports.types import StallObject

__all__ = ["COLUMNS", "Row", "Status", "ordered", "rows", "status_lines", "table_lines"]

_NARROWEST_NAMES = 16
_SELECTED, _ONGOING, _LOST = "reverse", "bold red", "bold red"


@dataclass(frozen=True)
class Status:
    """What a run has seen so far.

    seconds: since its start.  target: what is traced.  p99_ns: of all spawns, None: not known.
    stalled_ns: the time of all stalls.  losses: a line for each kind of loss.
    lasting: the stalls in progress by ``stall_key``, with their seconds so far.
    """

    seconds: float
    target: str
    spawns: int = 0
    stalls: int = 0
    ongoing: int = 0
    p99_ns: Optional[int] = None
    stalled_ns: int = 0
    lost_records: int = 0
    losses: Sequence[str] = ()
    lasting: Mapping[Any, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """The stalls of one kind; times in seconds.  A stall is None if it has ended as another kind."""

    name: KindName
    count: int
    total: float
    p50: float
    p99: float
    longest: float
    last: Optional[datetime]
    ongoing: int
    latest_stall: Optional[StallObject]
    longest_stall: Optional[StallObject]


class Column(NamedTuple):
    """A column by which the table can be sorted: its title, and the attribute of Row."""

    title: str
    attribute: str


COLUMNS = (
    Column("stalls", "count"),
    Column("total", "total"),
    Column("p50", "p50"),
    Column("p99", "p99"),
    Column("longest", "longest"),
    Column("last seen", "last"),
    Column("now", "ongoing"),
)


def rows(kinds: Kinds) -> list[Row]:
    """A row for each kind."""
    found = []
    for kind in kinds.worst_first():
        p50, p99, longest = kind.quantiles(0.5, 0.99, 1)
        found.append(
            Row(
                name=kind.name,
                count=kind.count,
                total=kind.total,
                p50=p50,
                p99=p99,
                longest=longest,
                last=kind.last,
                ongoing=kind.ongoing,
                latest_stall=kind.latest or kind.longest,
                longest_stall=kind.longest or kind.latest,
            )
        )
    return found


def ordered(found: Iterable[Row], column: int, ascending: bool) -> list[Row]:
    """The rows by a column (a place in COLUMNS); equal ones by name, and those without a value below 0."""

    def value(row: Row) -> float:
        figure = getattr(row, COLUMNS[column].attribute)
        if isinstance(figure, datetime):
            return figure.timestamp()
        return -1.0 if figure is None else float(figure)

    by_name = sorted(found, key=lambda row: (row.name.comm, row.name.holder or "", row.name.cause))
    return sorted(by_name, key=value, reverse=not ascending)


def status_lines(status: Status, frozen: bool) -> list[Text]:
    """Where the run stands; what was lost is never left out."""
    line = Text(f"{_clock(status.seconds)}  {status.target}  ")
    line.append(f"{count(status.spawns, 'spawn')}, {count(status.stalls, 'stall')}")
    if status.ongoing:
        line.append(f", {status.ongoing:,} in progress", _ONGOING)
    line.append(f", {count(status.lost_records, 'lost record')}", _LOST if status.lost_records else "")
    if frozen:
        line.append("  ")
        line.append("FROZEN", "reverse")
    words = headline_words(status.p99_ns, status.stalled_ns, status.spawns, status.lost_records)
    return [line, Text(words, "bold"), *(Text(f"lost: {loss}", _LOST) for loss in status.losses)]


def _clock(seconds: float) -> str:
    """As top and watch show it: ``12 s``, ``3:07``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def table_lines(
    shown: Sequence[Row], column: int, selected: int, width: int
) -> tuple[list[Text], list[list[Text]]]:
    """The lines of the header, and those of each row.

    column: the one by which the rows are sorted.  selected: the place of the row to mark.
    """
    figures = [_figures(row) for row in shown]
    widths = [max(map(cell_len, cells)) for cells in zip([title for title, _ in COLUMNS], *figures)]
    names = [_names(row) for row in shown]
    natural = [max(map(cell_len, cells)) for cells in zip(_NAME_TITLES, *names)]
    room = width - len(_mark(False)) - sum(widths) - len(widths)
    styles = [_style(row, place == selected) for place, row in enumerate(shown)]
    marks = [_mark(place == selected) for place in range(len(shown))]
    if room >= sum(natural) + len(natural) - 1:
        name_widths = [*natural[:-1], natural[-1]]
        header = [_header(_joined(_NAME_TITLES, name_widths), widths, column)]
        blocks = [
            [Text(mark + _joined(cells, name_widths) + _right(row, widths), style)]
            for mark, cells, row, style in zip(marks, names, figures, styles)
        ]
    elif room >= _NARROWEST_NAMES:
        header = [Text(_mark(False) + _NAME_TITLES[0], "dim")]
        below = f" {_NAME_TITLES[1]}, {_NAME_TITLES[2]}"
        header.append(_header(below.ljust(room), widths, column))
        blocks = [
            _beside(mark, _stacked(cells, room), _right(row, widths), room, style)
            for mark, cells, row, style in zip(marks, names, figures, styles)
        ]
    else:
        header = []
        blocks = [
            [Text(line, style) for line in _paragraph(mark, cells, row, width)]
            for mark, cells, row, style in zip(marks, names, figures, styles)
        ]
    return header, blocks


_NAME_TITLES = ("who waited", "held by", "cause")


def _names(row: Row) -> tuple[str, str, str]:
    return row.name.comm or "?", row.name.holder or "unknown", row.name.cause.value


def _figures(row: Row) -> list[str]:
    times = (row.total, row.p50, row.p99, row.longest)
    last = "-" if row.last is None else f"{row.last:%H:%M:%S}"
    return [f"{row.count:,}", *(duration(seconds * 1e9) for seconds in times), last, f"{row.ongoing:,}"]


def _style(row: Row, is_selected: bool) -> str:
    styles = [_SELECTED] * is_selected + [_ONGOING] * (row.ongoing > 0)
    return " ".join(styles)


def _mark(is_selected: bool) -> str:
    return "> " if is_selected else "  "


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _joined(cells: Iterable[str], widths: Iterable[int]) -> str:
    return " ".join(_padded(cell, width) for cell, width in zip(cells, widths))


def _right(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "".join(f" {cell:>{width}}" for cell, width in zip(cells, widths))


def _header(names: str, widths: Sequence[int], column: int) -> Text:
    line = Text(_mark(False) + names, "dim")
    for place, ((title, _), width) in enumerate(zip(COLUMNS, widths)):
        line.append(" " * (1 + width - len(title)))
        line.append(title, "bold underline" if place == column else "dim")
    return line


def _stacked(names: tuple[str, str, str], room: int) -> Iterator[str]:
    """The names within a column: who waited, and below it, indented, by whom it was held and why."""
    who, held_by, cause = names
    yield from _folded(who, room)
    for line in _folded(f"{held_by}, {cause}", room - 1):
        yield f" {line}"


def _folded(text: str, room: int) -> Iterator[str]:
    line = ""
    for char in text:
        if line and cell_len(line + char) > room:
            yield line
            line = ""
        line += char
    yield line


def _beside(mark: str, names: Iterable[str], figures: str, room: int, style: str) -> list[Text]:
    marks = (mark,)
    return [
        Text(_padded((first or _mark(False)) + name, len(mark) + room) + right, style)
        for first, name, right in zip_longest(marks, names, (figures,), fillvalue="")
    ]


def _paragraph(mark: str, names: tuple[str, str, str], figures: Sequence[str], width: int) -> Iterator[str]:
    room = max(width - len(mark), 1)
    for line in _stacked(names, room):
        yield mark + line
        mark = _mark(False)
    line = ""
    for (title, _), figure in zip(COLUMNS, figures):
        words = f"{title} {figure}"
        if line and cell_len(line) + 2 + len(words) > room - 2:
            yield f"{mark} {line},"
            line = words
        else:
            line = f"{line}, {words}" if line else words
    yield f"{mark} {line}"
