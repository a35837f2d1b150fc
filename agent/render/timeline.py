# SPDX-License-Identifier: Apache-2.0
"""A stall's timeline as SVG, made from its JSON object: who holds the write end, who waits, and when.

The rows are the parent, its own child and each foreign holder.  The picture fills the available width: x is
in percent, y and text are in pixels, so it stays readable on a phone.  Colours come from ``timeline.css``.
Made by hand: each element is computed, so a template would have nothing but expressions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Optional

from agent.model import StepKind
from agent.render.words import duration
from agent.reports.types import HolderObject, StallObject

__all__ = ["CAPTION", "began_seconds", "timeline"]

CAPTION = (
    "Solid: holds the pipe's write end. Outlined: waits in read. Shaded: the stall."
    " The numbers are those of the steps; short intervals are not to scale."
)
"""The legend of the picture."""

_MAX_HOLDERS = 8
_MAX_STEPS = 60
_MAX_NAME = 24
_MIN_SHARE = 0.065  # of the width for one interval: neighbouring marks do not touch on a phone
_MAX_MIN_SHARES = 0.75  # of the width for the minimum shares of all intervals
_TOP, _ROW, _BAR, _BOTTOM = 22, 46, 12, 22
_BAR_FROM_TOP = 21  # below the row's label


@dataclass
class _Row:
    """One process.  Bars are (start, end, kind) and marks are (step number, time, description)."""

    pid: Optional[int]
    name: str
    role: str
    bars: list[tuple[float, float, str]] = field(default_factory=list)
    marks: list[tuple[int, float, str]] = field(default_factory=list)


class _Scale:
    """Maps seconds to percent of the width; each interval between two known times gets a minimum width."""

    def __init__(self, times: Iterable[float]) -> None:
        self._times = sorted(set(times))
        spans = [after - before for before, after in zip(self._times, self._times[1:])]
        least = min(_MIN_SHARE, _MAX_MIN_SHARES / max(1, len(spans)))
        rest = 1 - least * len(spans)
        whole = sum(spans) or 1
        self._places = [0.0]
        for span in spans:
            self._places.append(self._places[-1] + least + rest * span / whole)

    def place(self, seconds: float) -> str:
        """The x of a known time, as an SVG attribute."""
        return f"{self._places[self._times.index(seconds)] * 100:.2f}%"

    def width(self, start: float, end: float) -> str:
        """The width of a bar between two known times, as an SVG attribute."""
        places = [self._places[self._times.index(each)] for each in (start, end)]
        return f"{max(0.0, places[1] - places[0]) * 100:.2f}%"


def began_seconds(stall: StallObject) -> Optional[float]:
    """When the stall began, in seconds since the errpipe's creation, or None if unknown."""
    at = {step["what"]: step["seconds"] for step in stall["steps"]}
    released = [
        at[what]
        for what in (StepKind.CHILD_CLOSED, StepKind.CHILD_EXECED, StepKind.CHILD_EXITED)
        if what in at
    ]
    return max(at[StepKind.READ_BEGAN], *released) if released and StepKind.READ_BEGAN in at else None


