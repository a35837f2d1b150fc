# SPDX-License-Identifier: Apache-2.0
"""agent.reports.objects: the JSON objects, which are a contract."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import __version__
from agent.advice import advise
from agent.clock import Clock
from agent.diagnosis import spawn_steps
from agent.escape import printable
from agent.host.pyspy import Taken
from agent.model import Cause, Confirmation, Container, Frame, Identity, Outcome, Stack, Stall
from agent.reports.losses import LOSSES
from agent.reports.objects import (
    Summary,
    command_object,
    run_object,
    snapshot_object,
    spawn_object,
    stall_object,
)
from tests.unit.samples import (
    BEGAN,
    CHILD,
    CREATED,
    ENDED,
    HOLDER,
    MS,
    PARENT,
    SECOND,
    SPAWNER,
    UNSEEN,
    holder,
    spawn,
    stall,
    waiting,
    with_stacks,
)


class FixedClock(Clock):
    """Monotonic zero is 2026-11-24T10:23:15Z."""

    def _measured(self) -> int:
        return 1_795_515_795 * SECOND


CLOCK = FixedClock()

# -- printable --


@pytest.mark.parametrize(
    ("comm", "text"),
    [
        (b"python3", "python3"),
        (b"", ""),
        (b"two words", "two words"),
        (b"\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        (b"\x9b31m", r"\x9b31m"),
        ("\x9b31m".encode(), r"\x9b31m"),  # C1 control, well-formed
        (b"\xff\xfe", r"\xff\xfe"),
        (b"cut \xe2\x82", r"cut \xe2\x82"),
        (b'"quoted"', '"quoted"'),
        (b"line\nbreak", r"line\nbreak"),
        (b"\r\t\0\x7f", r"\r\t\x00\x7f"),
        ("grün 日本".encode(), "grün 日本"),
        ("\u202egpj".encode(), r"\u202egpj"),  # right-to-left override
        ("a\u2028b".encode(), r"a\u2028b"),
        ("\U0001f600".encode(), "\U0001f600"),
    ],
)
def test_printable(comm: bytes, text: str) -> None:
    assert printable(comm) == text


@given(st.binary(max_size=16))
def test_whatever_a_process_calls_itself_is_printable(comm: bytes) -> None:
    text = printable(comm)
    assert text.isprintable()
    text.encode("utf-8")  # no lone surrogates
    assert len(text) <= 10 * 16
    assert json.loads(json.dumps(text)) == text


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=15))
def test_what_can_be_shown_is_shown_as_it_is(text: str) -> None:
    assert printable(text.encode()) == text


# -- clock --


def test_rfc3339() -> None:
    assert CLOCK.rfc3339(0) == "2026-11-24T10:23:15.000000Z"
    assert CLOCK.rfc3339(61 * SECOND + 250 * MS) == "2026-11-24T10:24:16.250000Z"
    assert CLOCK.timestamp(SECOND // 2) == 1_795_515_795.5


def test_the_clock_is_the_walls() -> None:
    assert abs(Clock().timestamp(time.monotonic_ns()) - time.time()) < 1


@pytest.mark.parametrize("step", [-86_400, 3_600])
def test_a_step_of_the_wall_clock(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Moments follow the clock, as those who read them do; durations are what they were."""
    clock, real = Clock(), time.time_ns
    written = stall(ended=None)
    before, created = stall_object(written, clock), clock.timestamp(written.spawn.created)
    monkeypatch.setattr(time, "time_ns", lambda: real() + step * SECOND)
    after = stall_object(written, clock)
    assert clock.timestamp(written.spawn.created) == pytest.approx(created + step, abs=1)
    assert after["time"] != before["time"]
    assert after["stall_seconds"] == pytest.approx(before["stall_seconds"], abs=60)
    for name in ("spawn_seconds", "exec_seconds", "began_seconds", "steps", "holders"):
        assert after[name] == before[name]


def test_a_moment_keeps_its_time_to_the_microsecond() -> None:
    clock = Clock()
    moment = time.monotonic_ns()
    assert len({clock.rfc3339(moment) for _ in range(1000)}) == 1


# -- objects --

