# SPDX-License-Identifier: Apache-2.0
"""Waits that are not stalls, and their ends, as styled text, in the words of ``snapshot.py``."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from agent.render.words import wait_end_words
from agent.reports.types import WaitObject
from agent.snapshot import wait_entries

__all__ = ["WaitText", "wait_end_line"]

_STYLES = {"": "", "held by": "bold", "also by": "bold", "advice": "green"}
_LABEL = 11


class WaitText:
    """The headline; below it holders, advice and evidence, wrapped to the console's width."""

    def __init__(self, wait: WaitObject) -> None:
        self._wait = wait

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        (_, headline), *entries = wait_entries(self._wait)
        style = "bold" if self._wait["normal"] else "bold yellow"
        yield from _hanging(console, options, Text.assemble(("WAIT", style), f"  {headline}"), "", "  ")
        section = ""
        for label, words in entries:
            section = label or section
            text = Text(words, _STYLES.get(section, "dim"))
            yield from _hanging(console, options, text, f"  {label:<9}", " " * _LABEL)


def wait_end_line(wait: WaitObject) -> Text:
    """The end of a wait that was shown while it went on."""
    parent, thread = wait["parent"], wait["thread"]
    where = f"pid {parent['pid']}" + ("" if thread == parent["pid"] else f", thread {thread}")
    who = f"{parent['comm']} ({where})" if parent["comm"] else where
    return Text.assemble(("ENDED", "bold green"), f"  {who} has stopped waiting: {wait_end_words(wait)}.")


def _hanging(console: Console, options: ConsoleOptions, text: Text, first: str, rest: str) -> RenderResult:
    before = first
    for line in text.wrap(console, max(20, options.max_width - len(rest))):
        line.rstrip()
        yield Text.assemble((before, "dim"), line, no_wrap=True, overflow="ignore")
        before = rest
