# SPDX-License-Identifier: Apache-2.0
"""agent.reports.replay: reading reports, and rejecting files that are not reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.model import Cause
from agent.reports import replay
from agent.reports.objects import stall_object
from agent.reports.replay import ReplayError, read_report
from tests.unit.reports.test_objects import CLOCK
from tests.unit.reportsamples import ended, found, objects, ongoing, plain_spawn, run, summary
from tests.unit.samples import UNSEEN, stall

_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class _Report:
    """A report file, and the warnings about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []

    def read(self, content: bytes) -> list[Any]:
        self.path.write_bytes(content)
        return list(read_report(self.path, self.warnings.append))

    def problem(self, content: bytes) -> str:
        """The error message for an invalid file, without its name."""
        with pytest.raises(ReplayError) as raised:
            self.read(content)
        message = str(raised.value)
        assert message.startswith(f"{self.path}:")
        assert "\n" not in message
        return message[len(str(self.path)) :]


@pytest.fixture
def report(tmp_path: Path) -> _Report:
    return _Report(tmp_path / "report.jsonl")


_LATER_KEYS = {
    "run": set(),
    "stall": {"advice", "advice_source", "release", "late_wakeup_seconds"},
    "spawn": set(),
    "summary": {
        "time",
        "not_followed",
        "exposures",
        "waits",
        "waits_in_progress",
        "spawn_p99_seconds",
        "stall_total_seconds",
    },
}
"""Keys that earlier versions, or snapshot.py on its own, do not write."""


def _lines(*written: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in written)


def test_written_objects_are_read_unchanged(report: _Report) -> None:
    unseen = stall_object(stall(UNSEEN), CLOCK)
    written = [ended(), ongoing(), found(), found(child=7, write_fd=4), unseen, plain_spawn(), summary()]
    assert report.read(_lines(*written)) == written
    assert report.warnings == []


@_FOLDER
@given(written=objects.filter(bool))
def test_valid_objects_are_unchanged_but_printable(written: list[dict[str, Any]], tmp_path: Path) -> None:
    def is_same(read: Any, written: Any) -> bool:
        if isinstance(written, dict):
            return read.keys() == written.keys() and all(is_same(read[key], written[key]) for key in written)
        if isinstance(written, list):
            return len(read) == len(written) and all(map(is_same, read, written))
        if isinstance(written, str) and not written.isprintable():
            return bool(read.isprintable())
        return bool(read == written)

    assert is_same(_Report(tmp_path / "any.jsonl").read(_lines(*written)), written)


def test_unprintable_text_is_escaped(report: _Report) -> None:
    [read] = report.read(_lines({**ended(), "advice": "a\x1b[2J\nb\u202e"}))
    assert read["advice"] == r"a\x1b[2J\nb\u202e"


def test_the_file_is_read_lazily(report: _Report) -> None:
    report.path.write_bytes(_lines(ended()) + b"garbage\n")
    reader = read_report(report.path, report.warnings.append)
    assert next(reader) == ended()
    with pytest.raises(ReplayError):
        next(reader)


def test_keys_of_later_versions_are_kept(report: _Report) -> None:
    news = {**ended(), "weather": {"parent": ["a.py:1"]}}
    assert report.read(_lines(news)) == [news]


@pytest.mark.parametrize("length", [1, 100, 500])
def test_a_truncated_last_line_is_skipped(length: int, report: _Report) -> None:
    assert report.read(_lines(ended()) + _lines(ended())[:length]) == [ended()]
    [warning] = report.warnings
    assert warning.startswith(f"{report.path}:2: ")
    assert f" {length} bytes" in warning


def test_a_last_line_without_its_newline_is_whole(report: _Report) -> None:
    assert report.read(_lines(ended(), summary())[:-1])[1]["type"] == "summary"
    assert report.warnings == []


