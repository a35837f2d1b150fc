# SPDX-License-Identifier: Apache-2.0
"""agent.render.wait_text and wait_html: the words of snapshot.py, harmless and whole."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from agent import snapshot
from agent.render.run_html import html_report
from agent.render.wait_html import wait_views
from agent.render.wait_text import WaitText, wait_end_line
from agent.reports.collection import Collection
from agent.snapshot import Wait, WaitHolder

_NOW = 1_764_000_000.0


def _wait(**changes: Any) -> Any:
    holder = WaitHolder(456, b"<b>sleep", (1, 2), 1, _NOW, "sleeps (clock_nanosleep)")
    wait = Wait(
        kind="output",
        time=_NOW,
        pid=4711,
        tid=4712,
        comm=b"web-app",
        child=123,
        child_comm=b"sh",
        headline="web-app (pid 4711) reads a pipe that is still open in <b>sleep (pid 456), fd 1; " * 2,
        holders=(holder, holder),
        evidence=("fd 3 is pipe:[77]", "x " * 100),
        advice="Redirect the output.",
    )
    return wait._replace(**changes).to_object()


def _text(wait: Any, width: int = 80) -> str:
    output = io.StringIO()
    Console(file=output, width=width, highlight=False).print(WaitText(wait), crop=False)
    return output.getvalue()


def test_text_is_that_of_the_single_file() -> None:
    assert _text(_wait()).split() == snapshot.text(_wait()).split()
    lines = _text(_wait()).splitlines()
    assert lines[0].startswith("WAIT  web-app (pid 4711)")
    assert "  held by  <b>sleep (pid 456), fd 1, 2: sleeps (clock_nanosleep)" in lines
    assert "  advice   Redirect the output." in lines
    assert "  evidence fd 3 is pipe:[77]" in lines


def test_a_normal_wait_is_its_headline() -> None:
    assert len(_text(_wait(normal=True), 400).splitlines()) == 1


def test_a_page_shows_waits() -> None:
    page = html_report(Collection([_wait(), _wait(normal=True)]))
    assert "Waits that are not stalls" in page
    assert "&lt;b&gt;sleep (pid 456), fd 1, 2" in page
    assert "<b>sleep" not in page
    assert "Waits that are not stalls" not in html_report(Collection([]))


def test_the_end_of_a_wait_is_one_line_and_part_of_its_paragraph() -> None:
    ended = _wait(id="a", ended=_NOW + 8040, ending="<b>sleep (pid 456) has exited")
    line = wait_end_line(ended).plain
    assert line.startswith("ENDED  web-app (pid 4711, thread 4712)")
    assert "<b>sleep (pid 456) has exited" in line and "2 h 14 min" in line
    page = html_report(Collection([_wait(id="a"), ended]))
    assert page.count("&lt;b&gt;sleep (pid 456) has exited") == 1
    assert page.count("web-app (pid 4711) reads") == 2  # the headline has it twice
    limited = Collection([_wait(id="a"), _wait(id="b"), ended, _wait(id="b", ended=_NOW, ending="")], limit=1)
    assert ([wait["state"] for wait in limited.waits], limited.waits_left_out) == (["ended"], 1)


def test_what_is_left_out_of_a_page_is_counted() -> None:
    collection = Collection([_wait()] * 7, limit=5)
    assert (len(collection.waits), collection.waits_left_out) == (5, 2)
    assert "2 more are left out." in html_report(collection)
    views = wait_views([_wait()] * 200, 2)
    assert (len(views["shown"]), views["left_out"]) == (100, 102)
