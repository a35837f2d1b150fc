# SPDX-License-Identifier: Apache-2.0
"""Check a trace file against the Trace Event Format and the further requirements of its viewers.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

__all__ = ["check", "enclosing"]

_REQUIRED = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid"},
    "i": {"name", "ts", "pid", "tid", "s"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
    "M": {"name", "pid", "tid", "args"},
}
_Event = dict[str, Any]


def check(trace: dict[str, Any]) -> None:
    """Raise AssertionError, which names the wrong event."""
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert isinstance(trace["otherData"], dict)
    tracks: dict[tuple[int, int], list[_Event]] = defaultdict(list)
    flows: dict[tuple[str, str, int], list[_Event]] = defaultdict(list)
    named = set()
    for event in trace["traceEvents"]:
        missing = _REQUIRED[event["ph"]] - event.keys()
        assert not missing, (missing, event)
        _types(event)
        track = event["pid"], event["tid"]
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name"), event
            assert isinstance(event["args"]["name"], str), event
            named.add((event["name"], *track))
        elif event["ph"] == "X":
            tracks[track].append(event)
        elif event["ph"] in ("s", "f"):
            flows[event["cat"], event["name"], event["id"]].append(event)
        else:
            assert event["s"] in ("g", "p", "t"), event
    for event in trace["traceEvents"]:
        assert ("thread_name", event["pid"], event["tid"]) in named or event["ph"] == "M", event
        assert ("process_name", event["pid"], event["pid"]) in named, event
    for slices in tracks.values():
        _nested(slices)
    ids = [key[2] for key in flows]
    assert len(ids) == len(set(ids)), "an id is used for two flows"
    for ends in flows.values():
        _pair(ends, tracks)


def enclosing(trace: dict[str, Any], mark: _Event) -> _Event:
    """Return the innermost slice that is open on a mark's track at its time."""
    return min(
        (event for event in trace["traceEvents"] if event["ph"] == "X" and _is_open(event, mark)),
        key=lambda event: int(event["dur"]),
    )


def _types(event: _Event) -> None:
    assert isinstance(event["name"], str), event
    for key in ("pid", "tid", "ts", "dur", "id"):
        assert key not in event or (isinstance(event[key], int) and event[key] >= 0), event
    assert isinstance(event.get("cat", ""), str), event
    assert isinstance(event.get("args", {}), dict), event


def _nested(slices: list[_Event]) -> None:
    """Of two that begin together, a viewer treats the first in the file as the outer one."""
    open_until: list[int] = []
    last = 0
    for event in slices:
        begin, end = event["ts"], event["ts"] + event["dur"]
        assert begin >= last, ("not in time order", event)
        last = begin
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        assert not open_until or end <= open_until[-1], ("overlaps the slice before", event)
        open_until.append(end)


def _pair(ends: list[_Event], tracks: dict[tuple[int, int], list[_Event]]) -> None:
    assert sorted(event["ph"] for event in ends) == ["f", "s"], ends
    [start] = [event for event in ends if event["ph"] == "s"]
    [finish] = [event for event in ends if event["ph"] == "f"]
    assert start["ts"] <= finish["ts"], ends
    assert finish["bp"] == "e", ends
    for mark in (start, finish):
        assert any(_is_open(each, mark) for each in tracks[mark["pid"], mark["tid"]]), (
            "not in a slice",
            mark,
        )


def _is_open(event: _Event, mark: _Event) -> bool:
    same = (event["pid"], event["tid"]) == (mark["pid"], mark["tid"])
    return bool(same and event["ts"] <= mark["ts"] < event["ts"] + event["dur"])
