# SPDX-License-Identifier: Apache-2.0
"""JSON objects of reports: real ones, and strategies for any that agent.reports.replay accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from agent import diagnosis
from agent.diagnosis import spawn_steps
from agent.model import Cause, Confirmation, Outcome
from agent.reports.losses import LOSSES
from agent.reports.objects import (
    Summary,
    command_object,
    exposure_objects,
    run_object,
    snapshot_object,
    spawn_object,
    stall_object,
)
from agent.snapshot import Finding, Wait
from agent.snapshot import Holder as SnapshotHolder
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import BEGAN, MS, holder, release, spawn, waiting

__all__ = [
    "ended",
    "found",
    "objects",
    "ongoing",
    "places",
    "plain_spawn",
    "run",
    "stalls",
    "summary",
    "wait",
]

Object = Any  # tests modify them freely


def ended(number: int = 1, **changes: Any) -> Object:
    """A stall that has ended, as the diagnosis and agent.reports.objects make it."""
    made, _ = diagnosis.judge(spawn(**{"id": number, "releases": (release(),), **changes}), MS, True)
    assert made is not None
    return stall_object(made, CLOCK)


def ongoing(number: int = 1, seconds: float = 0.7) -> Object:
    """The same in progress."""
    made = diagnosis.ongoing_stall(waiting(id=number), [holder()], BEGAN + 700 * MS, MS, True)
    assert made is not None
    return {**stall_object(made, CLOCK), "stall_seconds": seconds}


def finding(**changes: Any) -> Finding:
    """A stall as agent.snapshot finds it in /proc."""
    plain = Finding(
        time=1_795_510_800.0,
        pid=1 << 22,
        tid=1 << 22,
        comm=b"hung",
        child=None,
        child_comm=b"",
        read_fd=3,
        write_fd=None,
        holders=(SnapshotHolder((1 << 22) - 1, b"worker", (4, 9), "leaked"),),
        certain=False,
        evidence=("the read end is close-on-exec",),
        pipe="pipe:[1]",
    )
    return plain._replace(**changes)


def found(**changes: Any) -> Object:
    """The object of such a stall."""
    return snapshot_object(finding(**changes).to_object(), {})


def wait(**changes: Any) -> Wait:
    """A wait as agent.snapshot finds it in /proc."""
    plain = Wait(
        kind="child",
        time=1_795_510_800.0,
        pid=1 << 22,
        tid=1 << 22,
        comm=b"sh",
        child=(1 << 22) - 1,
        child_comm=b"sleep",
        headline="sh waits for its child.",
        normal=True,
        id="0123456789abcdef",
    )
    return plain._replace(**changes)


def plain_spawn(**changes: Any) -> Object:
    """A spawn without a stall."""
    made = spawn(**changes)
    return spawn_object(made, spawn_steps(made), CLOCK)


def exposed() -> Object:
    """A spawn beside which two processes had a copy."""
    [made] = exposure_objects(spawn(exposures=((Cause.FORKED, 2), (Cause.LATE_EXEC, 1))), CLOCK)
    return {**made}


def run(*words: str, options: Sequence[str] = ("--min-ms", "5"), with_arguments: bool = False) -> Object:
    """The beginning of a run on a host of that name; words: the COMMAND."""
    made = run_object(options, (), command_object(words, with_arguments) if words else None)
    return {**made, "time": "2026-11-24T09:51:40.500000Z", "host": "web-1", "kernel": "6.1.0"}


def summary(spawns: int = 1) -> Object:
    """The summary of a run without a stall."""
    counted = Summary()
    for _ in range(spawns):
        counted.add_spawn(spawn())
    return counted.object(0)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in an object."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


# -- any valid report --

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_pids = st.integers(0, 6) | st.integers(0, 1 << 22)
_fds = st.integers(-1, 1 << 31)
_seconds = st.floats(0, 10) | st.floats(-1e10, 1e10)
_spans = st.floats(0, 10) | st.floats(0, 1e10)
_times = st.datetimes().map(lambda time: time.isoformat(timespec="microseconds") + "Z")
_whats = st.sampled_from(
    (
        *("errpipe_created", "child_forked", "parent_closed_write_end", "read_began", "read_ended"),
        *("parent_died", "child_execed", "child_closed", "holder_forked", "holder_exited"),
    )
)
_common = {
    "time": _times | st.just("2026-11-24T09:00:00.000000Z"),
    "errpipe": st.fixed_dictionaries({"read_fd": _fds, "write_fd": st.none() | _fds}),
    "spawn_seconds": st.none() | _spans,
    "exec_seconds": st.none() | _seconds,
    "steps": st.lists(
        st.fixed_dictionaries(
            {
                "seconds": _seconds,
                "pid": _pids,
                "tid": st.none() | _pids,
                "what": _whats | st.just("later_news"),
            }
        ),
        max_size=12,
    ),
}
_container = st.fixed_dictionaries(
    {"id": _text, "runtime": st.none() | _text, "pod_uid": st.none() | _text},
    optional={"user": st.none() | st.integers(0, 1 << 32)},
)
_who = {
    "exe": st.none() | _text,
    "uid": st.none() | st.integers(0, 1 << 32),
    "container": st.none() | _container,
}
_parent = {"pid": _pids, "tid": _pids, "comm": _text}
_child = st.fixed_dictionaries({"pid": _pids, "comm": _text})
_holder = {
    **_who,
    "fds": st.lists(_fds, max_size=3),
    "cause": st.sampled_from([cause.value for cause in Cause]),
    "acquired_seconds": st.none() | _seconds,
    "forked_by": st.none() | st.fixed_dictionaries({"pid": _pids, "tid": st.none() | _pids}),
    "released_seconds": st.none() | _seconds,
    "released_by": st.sampled_from([None, "close", "exec", "exit"]),
    "confirmed": st.booleans(),
    "confirmation": st.sampled_from([None, "mismatch", *(result.value for result in Confirmation)]),
}
_later = {  # not in the reports of earlier versions
    "last_seen_seconds": st.none() | _seconds,
    "exiting_seconds": st.none() | _seconds,
    "dumping_core": st.booleans(),
}
_holders = st.fixed_dictionaries(
    {"pid": _pids, "comm": _text, **_holder}, optional=_later
) | st.fixed_dictionaries({"pid": st.none(), "comm": st.none() | _text, **_holder}, optional=_later)
stalls = st.fixed_dictionaries(
    {
        "type": st.just("stall"),
        "id": st.none() | st.sampled_from(["a", "b"]) | _text,
        "state": st.sampled_from(["ongoing", "ended"]),
        "parent": st.fixed_dictionaries({**_parent, **_who}),
        "child": st.none() | _child,
        "began_seconds": st.none() | _seconds,
        "stall_seconds": st.none() | _spans,
        "holders": st.lists(_holders, min_size=1, max_size=4),
        **_common,
    },
    optional={
        "advice": _text,
        "advice_source": _text,
        "source": st.just("snapshot"),
        "certainty": st.sampled_from(["certain", "possible"]),
        "evidence": st.lists(_text, max_size=3),
        "late_wakeup_seconds": _spans,
        "news": st.integers() | _text | st.lists(_text),
    },
)
_spawns = st.fixed_dictionaries(
    {
        "type": st.just("spawn"),
        "state": st.just("ended"),
        "parent": st.fixed_dictionaries(_parent),
        "child": _child,
        "outcome": st.sampled_from([None, *(outcome.value for outcome in Outcome)]),
        **_common,
    }
)
_counts = st.integers(0, 1 << 63)
_exposures = st.fixed_dictionaries(
    {
        "type": st.just("exposure"),
        "time": _times,
        "parent": st.fixed_dictionaries(_parent),
        "child": _child,
        "cause": st.sampled_from([cause.value for cause in Cause]),
        "count": _counts,
    }
)
_runs = st.fixed_dictionaries(
    {
        "type": st.just("run"),
        "time": _times,
        "host": _text,
        "kernel": _text,
        "machine": _text,
        "version": _text,
        "pids": st.lists(_pids, max_size=3),
        "command": st.none()
        | st.fixed_dictionaries(
            {
                "program": _text,
                "argument_count": _counts,
                "arguments": st.none() | st.lists(_text, max_size=3),
            }
        ),
        "options": st.lists(_text, max_size=3),
    }
)
_summaries = st.fixed_dictionaries(
    {
        "type": st.just("summary"),
        "seconds": _spans,
        "spawns": _counts,
        "stalls": _counts,
        "ongoing": _counts,
        "exec_failures": _counts,
        "lost_records": _counts,
        "spawn_seconds": st.fixed_dictionaries(
            {name: st.none() | _spans for name in ("p50", "p95", "p99", "max")}
        ),
        "stalled_seconds": _spans,
        "holders": st.lists(
            st.fixed_dictionaries(
                {
                    "comm": st.none() | _text,
                    "cause": st.sampled_from([cause.value for cause in Cause]),
                    "stalls": _counts,
                    "seconds": _spans,
                }
            ),
            max_size=3,
        ),
    },
    optional={
        "time": _times,
        "not_followed": st.dictionaries(
            st.sampled_from([*(name for name, _, _ in LOSSES), "later_loss"]), _counts, max_size=3
        ),
    },
)
objects = st.lists(_runs | stalls | _spawns | _exposures | _summaries, max_size=6)
