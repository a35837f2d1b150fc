# SPDX-License-Identifier: Apache-2.0
"""agent.render.timeline: the picture of one stall, parsed as XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import diagnosis
from agent.model import Cause, Holder, Stall
from agent.render.timeline import began_seconds, timeline
from agent.reports.objects import stall_object
from agent.snapshot import Finding
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import BEGAN, CREATED, ENDED, MS, UNSEEN, holder, release, spawn, waiting

SVG = "{http://www.w3.org/2000/svg}"


def _ended(**changes: Any) -> Any:
    """The object of a stall with its steps."""
    made, _ = diagnosis.judge(spawn(**{"releases": (release(),), **changes}), MS, True)
    assert made is not None
    return stall_object(made, CLOCK)


def _ongoing(*holders: Holder) -> Any:
    made = diagnosis.ongoing_stall(waiting(), holders or (holder(),), BEGAN + 700 * MS, MS, True)
    assert made is not None
    return {**stall_object(made, CLOCK), "stall_seconds": 0.7}


class Picture:
    """A parsed timeline."""

    def __init__(self, stall: Any) -> None:
        self.source = timeline(stall)
        self.root = ET.fromstring(self.source)

    def bars(self, kind: str) -> list[tuple[float, float]]:
        """Start and end of each bar of a kind, in percent."""
        found = []
        for rect in self.root.iter(f"{SVG}rect"):
            if rect.get("class") == kind:
                start = _percent(rect.get("x"))
                found.append((start, start + _percent(rect.get("width"))))
        return found

    def marks(self) -> dict[str, float]:
        """The x of each step's mark, in percent, by step number."""
        return {
            str(group.findtext(f"{SVG}text")): _percent(group.find(f"{SVG}circle").get("cx"))  # type: ignore[union-attr]
            for group in self.root.iter(f"{SVG}g")
        }

    def text(self) -> str:
        """All text in the picture."""
        return " ".join(self.root.itertext())


def _percent(value: Optional[str]) -> float:
    assert value is not None and value.endswith("%")
    return float(value[:-1])


def test_bars_show_who_holds_the_write_end_and_who_waits() -> None:
    picture = Picture(_ended())
    [(parent_from, parent_to)] = picture.bars("parent")
    [(child_from, child_to)] = picture.bars("child")
    [(holder_from, holder_to)] = picture.bars("holder")
    [(read_from, read_to)] = picture.bars("waits")
    [(stall_from, stall_to)] = picture.bars("stall")
    # errpipe created, holder forked, child forked, parent closed, read began, child released, holder released
    moments = [parent_from, holder_from, child_from, parent_to, read_from, child_to, holder_to]
    assert moments == sorted(moments)
    assert len(set(moments)) == len(moments)
    assert parent_from == 0
    assert stall_from == pytest.approx(child_to, abs=0.02)
    assert read_to == stall_to == holder_to == pytest.approx(100, abs=0.05)


def test_every_step_is_marked_at_its_time() -> None:
    stall = _ended()
    picture = Picture(stall)
    marks = picture.marks()
    assert list(sorted(marks, key=int)) == [str(number) for number in range(1, len(stall["steps"]) + 1)]
    places = [marks[str(number)] for number in range(1, len(marks) + 1)]
    assert places == sorted(places)
    whats = [step["what"] for step in stall["steps"]]
    assert marks[str(whats.index("read_ended") + 1)] == pytest.approx(100, abs=0.05)
    assert marks[str(whats.index("holder_forked") + 1)] == picture.bars("holder")[0][0]


def test_neighbouring_marks_do_not_touch() -> None:
    """Steps within 5 ms of an hour-long stall; 6 % of a phone's 340 px are wider than a mark."""
    hour = CREATED + 3600 * 1000 * MS
    made, _ = diagnosis.judge(spawn(read_ended=hour, releases=(release(at=hour),)), MS, True)
    assert made is not None
    report = stall_object(made, CLOCK)
    places = sorted(set(Picture(report).marks().values()))
    assert len(places) == len({step["seconds"] for step in report["steps"]})
    assert min(after - before for before, after in zip(places, places[1:])) >= 6


def test_read_with_a_late_wakeup_outlasts_the_stall() -> None:
    picture = Picture(_ended(releases=(release(by="close", at=BEGAN + 200 * MS),)))
    [stall], [waits], [held] = (picture.bars(kind) for kind in ("stall", "waits", "holder"))
    assert stall[1] == held[1] < 90
    assert waits[1] == pytest.approx(100, abs=0.05)
    text = picture.text()
    assert "stall 200.0 ms" in text
    assert "505.0 ms" in text  # the end of the picture