def timeline(stall: StallObject) -> str:
    """An ``<svg>`` of a stall, with escaped text.  Holders of unknown age are drawn dashed."""
    steps = stall["steps"]
    span = _stall_span(stall)
    began, end = span or (0.0, max((step["seconds"] for step in steps), default=1.0))
    rows = _rows(stall, began, end)
    times = [0.0, began, end, *_times(rows)]
    scale = _Scale(times)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    title = (
        f"{stall['parent']['comm']} waits for {_holder_names(stall)}"
        if stall["state"] == "ongoing"
        else f"{stall['parent']['comm']} waited for {_holder_names(stall)}"
    )
    parts = [
        f'<svg class="timeline" role="img" height="{height}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(_description(stall))}</desc>",
    ]
    if span:
        parts += [
            f'<rect class="stall" x="{scale.place(began)}" y="{_TOP - 4}"'
            f' width="{scale.width(began, end)}" height="{_ROW * len(rows) + 4}" rx="3"/>',
            _stall_label(stall, scale, began, end),
        ]
    for number, row in enumerate(rows):
        parts += _draw(row, _TOP + number * _ROW, scale)
    if steps:
        y = height - 6
        parts.append(f'<text class="time" x="0" y="{y}">0</text>')
        last = duration(max(times) * 1e9) + (", now" if stall["state"] == "ongoing" else "")
        parts.append(f'<text class="time end" x="100%" y="{y}">{last}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _stall_span(stall: StallObject) -> Optional[tuple[float, float]]:
    """Start and end, or None if the times are unknown because the stall was found in /proc."""
    began = began_seconds(stall)
    if began is None or stall["stall_seconds"] is None:
        return None
    return began, round(began + stall["stall_seconds"], 9)  # equal to the time of a step at that moment


def _stall_label(stall: StallObject, scale: _Scale, began: float, end: float) -> str:
    wide = float(scale.width(began, end).rstrip("%"))
    left = float(scale.place(began).rstrip("%"))
    return (
        f'<text class="time middle" x="{left + wide / 2:.2f}%" y="{_TOP - 9}">'
        f"stall {duration((stall['stall_seconds'] or 0.0) * 1e9)}</text>"
    )


def _rows(stall: StallObject, began: float, end: float) -> list[_Row]:
    at = {step["what"]: step["seconds"] for step in reversed(stall["steps"])}
    parent, child, errpipe = stall["parent"], stall["child"], stall["errpipe"]
    thread = "" if parent["tid"] == parent["pid"] else f", thread {parent['tid']}"
    rows = [
        _Row(
            parent["pid"], parent["comm"], f"pid {parent['pid']}{thread}, waits in read({errpipe['read_fd']})"
        )
    ]
    closed = at.get(StepKind.PARENT_CLOSED_WRITE_END)
    if closed is not None:
        rows[0].bars.append((0.0, closed, "parent"))
    read_ended = at.get(
        StepKind.READ_ENDED, at.get(StepKind.PARENT_DIED, end)
    )  # after the stall if the wake-up was late
    rows[0].bars.append((at.get(StepKind.READ_BEGAN, began), max(end, read_ended), "waits"))
    if child is not None:
        own = _Row(child["pid"], child["comm"], f"pid {child['pid']}, own child")
        if StepKind.CHILD_FORKED in at:
            own.bars.append(
                (at[StepKind.CHILD_FORKED], max(at[StepKind.CHILD_FORKED], _released(at, began)), "child")
            )
        rows.append(own)
    for holder in stall["holders"][:_MAX_HOLDERS]:
        rows.append(_holder_row(holder, began, end))
    more = len(stall["holders"]) - _MAX_HOLDERS
    if more > 0:
        rows.append(_Row(None, f"{more} more", "holders"))
    for number, step in enumerate(stall["steps"][:_MAX_STEPS], 1):
        for row in rows:
            if row.pid == step["pid"]:
                row.marks.append((number, step["seconds"], step["what"].replace("_", " ")))
                break
    return rows


def _released(at: Mapping[str, float], began: float) -> float:
    return next(
        (
            at[what]
            for what in (StepKind.CHILD_CLOSED, StepKind.CHILD_EXECED, StepKind.CHILD_EXITED)
            if what in at
        ),
        began,
    )


def _holder_row(holder: HolderObject, began: float, end: float) -> _Row:
    if holder["pid"] is None:
        return _Row(None, "unknown process", "holder: not observed", [(began, end, "unseen")])
    row = _Row(holder["pid"], holder["comm"] or "", f"pid {holder['pid']}, holder: {holder['cause']}")
    start, until = holder["acquired_seconds"], holder["released_seconds"]
    until = end if until is None else until
    if start is None:
        row.bars.append((began, max(began, until), "unseen"))
    else:
        row.bars.append((start, max(start, until), "holder"))
    return row


def _times(rows: Iterable[_Row]) -> Iterable[float]:
    for row in rows:
        for start, end, _ in row.bars:
            yield start
            yield end
        for _, seconds, _ in row.marks:
            yield seconds


def _draw(row: _Row, top: int, scale: _Scale) -> Iterable[str]:
    y = top + _BAR_FROM_TOP
    middle = y + _BAR / 2
    name = row.name if len(row.name) <= _MAX_NAME else row.name[: _MAX_NAME - 1] + "…"
    yield (
        f'<text y="{top + 12}"><title>{escape(row.name)} {escape(row.role)}</title>'
        f'<tspan class="name">{escape(name)}</tspan>'
        f' <tspan class="role" dx="4">{escape(row.role)}</tspan></text>'
    )
    yield f'<line class="lane" x1="0" x2="100%" y1="{middle}" y2="{middle}"/>'
    for start, end, kind in row.bars:
        yield (
            f'<rect class="{kind}" x="{scale.place(start)}" y="{y}"'
            f' width="{scale.width(start, end)}" height="{_BAR}" rx="2"/>'
        )
    for number, seconds, words in row.marks:
        x = scale.place(seconds)
        yield (
            f'<g class="mark"><title>{number}: {escape(words)}, {duration(seconds * 1e9)}</title>'
            f'<circle cx="{x}" cy="{middle}" r="8"/>'
            f'<text x="{x}" y="{middle + 3.5}">{number}</text></g>'
        )


def _holder_names(stall: StallObject) -> str:
    names = [holder["comm"] or "an unknown process" for holder in stall["holders"][:3]]
    more = len(stall["holders"]) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _description(stall: StallObject) -> str:
    """The picture as text, for screen readers."""
    sentences = []
    for holder in stall["holders"][:_MAX_HOLDERS]:
        who = "An unknown process" if holder["pid"] is None else f"{holder['comm']} (pid {holder['pid']})"
        until = holder["released_seconds"]
        if until is None:
            held = "holds the write end of the pipe"
        else:
            held = f"held the write end of the pipe until {duration(until * 1e9)}"
        sentences.append(f"{who} {held}; cause: {holder['cause']}.")
    return " ".join(sentences)