def test_empty_lines_are_ignored(report: _Report) -> None:
    assert report.read(b"\n" + _lines(ended()) + b"\n \r\n") == [ended()]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ": file is empty"),
        (b"\n\n", ": file is empty"),
        (b"STALL  web-app (pid 1)", ":1: not JSON: Expecting value at column 1: expected one object"),
        (b"\xff\xfe\n", ":1: not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b"\0" * 100 + b"\n", ":1: not JSON"),
        (b"[1, 2]\n", ":1: [1, 2]: expected an object"),
        (b"17\n", ":1: 17: expected an object"),
        (
            b'{"kind": "x"}\n',
            ":1: {'kind': 'x'}: expected an object with type run, stall, spawn, exposure, summary, wait",
        ),
        (
            b'{"type": ["x"]}\n',
            ":1: {'type': ['x']}: expected an object with type run, stall, spawn, exposure, summary, wait",
        ),
        (b'{"type": "stall"}\n', ":1: id: missing"),
        (b'{"type": "summary"}\n', ":1: seconds: missing"),
        (b"[" * 100_000 + b"\n", ":1: not JSON: values are nested too deeply"),
    ],
)
def test_files_that_are_not_reports(content: bytes, problem: str, report: _Report) -> None:
    assert report.problem(content).startswith(problem)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("time", "yesterday", "time: 'yesterday': expected a time such as"),
        ("time", "2026-13-24T09:00:00.000000Z", "time: '2026-13-24T09:00:00.000000Z': expected a time"),
        ("time", None, "time: None: expected a string"),
        ("state", "over", "state: 'over': expected 'ongoing' or 'ended'"),
        ("parent", 5, "parent: 5: expected an object"),
        ("parent.pid", "5", "parent.pid: '5': expected an integer from 0 to 4194304"),
        ("parent.pid", True, "parent.pid: True: expected an integer"),
        ("parent.pid", -1, "parent.pid: -1: expected an integer from 0 to"),
        ("parent.pid", 1 << 23, "parent.pid: 8388608: expected an integer from 0 to 4194304"),
        (
            "parent.comm",
            "x" * 300,
            f"parent.comm: '{'x' * 56}...: expected a string of at most 256 characters",
        ),
        ("stall_seconds", float("inf"), "stall_seconds: inf: expected"),
        ("stall_seconds", float("nan"), "stall_seconds: nan: expected a number"),
        ("stall_seconds", -1.0, "stall_seconds: -1.0: expected a number from 0 to"),
        ("stall_seconds", 1e300, "stall_seconds: 1e+300: expected a number from 0 to"),
        ("holders", [], "holders: []: expected a list of 1 to 100000 items"),
        ("holders.0.cause", "x", f"holders.0.cause: 'x': expected '{Cause.FORKED.value}', 'leaked'"),
        ("holders.0.comm", None, "holders.0: "),
        ("steps.0.seconds", None, "steps.0.seconds: None: expected a number"),
        ("steps.0.what", "{x}", "steps.0.what: '{x}': expected a string that matches [a-z0-9_]{1,64}"),
        ("errpipe.read_fd", None, "errpipe.read_fd: None: expected an integer"),
        ("evidence", [3], "evidence.0: 3: expected a string"),
        ("late_wakeup_seconds", -1.0, "late_wakeup_seconds: -1.0: expected a number from 0"),
        ("holders.0.last_seen_seconds", "x", "holders.0.last_seen_seconds: 'x': expected a number"),
    ],
)
def test_invalid_values(path: str, value: object, problem: str, report: _Report) -> None:
    wrong = json.loads(json.dumps(ended()))
    *way, last = path.split(".")
    place: Any = wrong
    for key in way:
        place = place[int(key)] if key.isdecimal() else place[key]
    place[last] = value
    assert report.problem(_lines(summary(), wrong)).startswith(f":2: {problem}")


def test_a_text_that_no_encoding_can_write(report: _Report) -> None:
    assert report.problem(_lines({**ended(), "id": "\ud800"})).startswith(":1: not JSON: 'utf-8' codec can't")


@pytest.mark.parametrize("depth", [101, 900])
@pytest.mark.parametrize("key", ["advice", "news"])
def test_values_that_are_nested_too_deeply(depth: int, key: str, report: _Report) -> None:
    """Nothing that reads a report later can run into Python's recursion limit."""
    line = json.dumps({**ended(), key: "?"}).replace('"?"', "[" * depth + "]" * depth) + "\n"
    assert report.problem(line.encode()).startswith(":1: ")


@pytest.mark.parametrize("kind", _LATER_KEYS)
def test_every_key_is_required(kind: str, report: _Report) -> None:
    whole = {"run": run(), "stall": ended(), "spawn": plain_spawn(), "summary": summary()}[kind]
    for key in whole.keys() - {"type"} - _LATER_KEYS[kind]:
        without = {name: value for name, value in whole.items() if name != key}
        assert report.problem(_lines(without)).startswith(f":1: {key}: missing: expected ")


def test_a_report_of_an_earlier_version(report: _Report) -> None:
    stalled, counted = ended(), summary()
    del stalled["late_wakeup_seconds"], counted["not_followed"], counted["exposures"]
    del counted["waits"], counted["waits_in_progress"], counted["time"]
    del stalled["holders"][0]["last_seen_seconds"]
    stalled["holders"][0]["confirmation"] = "mismatch"
    assert report.read(_lines(stalled, counted)) == [stalled, counted]


def test_a_line_that_is_too_long(report: _Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_MAX_LINE_BYTES", 1000)
    problem = report.problem(b"{" * 2000)
    assert problem.startswith(":1: ") and "1,000 bytes" in problem


@_FOLDER
@given(content=st.binary(max_size=200))
def test_garbage_is_a_replay_error(content: bytes, tmp_path: Path) -> None:
    _Report(tmp_path / "garbage").problem(content)


@pytest.mark.parametrize(
    ("name", "problem"), [("nowhere", "No such file or directory"), (".", "Is a directory")]
)
def test_files_that_cannot_be_read(name: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=problem):
        list(read_report(tmp_path / name, lambda _warning: None))