def test_text_names_processes_duration_and_cause() -> None:
    picture = Picture(_ended(comm=b"web-app", child_comm=b"convert"))
    text = picture.text()
    for word in ("web-app", "convert", "worker", "stall 500.0 ms", "505.0 ms", "holder: forked", "own child"):
        assert word in text
    assert picture.root.findtext(f"{SVG}title") == "web-app waited for worker"
    assert "worker (pid 1020) held the write end of the pipe until 505.0 ms" in str(
        picture.root.findtext(f"{SVG}desc")
    )
    assert picture.root.get("role") == "img"


def test_stall_in_progress_extends_to_now() -> None:
    picture = Picture(_ongoing())
    for kind in ("waits", "holder", "stall"):
        assert picture.bars(kind)[0][1] == pytest.approx(100, abs=0.05)
    text = picture.text()
    assert "705.0 ms, now" in text
    assert "waits for worker" in text
    assert "holds the write end" in text


def test_unknown_holder_is_dashed() -> None:
    made, _ = diagnosis.judge(spawn(held=True), MS, True)
    assert made is not None and made.holders == (UNSEEN,)
    picture = Picture(stall_object(made, CLOCK))
    assert picture.bars("unseen") == picture.bars("stall")
    assert picture.bars("holder") == []
    assert "unknown process holder: not observed" in " ".join(picture.text().split())


def test_copy_of_unknown_age_is_dashed() -> None:
    picture = Picture(_ongoing(holder(acquired=None, cause=Cause.PASSED)))
    assert picture.bars("holder") == []
    assert picture.bars("unseen") == picture.bars("stall")


def test_long_lists_of_holders_are_cut() -> None:
    holders = [holder(pid=2000 + number, acquired=CREATED + number) for number in range(500)]
    picture = Picture(_ongoing(*holders))
    assert len(picture.bars("holder")) == 8
    assert "492 more" in picture.text()
    assert len(picture.source) < 20_000


def test_stall_found_in_proc_has_no_times() -> None:
    finding = Finding(
        time=0.0,
        pid=1,
        tid=2,
        comm=b"app",
        child=None,
        child_comm=b"",
        read_fd=3,
        write_fd=None,
        holders=(),
        certain=True,
        evidence=(),
        pipe="pipe:[1]",
    )
    stall: Any = {**finding.to_object(), "holders": [_ongoing()["holders"][0] | {"acquired_seconds": None}]}
    assert began_seconds(stall) is None
    picture = Picture(stall)
    assert len(picture.bars("unseen")) == 1
    assert picture.bars("stall") == []
    assert re.search(r"\d (us|ms|s)\b", picture.text()) is None


def test_stall_with_an_unknown_start_is_not_shaded() -> None:
    """A replayed report can lack the step; the other steps are still marked."""
    report = _ended()
    report["steps"] = [step for step in report["steps"] if step["what"] != "read_began"]
    picture = Picture(report)
    assert picture.bars("stall") == []
    assert len(picture.marks()) == len(report["steps"])
    assert "505.0 ms" in picture.text() and "stall 500" not in picture.text()


def test_stall_of_unknown_duration_is_not_shaded() -> None:
    picture = Picture({**_ended(), "stall_seconds": None})
    assert picture.bars("stall") == []


def test_long_lists_of_steps_are_cut() -> None:
    report = _ended()
    report["steps"] += [{**report["steps"][-1], "what": "unheard_of"}] * 5000
    assert len(Picture(report).marks()) == 60


@given(st.binary(max_size=15), st.binary(max_size=15), st.binary(max_size=15))
def test_hostile_comms_do_not_change_the_structure(a: bytes, b: bytes, c: bytes) -> None:
    holding = holder(comm=c, released=ENDED, released_by="exit")
    stall = stall_object(Stall(spawn(comm=a, child_comm=b), BEGAN, ENDED, (holding,)), CLOCK)
    root = ET.fromstring(timeline(stall))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "rect", "text", "tspan", "line", "g", "circle",
    }  # fmt: skip


@given(
    st.lists(st.integers(0, 10**13), min_size=7, max_size=7),
    st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**13)), max_size=20),
)
def test_bars_stay_within_the_picture_for_any_times(times: list[int], copies: list[tuple[int, int]]) -> None:
    created, forked, closed, began, released, ended, _ = sorted(times)
    of = spawn(
        created=created,
        forked=forked,
        parent_closed=closed,
        read_began=began,
        own_released=released,
        read_ended=ended,
    )
    releases = tuple(
        release(pid=number + 5000, acquired=max(created, min(pair)), at=max(created, *pair))
        for number, pair in enumerate(copies)
    )
    made, _ = diagnosis.judge(replace(of, held=True, releases=releases), 0, True)
    assert made is not None
    picture = Picture(stall_object(made, CLOCK))
    for kind in ("parent", "child", "holder", "waits", "stall", "unseen"):
        for start, end in picture.bars(kind):
            assert 0 <= start <= end <= 100.05
