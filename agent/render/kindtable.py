# SPDX-License-Identifier: Apache-2.0
"""The table of a run's stalls for a terminal: a row for each kind, the costliest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from agent.render.words import count, duration
from agent.reports.kinds import Kind

__all__ = ["KindTable"]

_MAX_ROWS = 20
_NARROW = 79
"""On a narrower console each kind is a paragraph, because a table would cut its columns."""
_COLUMNS = ("stalls", "total", "p50", "p99", "longest", "last seen")


class KindTable:
    """Who waited, held by whom and why, how often, for how long, and when last.

    all_ended: nothing is in progress any more, even if the end of a stall was not reported.
    """

    def __init__(self, kinds: Sequence[Kind], all_ended: bool = False) -> None:
        self._all_ended = all_ended
        self._kinds = kinds[:_MAX_ROWS]
        self._left_out = kinds[_MAX_ROWS:]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width < _NARROW:
            yield from self._paragraphs()
        else:
            yield self._table()
        if self._left_out:
            stalls = count(sum(kind.count for kind in self._left_out), "stall")
            yield Text(f"  and {count(len(self._left_out), 'more kind')} ({stalls})", "dim")

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("  who waited\n   held by, cause", overflow="fold")
        for title in _COLUMNS:
            table.add_column(title, justify="right", no_wrap=True)
        for kind in self._kinds:
            table.add_row(Text("\n   ".join(_names(kind))), *self._figures(kind), style=self._style(kind))
        return table

    def _paragraphs(self) -> Iterator[Text]:
        for kind in self._kinds:
            figures = [f"{title} {figure}" for title, figure in zip(_COLUMNS, self._figures(kind))]
            lines = (*_names(kind), ", ".join(figures[:3]), ", ".join(figures[3:]))
            yield Text("\n   ".join(lines), self._style(kind))

    def _is_ongoing(self, kind: Kind) -> bool:
        return kind.ongoing > 0 and not self._all_ended

    def _style(self, kind: Kind) -> str:
        return "bold red" if self._is_ongoing(kind) else ""

    def _figures(self, kind: Kind) -> Iterator[str]:
        yield f"{kind.count:,}"
        for seconds in (kind.total, *kind.quantiles(0.5, 0.99, 1)):
            yield duration(seconds * 1e9)
        if self._is_ongoing(kind):
            yield f"now ({kind.ongoing:,})"
        else:
            yield "-" if kind.last is None else f"{kind.last:%H:%M:%S}"


def _names(kind: Kind) -> tuple[str, str]:
    name = kind.name
    return f"  {name.comm or '?'}", f"{name.holder or 'unknown'}, {name.cause.value}"