COMMON = {
    "time": "2026-11-24T10:23:20.000000Z",
    "parent": {"pid": PARENT, "tid": SPAWNER, "comm": "parent"},
    "child": {"pid": CHILD, "comm": "child"},
    "errpipe": {"read_fd": 5, "write_fd": 6},
    "exec_seconds": 0.004,
}


def test_stall_object() -> None:
    identity = Identity("/usr/bin/worker\x1b", 33, Container("ab" * 32, "podman", None))
    first = holder(
        released=ENDED,
        released_by="exit",
        confirmation=Confirmation.CONFIRMED,
        seen=CREATED + 250 * MS,
        identity=identity,
    )
    stalled = Stall(spawn(), BEGAN, ENDED, (first, UNSEEN), thread=b"Thread-1 (\x1b")
    written = stall_object(stalled, CLOCK)
    assert written == {
        **COMMON,
        "type": "stall",
        "id": "000000000000004d",
        "parent": {
            "pid": PARENT,
            "tid": SPAWNER,
            "comm": "parent",
            "exe": None,
            "uid": None,
            "container": None,
            "thread": "Thread-1 (\\x1b",
        },
        "state": "ended",
        "advice": advise(Cause.FORKED).text,
        "advice_source": advise(Cause.FORKED).source,
        "release": None,
        "began_seconds": 0.005,
        "spawn_seconds": 0.505,
        "stall_seconds": 0.5,
        "late_wakeup_seconds": 0.0,
        "holders": [
            {
                "pid": HOLDER,
                "comm": "worker",
                "exe": "/usr/bin/worker\\x1b",
                "uid": 33,
                "container": {"id": "ab" * 32, "runtime": "podman", "pod_uid": None, "user": None},
                "fds": [6],
                "cause": "forked",
                "acquired_seconds": 0.0005,
                "forked_by": {"pid": PARENT, "tid": SPAWNER + 1},
                "released_seconds": 0.505,
                "released_by": "exit",
                "confirmed": True,
                "confirmation": "confirmed",
                "last_seen_seconds": 0.25,
                "exiting_seconds": None,
                "dumping_core": False,
            },
            {
                "pid": None,
                "comm": None,
                "exe": None,
                "uid": None,
                "container": None,
                "fds": [],
                "cause": "unknown",
                "acquired_seconds": None,
                "forked_by": None,
                "released_seconds": None,
                "released_by": None,
                "confirmed": False,
                "confirmation": None,
                "last_seen_seconds": None,
                "exiting_seconds": None,
                "dumping_core": False,
            },
        ],
        "steps": [
            {"seconds": seconds, "pid": pid, "tid": SPAWNER if pid == PARENT else None, "what": what}
            for seconds, pid, what in (
                (0.0, PARENT, "errpipe_created"),
                (0.0005, HOLDER, "holder_forked"),
                (0.001, PARENT, "child_forked"),
                (0.002, PARENT, "parent_closed_write_end"),
                (0.003, PARENT, "read_began"),
                (0.005, CHILD, "child_execed"),
                (0.505, HOLDER, "holder_exited"),
                (0.505, PARENT, "read_ended"),
            )
        ],
    }


def test_a_stall_in_progress() -> None:
    now = time.monotonic_ns()
    began = now - 2 * SECOND
    of = waiting(created=began - 5 * MS)
    written = stall_object(stall(began=began, ended=None, of=of), CLOCK)
    assert written["type"] == "stall"
    assert written["state"] == "ongoing"
    assert written["spawn_seconds"] is None
    assert 2 <= (written["stall_seconds"] or 0) < 12
    assert written["holders"][0]["released_seconds"] is None
    assert set(written) == set(stall_object(stall(), CLOCK))
    assert written["id"] == stall_object(stall(), CLOCK)["id"]


def test_a_stall_in_progress_whose_holders_exit() -> None:
    leaves = holder(pid=98, released=None, exiting=ENDED)
    stays = holder(pid=99, released=None)
    for holders, sentences in (
        ((leaves,), ["Pid 98 (worker) is exiting"]),
        ((leaves, stays), ["Ending pid 99 (worker) releases it", "Pid 98 (worker) is exiting"]),
        ((leaves, UNSEEN), None),
    ):
        written = stall_object(stall(*holders, ended=None), CLOCK)
        assert written["holders"][0]["exiting_seconds"] == pytest.approx((ENDED - CREATED) / 1e9)
        assert (written["release"] is None) is (sentences is None)
        assert all(sentence in (written["release"] or "") for sentence in sentences or [])


