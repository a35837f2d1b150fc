# SPDX-License-Identifier: Apache-2.0
"""agent.render.livescreen: the whole screen of the live table."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from agent.diagnosis import judge
from agent.render.liverows import Row, Status, ordered, rows
from agent.render.livescreen import Opened, Screen, View, draw
from agent.reports.kinds import Kinds, stall_key
from agent.reports.objects import stall_object
from tests.unit.render.test_liverows import kinds_of
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import ENDED, MS, holder, release, spawn, stall

STATUS = Status(12.0, "the whole host", spawns=9, stalls=4)
LOSSES = tuple(f"{number} losses of some kind (number_{number})" for number in range(1, 13))


def drawn(shown: list[Row], view: View, width: int, height: int, status: Status = STATUS) -> Screen:
    """A screen of that size."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    return draw(console, status, shown, view)


def text(screen: Screen) -> list[str]:
    """The lines of a screen, without styles."""
    return ["".join(segment.text for segment in line).rstrip() for line in screen.lines]


def many(number: int) -> list[Row]:
    """Rows by total, the largest first: h0, h1 and so on."""
    found = rows(kinds_of(*((b"h%d" % each, 1000 - each) for each in range(number))))
    return ordered(found, 1, False)


@pytest.mark.parametrize("height", [1, 5, 24, 50])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("number", [0, 1, 100])
@pytest.mark.parametrize("opened", [False, True])
def test_a_screen_has_the_size_of_the_terminal(width: int, height: int, number: int, opened: bool) -> None:
    shown = many(number)
    view = View(opened=Opened(shown[0].name) if opened and shown else None, help=opened and not shown)
    screen = drawn(shown, view, width, height)
    lines = ["".join(segment.text for segment in line) for line in screen.lines]
    assert [cell_len(line) for line in lines] == [width] * height


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_selected_row_is_always_shown(width: int) -> None:
    shown = many(100)
    for place in (0, 1, 50, 99):
        view = View(selected=shown[place].name)
        marked = [line for line in text(drawn(shown, view, width, 24)) if line.startswith(">")]
        assert len(marked) == 1
        lines = text(drawn(shown, view, width, 24))
        assert any(f"h{place}," in line or f" h{place} " in line for line in lines)


def test_pages_have_all_rows() -> None:
    shown = many(100)
    seen = set()
    place = 0
    while place < len(shown):
        screen = drawn(shown, View(selected=shown[place].name), 200, 24)
        seen |= {word for line in text(screen) for word in line.split() if word.startswith("h")}
        place += screen.page
    assert {f"h{number}" for number in range(100)} <= seen


def test_what_is_not_shown_is_said() -> None:
    screen = drawn(many(100), View(), 200, 24)
    assert any(
        f"100 kinds of stall, 1 to {screen.page}, by total, largest first" in line for line in text(screen)
    )
    assert any(
        "1 kind of stall, by p50, smallest" in line for line in text(drawn(many(1), View(2, True), 80, 24))
    )
    assert any("No stall so far" in line for line in text(drawn([], View(), 80, 24)))


@pytest.mark.parametrize(("width", "height"), [(80, 15), (200, 24), (80, 24)])
@pytest.mark.parametrize("view", [View(), View(help=True), View(opened=Opened(many(1)[0].name))])
def test_losses_are_never_hidden(width: int, height: int, view: View) -> None:
    status = replace(STATUS, losses=LOSSES)
    lines = text(drawn(many(100), view, width, height, status))
    assert all(f"lost: {loss}" in lines for loss in LOSSES)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_an_opened_stall_is_scrolled_to_its_end(width: int) -> None:
    """It has the block and the step table, and nothing of them is cut."""
    kinds = Kinds()
    made = judge(spawn(releases=(release(), release(pid=7, at=ENDED - MS))), 10 * MS, True).stall
    assert made is not None
    kinds.add(stall_object(made, CLOCK))
    shown = rows(kinds)
    seen: list[str] = []
    top = 0
    while True:
        screen = drawn(shown, View(opened=Opened(shown[0].name, top=top)), width, 16)
        seen += text(screen)
        if top == screen.last_top:
            break
        top = min(top + screen.page, screen.last_top)
    whole = "".join("".join(line.split()) for line in seen)
    for what in (
        "Longeststallofparent",
        "STALL",
        "heldby",
        "alsoby",
        "advice",
        "thread",
        "holder",
        "505.000",
    ):
        assert what in whole
    for column in (1000, 1007, 1008, 1010, 1020, 7):
        assert str(column) in whole


def test_the_latest_or_the_longest_stall_is_opened() -> None:
    [row] = rows(kinds_of((b"worker", 300), (b"worker", 100)))
    for latest, seconds in ((False, "300.0 ms"), (True, "100.0 ms")):
        lines = text(drawn([row], View(opened=Opened(row.name, latest)), 100, 24))
        assert any("was blocked for" in line and seconds in line for line in lines)


def test_an_opened_stall_in_progress_grows() -> None:
    kinds = kinds_of((b"worker", None))
    [row] = rows(kinds)
    assert row.latest_stall is not None
    status = replace(STATUS, lasting={stall_key(row.latest_stall): 93.0})
    lines = text(drawn([row], View(opened=Opened(row.name)), 100, 24, status))
    assert any("has been blocked for 93.00 s" in line for line in lines)


def test_a_stall_that_is_gone_is_said_to_be() -> None:
    [row] = rows(kinds_of((b"worker", 300)))
    for shown in ([], [replace(row, longest_stall=None)]):
        assert any(
            "none any more" in line for line in text(drawn(shown, View(opened=Opened(row.name)), 80, 24))
        )


def test_thousands_of_holders_are_counted_not_drawn() -> None:
    """The screen is drawn beside tracing, so that it must not take long."""
    kinds = Kinds()
    holders = [holder(pid=number) for number in range(1, 5001)]
    kinds.add(stall_object(stall(*holders), CLOCK))
    [row] = rows(kinds)
    pages = [text(drawn([row], View(opened=Opened(row.name, top=top)), 80, 1000)) for top in (0, 1000, 2000)]
    lines = [line for page in pages for line in page]
    for words in ("and 4,950 more holders", "more steps"):
        assert any(words in line for line in lines)
