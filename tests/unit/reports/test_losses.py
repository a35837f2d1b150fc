# SPDX-License-Identifier: Apache-2.0
"""agent.reports.losses and agent.cli.session: losses are counted and reported."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agent.cli import session
from agent.cli.display import StatusLine
from agent.render.liverows import Status
from agent.reports.losses import LOSSES, loss_lines, not_followed

NONE = {counter: 0 for _, counter, _ in LOSSES}


def test_losses_are_the_difference_of_two_readings() -> None:
    before = {**NONE, "spawns_refused": 5, "misses": 7, "processes_added": 1}
    now = {**before, "spawns_refused": 17, "updates_failed": 1, "processes_added": 99}
    lost = not_followed(before, now)
    assert list(lost) == [name for name, _, _ in LOSSES]
    assert {name: number for name, number in lost.items() if number} == {
        "slots_overflowed": 12,
        "map_updates_failed": 1,
    }


def test_lines() -> None:
    lost = {"slots_overflowed": 1234, "walks_cut": 0, "tables_shared": 1, "later_loss": 3}
    assert [(line.split()[0], line.split()[-1]) for line in loss_lines(lost)] == [
        ("1,234", "(slots_overflowed)"),
        ("1", "(tables_shared)"),
        ("3", "(later_loss)"),
    ]
    assert list(loss_lines({"records_lost": 3}, besides="records_lost")) == []


@pytest.mark.parametrize("name", [name for name, _, _ in LOSSES])
def test_each_loss_has_a_singular_and_a_plural(name: str) -> None:
    [one], [two] = loss_lines({name: 1}), loss_lines({name: 2})
    assert one.startswith("1 ") and two.startswith("2 ") and one[1:] != two[1:]
    assert one.endswith(f" ({name})") and two.endswith(f" ({name})")
    assert "was lost (" not in one.replace("record was lost", "")


class _Tracer:
    """A tracer whose counters the test sets."""

    def __init__(self) -> None:
        self.counts = dict(NONE)

    def counters(self) -> dict[str, int]:
        return dict(self.counts)


def test_each_kind_is_reported_once_when_it_first_counts(capsys: pytest.CaptureFixture[str]) -> None:
    tracer = _Tracer()
    tracer.counts["misses"] = 3  # before the start
    losses = session._Losses(tracer, StatusLine(None).say)  # type: ignore[arg-type]

    def said() -> list[str]:
        losses._next = 0.0
        losses.poll()
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err.splitlines()

    assert said() == []
    tracer.counts["spawns_refused"] = 12
    [line] = said()
    assert " 12 " in line and "(slots_overflowed)" in line
    tracer.counts["spawns_refused"] = 13
    tracer.counts["tables_shared"] = 1
    [line] = said()
    assert " 1 " in line and "(tables_shared)" in line
    assert said() == []
    lost = losses.report()
    assert {name: number for name, number in lost.items() if number} == {
        "slots_overflowed": 13,
        "tables_shared": 1,
    }
    assert capsys.readouterr().err == ""


def test_a_line_is_printed_above_the_status_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    display = StatusLine(Console(file=screen, force_terminal=True, width=60))
    with display:
        assert display._live is not None
        display.update(lambda: Status(1.0, "", spawns=123))
        display._live.refresh()
        display.say("a loss")
        assert display._live.is_started
        shown = screen.getvalue()
    assert "123 spawns" in shown
    display.say("at the end")
    assert not display._live.is_started
    assert capsys.readouterr().err == "a loss\nat the end\n"


def test_counters_are_not_read_at_every_poll() -> None:
    tracer = _Tracer()
    losses = session._Losses(tracer, print)  # type: ignore[arg-type]
    losses.poll()
    tracer.counts.clear()
    before = losses._next
    losses.poll()
    assert losses._next == before
