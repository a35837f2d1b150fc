# SPDX-License-Identifier: Apache-2.0
"""Waits that are not stalls, for a section of a page: the words of ``snapshot.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.render.words import wait_end_words
from agent.reports.types import WaitObject
from agent.snapshot import wait_entries

__all__ = ["wait_views"]

_MAX_WAITS = 100


def wait_views(waits: Sequence[WaitObject], left_out: int = 0) -> dict[str, Any]:
    """What the template shows: headline and entries of each wait, and the number of those left out."""
    shown = []
    for wait in waits[:_MAX_WAITS]:
        (_, headline), *entries = wait_entries(wait)
        end = wait_end_words(wait)
        if end is not None:
            entries.insert(0, ("ended", end))
        shown.append((headline, entries))
    return {"shown": shown, "left_out": left_out + len(waits[_MAX_WAITS:])}