def test_a_stall_in_progress_whose_holder_has_crashed() -> None:
    written = stall_object(stall(holder(pid=98, dumping=True), holder(pid=99), ended=None), CLOCK)
    assert [each["dumping_core"] for each in written["holders"]] == [True, False]
    assert "As for the first: it has crashed" in (written["release"] or "")


def test_a_reader_that_was_woken_late() -> None:
    """The stall ends with the release, and the spawn with the read."""
    written = stall_object(stall(ended=BEGAN + 200 * MS, late=300 * MS), CLOCK)
    assert written["stall_seconds"] == 0.2
    assert written["late_wakeup_seconds"] == 0.3
    assert written["spawn_seconds"] == 0.505


def test_only_a_holder_that_a_look_found_is_confirmed() -> None:
    written = stall_object(stall(holder(confirmation=None)), CLOCK)
    assert written["holders"][0]["confirmed"] is False
    assert written["holders"][0]["confirmation"] is None


def test_stacks_are_there_only_when_they_were_asked_for() -> None:
    assert "stacks" not in stall_object(stall(), CLOCK)
    asked = stall_object(dataclasses.replace(stall(), missing=()), CLOCK)["stacks"]
    assert asked == {"reader": None, "fork": None, "holder": None, "missing": []}


def test_stacks() -> None:
    assert stall_object(with_stacks(stall()), CLOCK)["stacks"] == {
        "reader": {
            "by": "py-spy",
            "frames": [
                {"function": "_execute_child", "file": "/srv/_execute_child.py", "line": 1},
                {"function": "main", "file": "/srv/main.py", "line": 2},
            ],
        },
        "fork": {
            "by": "kernel",
            "frames": [
                {"function": "_Fork", "file": "/lib/libc.so.6", "line": None},
                {"function": "0x2a", "file": None, "line": None},
            ],
        },
        "holder": {
            "by": "py-spy",
            "frames": [{"function": "sleep_on", "file": "/srv/sleep_on.py", "line": 1}],
        },
        "missing": ["holder 9: something"],
    }


@given(st.text(), st.text())
def test_hostile_names_in_stacks(function: str, line: str) -> None:
    hostile = Stack("py-spy", (Frame(function, function, 1),), ENDED)
    found = stall_object(dataclasses.replace(stall(), reader_stack=hostile, missing=(line,)), CLOCK)
    reader = found["stacks"]["reader"]
    assert reader is not None
    [frame] = reader["frames"]
    for text in (frame["function"], frame["file"] or "", *found["stacks"]["missing"]):
        assert text.isprintable()
    json.dumps(found).encode()


def test_a_lone_surrogate_in_a_stack() -> None:
    hostile = Stack("py-spy", (Frame("\ud800", None, 1),), ENDED)
    found = stall_object(dataclasses.replace(stall(), reader_stack=hostile, missing=()), CLOCK)
    reader = found["stacks"]["reader"]
    assert reader is not None
    assert reader["frames"][0]["function"] == r"\ud800"


def test_stacks_of_a_stall_that_was_found_in_proc() -> None:
    holders = [{"pid": None, "cause": "unknown"}, {"pid": HOLDER, "cause": "forked"}]
    found = {"parent": {"pid": PARENT}, "holders": holders}
    assert "stacks" not in snapshot_object(found, {})
    reader = Stack("py-spy", (Frame("main\n", "/a.py", 3),), ENDED)
    stacks = snapshot_object(found, {}, Taken(reader, {HOLDER: reader}, ("why\n",)))["stacks"]
    assert stacks == {
        "reader": {"by": "py-spy", "frames": [{"function": r"main\n", "file": "/a.py", "line": 3}]},
        "fork": None,
        "holder": None,
        "missing": ["fork: it happened before it could be traced", r"why\n"],
    }
    found["holders"] = holders[1:]
    written = snapshot_object(found, {}, Taken(None, {HOLDER: reader}))
    assert written["stacks"]["holder"] == stacks["reader"]


