# SPDX-License-Identifier: Apache-2.0
"""Convert the kernel side's records to the plain data of the model."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from agent.model import Cause, Outcome, Release, ReleasedBy, Spawn
from probes import records
from probes.loader import MapUse, ProbeStatus
from probes.records import BUCKET_BOUNDS_NS, How, ReleaseFlag

__all__ = [
    "BUCKET_BOUNDS_NS",
    "NOTHING",
    "CommStats",
    "MapUse",
    "ProbeStatus",
    "aggregate",
    "polled",
    "to_spawn",
]

# Plain ints, because each operation on an IntFlag takes a microsecond.
_EXECED, _DESCENDANT, _EXPECTED = map(int, ReleaseFlag)
_OUTCOME = {
    0: None,
    records.Outcome.OK: Outcome.OK,
    records.Outcome.EXEC_FAILED: Outcome.EXEC_FAILED,
    records.Outcome.ABANDONED: Outcome.ABANDONED,
}
_BY: Mapping[int, Optional[ReleasedBy]] = {0: None, How.CLOSE: "close", How.EXEC: "exec", How.EXIT: "exit"}
_EXPOSURES = (Cause.FORKED, Cause.LEAKED, Cause.LATE_EXEC, Cause.OWN_DESCENDANT)
"""In the order of records.Exposure."""


@dataclass(frozen=True)
class CommStats:
    """What the kernel side aggregated for the parents with one comm.

    Buckets are counts (not cumulative), one for each of BUCKET_BOUNDS_NS and one for the rest; sums are in
    nanoseconds.  since: when the counts were first seen (CLOCK_MONOTONIC ns); they started again from 0 if it
    has changed.
    """

    ok: int
    exec_failed: int
    abandoned: int
    late_wakeups: int
    exposures: Mapping[Cause, int]
    spawn_buckets: tuple[int, ...]
    spawn_sum_ns: int
    exec_buckets: tuple[int, ...]
    exec_sum_ns: int
    vfork_buckets: tuple[int, ...]
    vfork_sum_ns: int
    since: int = 0

    def __add__(self, other: CommStats) -> CommStats:
        return _combined(self, other, operator.add)

    def __sub__(self, other: CommStats) -> CommStats:
        return _combined(self, other, operator.sub)


def _combined(one: CommStats, other: CommStats, combine: Callable[[int, int], int]) -> CommStats:
    def of(name: str) -> Any:
        first, second = getattr(one, name), getattr(other, name)
        if isinstance(first, tuple):
            return tuple(map(combine, first, second))
        if isinstance(first, int):
            return combine(first, second)
        return {cause: combine(first[cause], second[cause]) for cause in first}

    names = [field.name for field in dataclasses.fields(CommStats) if field.name != "since"]
    return CommStats(**{name: of(name) for name in names}, since=one.since)


_NO_DURATIONS = (0,) * (len(BUCKET_BOUNDS_NS) + 1)
NOTHING = CommStats(
    ok=0,
    exec_failed=0,
    abandoned=0,
    late_wakeups=0,
    exposures=dict.fromkeys(_EXPOSURES, 0),
    spawn_buckets=_NO_DURATIONS,
    spawn_sum_ns=0,
    exec_buckets=_NO_DURATIONS,
    exec_sum_ns=0,
    vfork_buckets=_NO_DURATIONS,
    vfork_sum_ns=0,
)
"""The counts of no spawns."""


def aggregate(stats: records.CommStats, late_wakeups: int, since: int) -> CommStats:
    """Convert the aggregates of one comm; late_wakeups: those that user space found, to be added."""
    ok, exec_failed, abandoned = stats.outcomes
    return CommStats(
        ok=ok,
        exec_failed=exec_failed,
        abandoned=abandoned,
        late_wakeups=stats.late_wakeups + late_wakeups,
        exposures=dict(zip(_EXPOSURES, stats.exposures)),
        spawn_buckets=tuple(stats.spawn.buckets),
        spawn_sum_ns=stats.spawn.sum_ns,
        exec_buckets=tuple(stats.exec.buckets),
        exec_sum_ns=stats.exec.sum_ns,
        vfork_buckets=tuple(stats.vfork.buckets),
        vfork_sum_ns=stats.vfork.sum_ns,
        since=since,
    )


def _releases(record: records.Spawn) -> Iterator[Release]:
    """Convert the releases by holders."""
    for at, acquired, pid, parent, forker, fd, how, flags, left, stack, comm in records.releases(record):
        if pid:
            yield Release(
                at,
                acquired,
                pid,
                parent,
                forker,
                comm.partition(b"\0")[0],
                fd,
                _BY[how],
                execed=bool(flags & _EXECED),
                descendant=bool(flags & _DESCENDANT),
                expected=bool(flags & _EXPECTED),
                left=None if left == records.LEFT_UNKNOWN else left,
                stack_id=stack,
            )


def to_spawn(record: records.Spawn) -> Spawn:
    """Convert a spawn with its releases; a time of 0 becomes None."""
    return Spawn(
        id=record.id,
        inode=record.inode,
        pid=record.pid,
        tid=record.tid,
        comm=bytes(record.comm),
        child=record.own_pid,
        child_comm=bytes(record.own_comm),
        read_fd=record.read_fd,
        write_fd=record.fds[0],
        created=record.created,
        forked=record.forked or None,
        parent_closed=record.parent_closed or None,
        read_began=record.read_began or None,
        own_released=record.own_released or None,
        own_released_by=_BY[record.own_how],
        read_ended=record.read_ended or None,
        outcome=_OUTCOME[record.outcome],
        pipe=record.key,
        place=record.index,
        reading=bool(record.reading),
        held=bool(record.held),
        copy_lost=bool(record.copy_lost),
        read_cut=bool(record.read_cut),
        exec_error=record.exec_error,
        child_killed=bool(record.killed),
        read_tid=record.read_tid,
        is_socket=bool(record.is_socket),
        elsewhere=bool(record.elsewhere),
        # The kernel side keeps the latest releases in a ring.
        releases=tuple(sorted(_releases(record), key=lambda release: release.at)),
        exposures=tuple((cause, number) for cause, number in zip(_EXPOSURES, record.exposures) if number)
        if record.held
        else (),
    )


def polled(spawn: Spawn) -> Spawn:
    """The spawn, with its wait in poll since the parent's close counted as its read."""
    return dataclasses.replace(
        spawn, read_began=spawn.parent_closed, reading=spawn.read_ended is None, elsewhere=True
    )
