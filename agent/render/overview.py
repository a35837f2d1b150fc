# SPDX-License-Identifier: Apache-2.0
"""The stalls of a run over time, as SVG: one line per stall, with overlapping stalls on separate rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from html import escape

from agent.render.stall_html import child_name, holder_name
from agent.render.timeline import began_seconds
from agent.render.words import duration
from agent.reports.types import StallObject

__all__ = ["overview"]

_MAX_ROWS = 12
_ROW, _TOP, _BOTTOM = 12, 10, 26
_MIN_GAP = 0.012  # of the width, between the lines of one row


def overview(stalls: Iterable[tuple[str, StallObject]]) -> str:
    """An ``<svg>`` of (link, stall) pairs, each line leading to its link; "" if no stall has known times.

    Colours come from ``run_html.css``.
    """
    spans = []
    for link, stall in stalls:
        began = began_seconds(stall)
        if began is not None and stall["stall_seconds"] is not None:
            start = _seconds(stall["time"]) + began
            spans.append((start, start + stall["stall_seconds"], link, stall))
    if not spans:
        return ""
    spans.sort(key=lambda span: span[:2])
    first, last = spans[0][0], max(end for _, end, _, _ in spans)
    whole = (last - first) or 1.0
    rows: list[float] = []
    lines = []
    for start, end, link, stall in spans:
        left, right = (start - first) / whole, (end - first) / whole
        row = next((number for number, until in enumerate(rows) if until + _MIN_GAP <= left), len(rows))
        if row == len(rows) < _MAX_ROWS:
            rows.append(right)
        row = min(row, _MAX_ROWS - 1)  # without room for another row, lines overlap
        rows[row] = max(rows[row], right)
        x1, x2, y = f"{left * 100:.2f}%", f"{right * 100:.2f}%", _TOP + row * _ROW
        lines.append(
            f'<a href="{escape(link)}"><title>{escape(_description(stall))}</title>'
            f'<line class="{stall["state"]}" x1="{x1}" x2="{x2}" y1="{y}" y2="{y}"/></a>'
        )
    height = _TOP + _ROW * len(rows) + _BOTTOM
    return (
        f'<svg class="overview" role="img" height="{height}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>Stalls over time</title>{''.join(lines)}"
        f'<line class="axis" x1="0" x2="100%" y1="{height - 24}" y2="{height - 24}"/>'
        f'<text x="0" y="{height - 8}">{_clock(first)}</text>'
        f'<text class="end" x="100%" y="{height - 8}">{_clock(last)}</text></svg>'
    )


def _description(stall: StallObject) -> str:
    return (
        f"{stall['parent']['comm']} waited {duration((stall['stall_seconds'] or 0.0) * 1e9)} to start"
        f" {child_name(stall)}, held by {holder_name(stall['holders'][0])}"
    )


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339[:-1]).replace(tzinfo=timezone.utc).timestamp()


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%H:%M:%S UTC")