def test_identities_of_a_stall_that_was_found_in_proc() -> None:
    python = Identity("/usr/bin/python3.11", 33, None)
    found = {"parent": {"pid": PARENT}, "holders": [{"pid": HOLDER, "cause": "forked"}]}
    written = snapshot_object(found, {PARENT: python, HOLDER: None})
    assert (written["parent"]["exe"], written["parent"]["uid"]) == ("/usr/bin/python3.11", 33)
    assert (written["holders"][0]["exe"], written["holders"][0]["uid"]) == (None, None)
    assert written["advice"] == advise(Cause.FORKED, python.exe).text


def test_spawn_object() -> None:
    written: Any = spawn_object(spawn(), spawn_steps(spawn()), CLOCK)
    steps = written.pop("steps")
    assert written == {
        **COMMON,
        "type": "spawn",
        "state": "ended",
        "outcome": "ok",
        "spawn_seconds": 0.505,
    }
    assert steps[0] == {"seconds": 0.0, "pid": PARENT, "tid": SPAWNER, "what": "errpipe_created"}
    assert steps[-1] == {"seconds": 0.505, "pid": PARENT, "tid": SPAWNER, "what": "read_ended"}


def test_a_spawn_that_did_not_get_far() -> None:
    few = spawn(forked=None, own_released=None, read_began=None, read_ended=None, outcome=Outcome.ABANDONED)
    written = spawn_object(few, [], CLOCK)
    assert written["outcome"] == "abandoned"
    assert written["spawn_seconds"] is None
    assert written["exec_seconds"] is None
    assert written["steps"] == []


@given(st.binary(max_size=15), st.binary(max_size=15), st.binary(max_size=15))
def test_hostile_comms_in_an_object(parent: bytes, child: bytes, other: bytes) -> None:
    written = stall_object(stall(holder(comm=other), of=spawn(comm=parent, child_comm=child)), CLOCK)
    line = json.dumps(written)
    assert line.isascii() and line.isprintable()
    assert json.loads(line) == written


# -- run --


def _seconds_ago(rfc3339: str) -> float:
    return time.time() - datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).timestamp()


def test_a_run_names_host_version_and_what_is_traced() -> None:
    written: Any = run_object(["--min-ms", "5"], [4711])
    assert abs(_seconds_ago(written.pop("time"))) < 60
    host = os.uname()
    assert written == {
        "type": "run",
        "host": host.nodename,
        "kernel": host.release,
        "machine": host.machine,
        "version": __version__,
        "pids": [4711],
        "command": None,
        "options": ["--min-ms", "5"],
    }


def test_arguments_of_a_command_are_counted_and_recorded_only_on_request() -> None:
    words = ["/bin/login", "--password=4711"]
    assert command_object(words, False) == {"program": "/bin/login", "argument_count": 1, "arguments": None}
    assert command_object(words, True)["arguments"] == ["--password=4711"]


def test_hostile_arguments_are_escaped_and_bounded() -> None:
    words = ["x", os.fsdecode(b"\xff\x1b"), "y" * 100_000, *["z"] * 5000]
    written = command_object(words, True)
    assert written["argument_count"] == 5002
    assert written["arguments"] is not None
    assert written["arguments"][0] == r"\xff\x1b"
    assert len(written["arguments"]) == 1000
    assert len(written["arguments"][1]) == 4096


# -- summary --


def summary(*durations: int) -> Summary:
    made = Summary()
    for each in durations:
        made.add_spawn(spawn(read_ended=CREATED + each))
    return made


def test_an_empty_summary() -> None:
    written: Any = Summary().object(0)
    assert written.pop("seconds") >= 0
    assert abs(_seconds_ago(written.pop("time"))) < 60
    assert written == {
        "type": "summary",
        "spawns": 0,
        "stalls": 0,
        "ongoing": 0,
        "waits": 0,
        "waits_in_progress": 0,
        "exec_failures": 0,
        "lost_records": 0,
        "not_followed": {name: 0 for name, _, _ in LOSSES},
        "spawn_p99_seconds": None,
        "stall_total_seconds": 0.0,
        "spawn_seconds": {"p50": None, "p95": None, "p99": None, "max": None},
        "stalled_seconds": 0.0,
        "holders": [],
        "exposures": None,
    }


