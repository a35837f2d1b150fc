# SPDX-License-Identifier: Apache-2.0
"""The step table of a stall: who did what when, and which fds of the pipe each process then had open.

It has a column for each thread and each process, with ``-`` for a closed copy, as in the original write-up
of the problem.  It is made from the steps of a stall's JSON object and shows only what was recorded: both
ends of the pipe for the parent, only the write end for children and holders.  On a narrow console it is in
several parts: nothing but the action wraps, and nothing is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Optional

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from agent.model import StepKind
from agent.render.words import count
from agent.reports.types import HolderObject, ParentObject, StallObject

__all__ = ["Column", "StepTable", "step_table"]

_MAX_HOLDERS = 4
_NARROW_ACTION = 16
"""The action wraps to this width before a column moves to the next part."""
_GAP = 2
_EDGE = 1  # rich before 14 pads the last column too
_UNLIMITED = 10_000
_CLOSED = "-"
_ENDS = {
    StepKind.PARENT_CLOSED_WRITE_END,
    StepKind.CHILD_CLOSED,
    StepKind.CHILD_EXECED,
    StepKind.CHILD_EXITED,
    StepKind.HOLDER_CLOSED,
    StepKind.HOLDER_EXECED,
    StepKind.HOLDER_EXITED,
    StepKind.HOLDER_RELEASED,
}
_ACTIONS: dict[str, str] = {
    StepKind.ERRPIPE_CREATED: "parent creates the errpipe",
    StepKind.CHILD_FORKED: "parent forks the child",
    StepKind.PARENT_CLOSED_WRITE_END: "parent closes its write end",
    StepKind.READ_BEGAN: "parent reads",
    StepKind.READ_ENDED: "parent's read returns",
    StepKind.PARENT_DIED: "parent dies in read",
    StepKind.CHILD_CLOSED: "child closes its copy",
    StepKind.CHILD_EXECED: "child calls exec",
    StepKind.CHILD_EXITED: "child exits",
    StepKind.HOLDER_FORKED: "{holder} is forked",
    StepKind.HOLDER_CLOSED: "{holder} closes its copy",
    StepKind.HOLDER_EXECED: "{holder} calls exec",
    StepKind.HOLDER_EXITED: "{holder} exits",
    StepKind.HOLDER_RELEASED: "{holder} releases its copy",
}
_CALLS: dict[str, str] = {
    StepKind.ERRPIPE_CREATED: "pipe",
    StepKind.CHILD_FORKED: "fork",
    StepKind.PARENT_CLOSED_WRITE_END: "close({w})",
    StepKind.READ_BEGAN: "read({r})",
    StepKind.READ_ENDED: "returns",
    StepKind.PARENT_DIED: "dies",
}
"""What the spawning thread does, shown in its column."""


@dataclass(frozen=True)
class Column:
    """A column of the step table: its header of one or two lines, and a cell for each step."""

    header: str
    cells: Sequence[str]

    @property
    def width(self) -> int:
        """The room that the column takes if nothing in it wraps, gap included."""
        return max(map(cell_len, (*self.header.split("\n"), *self.cells))) + _GAP


@dataclass(frozen=True)
class StepTable:
    """The table.  Columns that do not fit follow below, in tables with the same steps and times.

    times: the number and the time of each step.  others: the columns of threads and processes.
    left_out: the number of holders that have no column.
    """

    times: Sequence[Column]
    action: Column
    others: Sequence[Column]
    left_out: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - _EDGE - _width(self.times)
        narrow = min(self.action.width, _NARROW_ACTION + _GAP)
        shown = _fitting(self.others, room - narrow)
        action = max(narrow, min(self.action.width, room - _width(shown)))
        yield _whole(self._part(shown, action - _GAP), console, options)
        rest = self.others[len(shown) :]
        while rest:
            shown = _fitting(rest, room) or rest[:1]
            yield _whole(self._part(shown), console, options)
            rest = rest[len(shown) :]
        if self.left_out:
            yield Text(f" {count(self.left_out, 'more holder')} not shown", "italic")

    def _part(self, others: Sequence[Column], action: Optional[int] = None) -> Table:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        shown = [*self.times, *others]
        for column in self.times:
            table.add_column(column.header, justify="right", no_wrap=True, width=column.width - _GAP)
        if action is not None:
            shown.insert(len(self.times), self.action)
            table.add_column(self.action.header, overflow="fold", width=action)
        for column in others:
            table.add_column(column.header, no_wrap=True, width=column.width - _GAP)
        for cells in zip(*(column.cells for column in shown)):
            table.add_row(*map(Text, cells))
        return table


def step_table(stall: StallObject) -> Optional[StepTable]:
    """The table, or None if the stall has no steps (because it was found in /proc)."""
    if not stall["steps"] or stall["child"] is None:
        return None
    parent, child, errpipe = stall["parent"], stall["child"], stall["errpipe"]
    holders = [holder for holder in stall["holders"] if holder["pid"] is not None]
    shown = holders[:_MAX_HOLDERS]
    threads = _threads(parent, shown)
    processes = [parent["pid"], child["pid"], *(holder["pid"] or 0 for holder in shown)]
    headers = [f"thread\n{tid}" for tid in threads]
    headers += [
        f"{role}\n{pid}" for pid, role in zip(processes, ("parent", "child", *("holder" for _ in shown)))
    ]
    rows: list[list[str]] = []
    open_fds: dict[int, str] = {}
    blocked = ""
    for number, step in enumerate(stall["steps"], 1):
        what, pid = step["what"], step["pid"]
        if what == StepKind.ERRPIPE_CREATED:
            open_fds[pid] = f"{errpipe['read_fd']},{errpipe['write_fd']}"
        elif what == StepKind.CHILD_FORKED:
            open_fds[child["pid"]] = str(errpipe["write_fd"])
        elif what == StepKind.HOLDER_FORKED:
            open_fds[pid] = _fds(shown, pid)
        elif what in _ENDS and pid == parent["pid"]:
            open_fds[pid] = f"{errpipe['read_fd']},{_CLOSED}"
        elif what in _ENDS and pid in open_fds:
            open_fds[pid] = _CLOSED
        calls = {parent["tid"]: blocked}
        if pid == parent["pid"]:
            call = _CALLS.get(what, "").format(r=errpipe["read_fd"], w=errpipe["write_fd"])
            calls[parent["tid"]] = call
            blocked = "|" if what == StepKind.READ_BEGAN else ""
        elif what == StepKind.HOLDER_FORKED:
            calls.update({tid: "fork" for tid in threads if tid == _forker(shown, pid)})
        holder = "holder" if len(holders) == 1 else f"holder {pid}"
        rows.append(
            [
                str(number),
                f"{step['seconds'] * 1e3:,.3f}",
                _ACTIONS.get(what, what).format(holder=holder),
                *(calls.get(tid, "") for tid in threads),
                *(open_fds.get(pid, "") for pid in processes),
            ]
        )
    numbers, ms, action, *others = map(Column, ("step", "ms", "action", *headers), zip(*rows))
    return StepTable((numbers, ms), action, others, len(holders) - len(shown))


def _whole(table: Table, console: Console, options: ConsoleOptions) -> Table:
    """The table, as wide as it must be: rich would cut it to the width of the console."""
    needed = Measurement.get(console, options.update(width=_UNLIMITED), table).minimum
    if needed > options.max_width:
        table.width = needed
    return table


def _width(columns: Iterable[Column]) -> int:
    return sum(column.width for column in columns)


def _fitting(columns: Sequence[Column], room: int) -> Sequence[Column]:
    """As many of the first columns as there is room for."""
    widths = accumulate(column.width for column in columns)
    return columns[: sum(width <= room for width in widths)]


def _threads(parent: ParentObject, holders: Iterable[HolderObject]) -> list[int]:
    """The tids of the parent's threads that took part: the spawning thread and those that forked holders."""
    forkers = [
        holder["forked_by"]["tid"]
        for holder in holders
        if holder["forked_by"] and holder["forked_by"]["pid"] == parent["pid"]
    ]
    return list(dict.fromkeys([parent["tid"], *(tid for tid in forkers if tid is not None)]))


def _forker(holders: Iterable[HolderObject], pid: int) -> Optional[int]:
    for holder in holders:
        if holder["pid"] == pid and holder["forked_by"]:
            tid: Optional[int] = holder["forked_by"]["tid"]
            return tid
    return None


def _fds(holders: Iterable[HolderObject], pid: int) -> str:
    for holder in holders:
        if holder["pid"] == pid:
            return ",".join(str(fd) for fd in holder["fds"])
    return ""
