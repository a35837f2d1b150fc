# SPDX-License-Identifier: Apache-2.0
"""agent.cli.outputs: which report goes where."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from agent.cli.files import OutputFile
from agent.cli.outputs import Drawing, JsonLines, Reports, Sink, Text, text_console
from agent.filter import Filter
from agent.model import Cause, Identity, Outcome
from agent.reports.exposures import Exposures
from agent.snapshot import FOUND
from tests.unit.reportsamples import finding, run, summary, wait
from tests.unit.samples import UNSEEN, holder, spawn, stall, waiting


def _send(reports: Reports) -> None:
    reports.stall(stall(ended=None))
    reports.stall(stall(holder(comm=b"\x1b[31m\n")))
    reports.stall(stall(UNSEEN))
    reports.spawn(spawn(id=1))
    reports.spawn(spawn(id=2, outcome=Outcome.EXEC_FAILED))
    reports.end(
        lost_records=3,
        ongoing=[stall(ended=None)],
        not_followed={"records_lost": 3, "slots_overflowed": 12},
    )


def _objects(**options: Any) -> list[dict[str, Any]]:
    output = io.StringIO()
    _send(Reports([JsonLines(output)], **options))
    return [json.loads(line) for line in output.getvalue().splitlines()]


def _text(**options: bool) -> list[str]:
    output = io.StringIO()
    _send(Reports([Text(text_console(output), steps=False, **options)], every=True))
    return output.getvalue().splitlines()


def test_json_has_one_object_per_line() -> None:
    output = io.StringIO()
    _send(Reports([JsonLines(output)], every=True))
    objects = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [(each["type"], each.get("state")) for each in objects] == [
        ("run", None),
        ("stall", "ongoing"),
        ("stall", "ended"),
        ("stall", "ended"),
        ("spawn", "ended"),
        ("spawn", "ended"),
        ("summary", None),
    ]
    assert objects[2]["holders"][0]["comm"] == r"\x1b[31m\n"
    keys = ("spawns", "stalls", "exec_failures", "lost_records", "ongoing")
    assert {key: objects[-1][key] for key in keys} == {
        "spawns": 2,
        "stalls": 2,
        "exec_failures": 1,
        "lost_records": 3,
        "ongoing": 1,
    }
    lost = {name: number for name, number in objects[-1]["not_followed"].items() if number}
    assert lost == {"records_lost": 3, "slots_overflowed": 12}


def test_only_stalls_are_reported_by_default_but_all_spawns_are_counted() -> None:
    objects = _objects()
    assert [each["type"] for each in objects] == ["run", "stall", "stall", "stall", "summary"]
    assert objects[-1]["spawns"] == 2


def test_filtered_spawns_and_stalls_are_not_counted() -> None:
    objects = _objects(filter=Filter(comms=["other"]), every=True)
    assert [each["type"] for each in objects] == ["run", "summary"]
    assert (objects[1]["spawns"], objects[1]["stalls"]) == (0, 0)


def test_stalls_in_progress_at_the_end_are_reported_once() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output)])
    reports.stall(stall(of=waiting(id=1), ended=None))
    reports.end(0, [stall(of=waiting(id=number), ended=None) for number in (1, 2)], {})
    objects = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [each["id"][-1] for each in objects[1:-1]] == ["1", "2"]
    assert objects[-1]["ongoing"] == 2


def test_exposures_are_counted_by_comm_and_cause() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output)], filter=Filter(comms=["!b"]))
    reports.summary.exposures = Exposures()
    for comm in (b"a", b"a", b"b", b"\xff"):
        reports.spawn(spawn(comm=comm, exposures=((Cause.FORKED, 2), (Cause.LATE_EXEC, 1))))
    reports.end(0, (), {})
    assert json.loads(output.getvalue().splitlines()[-1])["exposures"] == [
        {"comm": "a", "cause": "forked", "count": 4},
        {"comm": "a", "cause": "late_exec", "count": 2},
        {"comm": "\\xff", "cause": "forked", "count": 2},
        {"comm": "\\xff", "cause": "late_exec", "count": 1},
    ]


def test_each_exposure_that_can_last_is_an_object() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output)], filter=Filter(comms=("parent",)))
    reports.spawn(spawn(exposures=((Cause.FORKED, 2), (Cause.LATE_EXEC, 1), (Cause.PASSED, 1))))
    reports.spawn(spawn(comm=b"other", exposures=((Cause.FORKED, 1),)))
    found = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [(each["cause"], each["count"]) for each in found if each["type"] == "exposure"] == [
        ("forked", 2),
        ("passed", 1),
    ]


def test_exposures_of_a_parent_that_has_exited_pass_by_its_identity() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output)], filter=Filter(uids=[7]))
    reports.summary.exposures = Exposures()
    for uid in (7, 8, None):
        identity = None if uid is None else Identity(None, uid, None)
        reports.spawn(spawn(pid=1 << 22, exposures=((Cause.FORKED, 1),), identity=identity))
    reports.end(0, (), {})
    assert [each["count"] for each in json.loads(output.getvalue().splitlines()[-1])["exposures"]] == [1]


def test_exposures_that_are_not_counted_are_null() -> None:
    assert _objects()[-1]["exposures"] is None


def test_text_has_each_kind_of_stall_once_and_a_table() -> None:
    """The end of a stall that was shown while in progress is a line."""
    output = io.StringIO()
    text = Text(text_console(output), steps=False)
    reports = Reports([text])
    reports.stall(stall(ended=None))
    for number in (2, 3, 4):
        reports.stall(stall(of=spawn(id=number)))
    reports.stall(stall())
    reports.end(lost_records=0, ongoing=(), not_followed={})
    lines = output.getvalue().splitlines()
    assert sum(line.startswith("STALL") for line in lines) == 1
    assert sum(line.startswith("ENDED  parent (pid 1000, thread 1007) ") for line in lines) == 1
    [row] = [number for number, line in enumerate(lines) if line.startswith("  parent ")]
    assert lines[row].split()[1:4] == ["4", "2.00", "s"]
    assert lines[row + 1].split() == ["worker,", "forked"]


def test_stalls_that_no_summary_counts_are_in_a_table() -> None:
    output = io.StringIO()
    text = Text(text_console(output), steps=False)
    reports = Reports([text])
    reports.stall(stall())
    text.finish()
    assert "who waited" not in output.getvalue()
    reports.stall(stall(of=spawn(id=2)))
    text.finish()
    assert output.getvalue().count("who waited") == 1


def test_a_run_begins_once_before_its_first_report() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output)])
    assert output.getvalue() == ""
    reports.begin()
    assert json.loads(output.getvalue())["type"] == "run"
    reports.stall(stall())
    reports.begin()
    assert [json.loads(line)["type"] for line in output.getvalue().splitlines()] == ["run", "stall"]


def test_text_says_once_for_each_run_where_it_is_from() -> None:
    """Several reports can be in one file, and the last one can be without its summary."""
    output = io.StringIO()
    text = Text(
        text_console(
            output,
        ),
        steps=False,
    )
    for report in (run(), summary(), run("make"), run("ls")):
        text.write(report)
    text.finish()
    text.finish()
    words = " ".join(output.getvalue().split())
    assert words.count("on web-1 (Linux 6.1.0") == 3
    assert words.index("-- make") < words.index("-- ls")


def test_text_has_one_entry_per_report() -> None:
    lines = _text(each=True)
    assert sum(line.startswith("STALL") for line in lines) == 3
    assert sum("->" in line for line in lines) == 2
    assert any(line.endswith("2 spawns, 2 stalls, 1 failed exec, 3 lost records") for line in lines)
    assert all(line.isprintable() for line in lines)
    assert "" not in lines


@pytest.mark.parametrize("kind", [JsonLines, lambda output: Text(text_console(output), steps=False)])
def test_each_report_is_flushed(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w") as output:
        sinks: list[Sink] = [kind(output)]
        reports = Reports(sinks, every=True)
        reports.stall(stall())
        first = path.stat().st_size
        assert first > 0
        reports.spawn(spawn())
        assert path.stat().st_size > first


def test_drawing_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with contextlib.closing(OutputFile(str(path))) as file:
        drawing = Drawing(file, lambda collection: f"{len(collection.stalls)} stalls")
        _send(Reports([drawing]))
        assert path.read_text() == "old"
        drawing.finish()
    assert path.read_text() == "2 stalls"  # one stall was reported twice: in progress and ended


def test_drawing_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with contextlib.closing(OutputFile(str(path))) as file:
            drawing = Drawing(file, lambda collection: "x" * 5000)
            with pytest.raises(OSError, match=f"File too large: '{path}'"):
                drawing.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_reported_and_other_outputs_continue() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        lines = JsonLines(full)
        other = io.StringIO()
        _send(Reports([lines, JsonLines(other)]))
        assert lines.failure is not None
        assert lines.failure.startswith("/dev/full: No space left on device: ")
        with contextlib.suppress(OSError):
            full.close()
    assert len(other.getvalue().splitlines()) == 5


# -- a stall that /proc shows again and again --


def test_a_stall_found_in_proc_is_reported_once_and_when_it_ends() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output)])
    for state in ("ongoing", "ongoing", "ended"):
        reports.snapshot(finding(state=state, seconds=5.0))
    written = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [one.get("state") for one in written] == [None, "ongoing", "ended"]
    assert reports.summary.stalls == 1


def test_a_stall_that_two_follow_ends_once() -> None:
    """The first look found it; then the tracer, and what follows the look, both see its end."""
    output = io.StringIO()
    reports = Reports([JsonLines(output)], filter=Filter(uids=(os.getuid(),)))
    found = finding(pid=os.getpid(), tid=os.getpid(), comm=b"parent")
    assert found.inode is not None
    traced = stall(of=spawn(id=FOUND | found.inode), ended=None)
    assert reports.snapshot(found)
    assert reports.count() == reports.count([traced]) == 1
    reports.found(
        found._replace(state="ended", pid=1 << 22)
    )  # its process is gone, so it is not filtered again
    reports.stall(dataclasses.replace(traced, ended=traced.began + 1))
    reports.stall(traced)
    assert not reports.snapshot(found)
    assert reports.count([traced]) == 0
    _run, *stalls = (json.loads(line) for line in output.getvalue().splitlines())
    assert [one["state"] for one in stalls] == ["ongoing", "ended"]
    assert reports.summary.stalls == 1


def test_waits_are_counted_apart_from_stalls() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output), Text(text_console(output), steps=False)])
    for id_ in "abc":
        assert reports.wait(wait(id=id_))
    reports.found(wait(id="b", ended=1_795_510_815.0, ending="sleep (pid 3) has exited"))
    reports.end(lost_records=0, ongoing=(), not_followed={})
    lines = output.getvalue().splitlines()
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(one["type"], one.get("state"), one.get("id")) for one in objects[1:5]] == [
        ("wait", "ongoing", "a"),
        ("wait", "ongoing", "b"),
        ("wait", "ongoing", "c"),
        ("wait", "ended", "b"),
    ]
    assert (objects[-1]["waits"], objects[-1]["waits_in_progress"], objects[-1]["stalls"]) == (1, 2, 0)
    [line] = [line for line in lines if line.startswith("ENDED")]
    assert "sh (pid 4194304)" in line and "sleep (pid 3) has exited" in line and "15.00 s" in line
    assert "  waits that are not stalls: 1 ended, 2 in progress" in lines


def test_filtered_waits_are_neither_reported_nor_counted() -> None:
    output = io.StringIO()
    reports = Reports([JsonLines(output)], filter=Filter(comms=("other",)))
    assert not reports.wait(wait())
    reports.end(lost_records=0, ongoing=(), not_followed={})
    _run, counted = (json.loads(line) for line in output.getvalue().splitlines())
    assert counted["waits_in_progress"] == 0


# -- text while the terminal shows the live table --


def test_held_text_has_the_last_report_of_the_first_stall_of_each_kind() -> None:
    output = io.StringIO()
    text = Text(text_console(output), steps=False)
    reports = Reports([text])
    text.hold()
    reports.stall(stall(ended=None))
    reports.stall(stall(UNSEEN, of=spawn(id=2)))
    reports.stall(stall(of=spawn(id=3)))
    reports.stall(stall())
    assert output.getvalue() == ""
    text.release({})
    lines = output.getvalue().splitlines()
    assert sum(line.startswith("STALL  ") for line in lines) == 2
    assert not any("IN PROGRESS" in line for line in lines)
    reports.end(lost_records=0, ongoing=[], not_followed={})
    lines = output.getvalue().splitlines()
    assert any("3 stalls" in line for line in lines)
    assert sum(line.startswith("STALL  ") for line in lines) == 2


def test_the_end_of_a_released_stall_is_a_line() -> None:
    output = io.StringIO()
    text = Text(text_console(output), steps=False)
    reports = Reports([text])
    text.hold()
    ongoing = stall(ended=None)
    reports.stall(ongoing)
    [key] = reports.lasting([ongoing])
    text.release({key: 93.0})
    assert output.getvalue().startswith("STALL IN PROGRESS")
    assert "has been blocked for 93.00 s" in " ".join(output.getvalue().split())
    reports.stall(stall())
    assert output.getvalue().count("ENDED") == 1
    assert output.getvalue().count("STALL") == 1


def test_held_waits_are_bounded_and_the_others_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.cli.outputs._MAX_HELD", 2)
    output = io.StringIO()
    text = Text(text_console(output), steps=False)
    reports = Reports([text])
    text.hold()
    for id_ in "abcde":
        reports.wait(wait(id=id_))
    text.release({})
    assert output.getvalue().count("WAIT ") == 2
    assert "and 3 more reports of waits" in output.getvalue()