def test_what_is_counted() -> None:
    made = Summary()
    made.add_spawn(spawn())
    made.add_spawn(spawn(outcome=Outcome.EXEC_FAILED))
    made.add_spawn(spawn(outcome=Outcome.ABANDONED, read_ended=CREATED + 90 * SECOND))
    made.add_spawn(spawn(outcome=Outcome.ABANDONED, read_ended=None))
    written = made.object(17)
    assert (written["spawns"], written["exec_failures"], written["lost_records"]) == (4, 1, 17)
    assert written["spawn_seconds"]["max"] == 0.505  # what was abandoned has no duration


def test_what_was_not_followed_is_in_the_summary() -> None:
    written = Summary().object(0, not_followed={"slots_overflowed": 12, "walks_cut": 1})["not_followed"]
    assert {name: number for name, number in written.items() if number} == {
        "slots_overflowed": 12,
        "walks_cut": 1,
    }
    assert list(written) == [name for name, _, _ in LOSSES]


def test_holders_of_a_summary_the_worst_first() -> None:
    made = Summary()
    made.add_stall(stall(holder(comm=b"mild"), ended=BEGAN + 100 * MS))
    made.add_stall(stall(holder(comm=b"bad", pid=1), ended=BEGAN + 150 * MS))
    made.add_stall(stall(holder(comm=b"bad", pid=2), holder(comm=b"mild"), ended=BEGAN + 250 * MS))
    made.add_stall(stall(holder(comm=b"bad", cause=Cause.LEAKED), ended=BEGAN + 1 * MS))
    made.add_stall(stall(UNSEEN, ended=BEGAN + 200 * MS))
    made.add_stall(stall(ended=None))  # its end will be counted
    written = made.object(0)
    assert written["stalls"] == 5
    assert written["stalled_seconds"] == written["stall_total_seconds"] == pytest.approx(0.701)
    assert made.object(0, ongoing_ns=SECOND)["stall_total_seconds"] == pytest.approx(1.701)
    assert [tuple(each.values()) for each in written["holders"]] == [
        ("bad", "forked", 2, 0.4),
        (None, "unknown", 1, 0.2),
        ("mild", "forked", 1, 0.1),
        ("bad", "leaked", 1, 0.001),
    ]
    assert list(written["holders"][0]) == ["comm", "cause", "stalls", "seconds"]


def test_quantiles() -> None:
    written = summary(*(each * MS for each in range(1000, 0, -1))).object(0)["spawn_seconds"]
    assert written["max"] == 1.0
    for found, value in ((written["p50"], 0.5), (written["p95"], 0.95), (written["p99"], 0.99)):
        assert found == pytest.approx(value, abs=0.0011)


def test_quantiles_of_one_spawn() -> None:
    assert set(summary(7 * MS).object(0)["spawn_seconds"].values()) == {0.007}


@given(st.lists(st.integers(0, 3600 * SECOND), min_size=1, max_size=300))
def test_what_holds_for_all_quantiles(durations: list[int]) -> None:
    written: dict[str, Any] = dict(summary(*durations).object(0)["spawn_seconds"])
    seconds = [each / 1e9 for each in durations]
    assert list(written.values()) == sorted(written.values())
    assert written["max"] == max(seconds)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        assert sum(each <= written[name] for each in seconds) >= share * len(seconds)
        rounded_down = written[name] / 1.001
        assert sum(each >= rounded_down for each in seconds) >= (1 - share) * len(seconds) - 1e-9


@given(
    st.lists(st.integers(1, 3600 * SECOND), min_size=1, max_size=300),
    st.lists(st.integers(1, 3600 * SECOND), max_size=10),
)
def test_p99_holds_whatever_the_lost_spawns_took(seen: list[int], lost: list[int]) -> None:
    bound = summary(*seen).object(len(lost))["spawn_p99_seconds"]
    if bound is not None:
        everything = [*seen, *lost]
        assert sum(each / 1e9 <= bound for each in everything) >= 0.99 * len(everything)
