# SPDX-License-Identifier: Apache-2.0
"""agent.render.perfetto: trace files conform to the Trace Event Format and show what happened."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given

from agent import diagnosis
from agent.render.perfetto import trace_events
from agent.reports.collection import Collection
from agent.reports.objects import stall_object
from tests.traceformat import check, enclosing
from tests.unit.reports.test_objects import CLOCK
from tests.unit.reportsamples import ended, found, objects, ongoing, plain_spawn, run, summary
from tests.unit.samples import BEGAN, CHILD, CREATED, ENDED, HOLDER, MS, PARENT, SPAWNER, release, spawn

_Event = dict[str, Any]


def _trace(*reports: Any, limit: int = 10_000) -> dict[str, Any]:
    trace: dict[str, Any] = json.loads(json.dumps(trace_events(Collection(reports, limit))))
    check(trace)
    return trace


def _of(trace: dict[str, Any], phase: str, category: str = "") -> list[_Event]:
    return [
        event for event in trace["traceEvents"] if event["ph"] == phase and category in ("", event.get("cat"))
    ]


def _span(event: _Event) -> tuple[int, int]:
    return event["ts"], event["ts"] + event["dur"]


def _microseconds(at: int) -> int:
    return (at - CREATED) // 1000


def test_slices_show_who_did_what_and_when() -> None:
    trace = _trace(ended())
    slices = {event["cat"]: event for event in _of(trace, "X")}
    tracks = {category: (event["pid"], event["tid"]) for category, event in slices.items()}
    assert tracks == {
        "spawn": (PARENT, SPAWNER),
        "read": (PARENT, SPAWNER),
        "stall": (PARENT, SPAWNER),
        "child": (CHILD, CHILD),
        "holder": (HOLDER, HOLDER),
    }
    end = _microseconds(ENDED)
    assert _span(slices["spawn"]) == (0, end)
    assert _span(slices["read"]) == (3000, end)
    assert _span(slices["stall"]) == (_microseconds(BEGAN), end)
    assert _span(slices["child"]) == (1000, _microseconds(BEGAN))
    assert _span(slices["holder"]) == (500, end)
    assert [slices[category]["name"] for category in ("spawn", "read", "holder")] == [
        "starts child",
        "read(5)",
        "holds the write end: forked",
    ]
    stall = slices["stall"]["args"]
    assert (stall["stall_seconds"], stall["id"]) == (0.5, f"{1:016x}")
    assert "Fork workers" in stall["advice"]
    assert slices["holder"]["args"]["fds"] == [6]


def test_every_step_is_an_instant_on_the_track_of_its_process() -> None:
    stall = ended()
    instants = [(event["ts"], event["pid"]) for event in _of(_trace(stall), "i")]
    assert sorted(instants) == sorted((round(step["seconds"] * 1e6), step["pid"]) for step in stall["steps"])


def test_processes_and_threads_have_names() -> None:
    names = {
        (event["name"], event["pid"], event["tid"]): event["args"]["name"]
        for event in _of(_trace(ended()), "M")
    }
    assert names == {
        ("process_name", PARENT, PARENT): "parent",
        ("thread_name", PARENT, SPAWNER): "parent",
        ("process_name", CHILD, CHILD): "child",
        ("thread_name", CHILD, CHILD): "child",
        ("process_name", HOLDER, HOLDER): "worker",
        ("thread_name", HOLDER, HOLDER): "worker",
    }


def test_flows_lead_from_fork_to_holder_and_from_release_to_reader() -> None:
    trace = _trace(ended())
    flows = {
        start["name"]: (
            enclosing(trace, start)["cat"],
            enclosing(trace, finish)["cat"],
            start["ts"],
            finish["ts"],
        )
        for start, finish in zip(
            sorted(_of(trace, "s"), key=lambda event: int(event["id"])),
            sorted(_of(trace, "f"), key=lambda event: int(event["id"])),
        )
    }
    end = _microseconds(ENDED)
    assert flows == {
        "fork": ("spawn", "child", 1000, 1000),
        "copy of the write end": ("spawn", "holder", 500, 500),
        "release ends the read": ("holder", "stall", end - 1, end - 1),
    }


def test_copy_of_a_descendant_comes_from_the_own_child() -> None:
    seen = (release(descendant=True, acquired=CREATED + 2 * MS),)
    made, _ = diagnosis.judge(spawn(releases=seen), MS, True)
    assert made is not None
    trace = _trace(stall_object(made, CLOCK))
    [start] = [event for event in _of(trace, "s") if event["name"] == "copy of the write end"]
    assert (start["pid"], start["ts"]) == (CHILD, 2000)


def test_stall_in_progress_extends_to_now() -> None:
    trace = _trace(ongoing(seconds=0.7))
    until = _microseconds(BEGAN) + 700_000
    ends = {event["cat"]: _span(event)[1] for event in _of(trace, "X") if event["cat"] != "child"}
    assert ends == {"spawn": until, "read": until, "stall": until, "holder": until}
    assert "still holds" in [event["name"] for event in _of(trace, "s")]


def test_stall_is_clipped_to_its_read() -> None:
    """Slices must be nested; the spawn extends to the latest end."""
    trace = _trace({**ended(), "stall_seconds": 9.0})
    [stall], [read], [whole] = (_of(trace, "X", category) for category in ("stall", "read", "spawn"))
    assert _span(stall)[1] == _span(read)[1] == _microseconds(ENDED)
    assert _span(whole)[1] == _microseconds(BEGAN) + 9_000_000


def test_read_with_a_late_wakeup_outlasts_the_stall() -> None:
    seen = (release(by="close", at=BEGAN + 200 * MS),)
    trace = _trace(ended(releases=seen))
    [stall], [read], [whole], [held] = (
        _of(trace, "X", category) for category in ("stall", "read", "spawn", "holder")
    )
    assert _span(stall)[1] == _span(held)[1] == _microseconds(BEGAN + 200 * MS)
    assert _span(read)[1] == _span(whole)[1] == _microseconds(ENDED)
    assert stall["args"]["late_wakeup_seconds"] == 0.3


def test_all_times_count_from_the_first_errpipe() -> None:
    later = {**ended(2), "time": "2026-11-24T10:23:23.500000Z"}
    trace = _trace(later, ended(1))
    assert ended()["time"] == "2026-11-24T10:23:20.000000Z"
    assert sorted(event["ts"] for event in _of(trace, "X", "spawn")) == [0, 3_500_000]
    assert trace["otherData"]["time_zero"] == ended()["time"]


def test_two_pipes_held_at_once_get_two_lanes() -> None:
    """The slices of the holder overlap without being nested."""
    later = {**ended(2), "time": "2026-11-24T10:23:20.300000Z"}
    later["parent"] = {**later["parent"], "tid": SPAWNER + 1}
    trace = _trace(ended(1), later)
    held = _of(trace, "X", "holder")
    assert {event["pid"] for event in held} == {HOLDER}
    first, second = (event["tid"] for event in held)
    assert first == HOLDER != second > 1 << 22
    names = {event["tid"]: event["args"]["name"] for event in _of(trace, "M") if event["pid"] == HOLDER}
    assert names == {HOLDER: "worker", second: "worker (2)"}


def test_lane_is_reused() -> None:
    others = [{**ended(number), "time": f"2026-11-24T10:24:{number:02}.000000Z"} for number in range(2, 40)]
    trace = _trace(ended(1), *others)
    assert {event["tid"] for event in _of(trace, "X", "holder")} == {HOLDER}


def test_unknown_holder() -> None:
    made, _ = diagnosis.judge(spawn(held=True), MS, True)
    assert made is not None
    trace = _trace(stall_object(made, CLOCK))
    [held] = _of(trace, "X", "holder")
    [stall] = _of(trace, "X", "stall")
    assert _span(held) == _span(stall)
    assert held["pid"] >= 1 << 22  # no process has this pid
    assert held["args"]["begin_is_known"] is False


def test_stall_found_in_proc_is_an_instant() -> None:
    trace = _trace(found())
    assert _of(trace, "X") == []
    [instant] = _of(trace, "i")
    assert (instant["name"], instant["ts"]) == ("blocked in read", 0)
    assert instant["args"]["certainty"] == "possible"
    assert instant["args"]["evidence"] == ["the read end is close-on-exec"]


def test_stall_sampled_from_proc_has_a_duration() -> None:
    trace = _trace(found(seconds=1.5, state="ended"))
    [stall] = _of(trace, "X", "stall")
    assert stall["dur"] == 1_500_000
    assert stall["args"]["source"] == "snapshot"


def test_stalled_spawn_is_drawn_once() -> None:
    other = plain_spawn(tid=SPAWNER + 1)
    trace = _trace(plain_spawn(), ended(), other)
    assert sorted(event["tid"] for event in _of(trace, "X", "spawn")) == [SPAWNER, SPAWNER + 1]
    assert len(_of(trace, "X", "stall")) == 1


def test_omitted_stalls_are_counted() -> None:
    began, counted = run(), summary()
    trace = _trace(began, *(ended(number) for number in range(30)), counted, limit=10)
    assert trace["otherData"]["stalls_left_out"] == 20
    assert trace["otherData"]["summary"] == counted
    assert trace["otherData"]["run"] == began
    assert len(_of(trace, "X", "stall")) == 10


def test_report_without_stalls() -> None:
    assert _trace()["traceEvents"] == []


@pytest.mark.parametrize("comm", [b"<script>", b'"},{"ph":"X', b"\xff\n\0", b""])
def test_hostile_comms_stay_strings(comm: bytes) -> None:
    stall = ended(comm=comm)
    names = [event["args"]["name"] for event in _of(_trace(stall), "M") if event["pid"] == PARENT]
    assert names == [stall["parent"]["comm"]] * 2


@given(objects)
def test_every_valid_report_gives_a_valid_trace_file(reports: list[dict[str, Any]]) -> None:
    _trace(*reports)


def test_hundreds_of_stalls() -> None:
    reports = [
        {**ended(number), "time": f"2026-11-24T10:23:{number % 60:02}.{number:06}Z"} for number in range(400)
    ]
    assert len(_of(_trace(*reports), "X", "stall")) == 400


# -- the check of trace files itself --


@pytest.mark.parametrize(
    "harm",
    [
        lambda events: events.pop(0),  # a name
        lambda events: next(each for each in events if each["ph"] == "X").pop("dur"),
        lambda events: next(each for each in events if each["ph"] == "X").update(dur=-1),
        lambda events: next(each for each in events if each.get("cat") == "stall").update(dur=10**9),
        lambda events: events.remove(next(each for each in events if each["ph"] == "f")),
        lambda events: next(each for each in events if each["ph"] == "f").update(ts=0),
        lambda events: next(each for each in events if each["ph"] == "s").update(ts=10**9),
        lambda events: next(each for each in events if each["ph"] == "i").update(s="x"),
        lambda events: events.reverse(),
    ],
)
def test_check_detects_violations(harm: Any) -> None:
    trace = copy.deepcopy(trace_events(Collection([ended()])))
    check(trace)
    harm(trace["traceEvents"])
    with pytest.raises(AssertionError):
        check(trace)
