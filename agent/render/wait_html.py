# SPDX-License-Identifier: Apache-2.0
"""Waits that are not stalls, as a section of a page: the words of ``snapshot.py``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from agent.render.words import wait_end_words
from agent.reports.types import WaitObject
from agent.snapshot import wait_entries

__all__ = ["wait_section"]

_MAX_WAITS = 100


def wait_section(
    waits: Sequence[WaitObject], left_out: int = 0, title: str = "Waits that are not stalls"
) -> str:
    """Each wait as a paragraph and a list; empty if there are none."""
    if not waits:
        return ""
    more = left_out + len(waits[_MAX_WAITS:])
    note = f'<p class="note">{more:,} more are left out.</p>' if more else ""
    shown = "\n".join(map(_wait, waits[:_MAX_WAITS]))
    return f'<section id="waits"><h2>{escape(title)}</h2>\n{shown}\n{note}</section>'


def _wait(wait: WaitObject) -> str:
    (_, headline), *entries = wait_entries(wait)
    end = wait_end_words(wait)
    if end is not None:
        entries.insert(0, ("ended", end))
    items = "".join(_items(entries))
    return f"<p>{escape(headline)}</p>" + (f"<ul>{items}</ul>" if items else "")


def _items(entries: Iterable[tuple[str, str]]) -> Iterable[str]:
    for label, words in entries:
        what = f"<b>{escape(label)}</b> " if label else ""
        yield f"<li>{what}{escape(words)}</li>"
