# SPDX-License-Identifier: Apache-2.0
"""agent.tracing: conversion of kernel records, the record queue, looks at stalls in progress, stacks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Optional

import pytest

from agent import snapshot
from agent.host import procfs
from agent.host.identity import identify
from agent.model import Cause, Confirmation, Holder, Identity, Outcome, Release, Spawn, Stall
from agent.tracing import known, prepared, stallstacks, tracer, translate
from agent.tracing.background import Budget
from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from probes import loader, records, selftest
from probes.openfiles import Copy
from probes.records import How, RecordKind, ReleaseFlag
from probes.stacks import Symbol
from tests.unit.samples import UNSEEN

RELEASE: dict[str, Any] = {
    "how": How.EXIT,
    "ns": 2,
    "acquired": 3,
    "pid": 4,
    "parent": 6,
    "forker": 7,
    "fd": 8,
    "flags": 0,
    "left": 9,
    "comm": b"worker",
}
SPAWN: dict[str, Any] = {
    "kind": RecordKind.SPAWN,
    "index": 14,
    "id": 1,
    "key": 15,
    "inode": 2,
    "created": 3,
    "forked": 4,
    "parent_closed": 5,
    "read_began": 6,
    "own_released": 7,
    "read_ended": 8,
    "pid": 9,
    "tid": 10,
    "own_pid": 11,
    "read_fd": 12,
    "fds": (13, 21, -1, -1),
    "own_how": How.EXEC,
    "outcome": records.Outcome.OK,
    "comm": b"parent",
    "own_comm": b"child",
}
PLAIN = Spawn(
    id=1,
    inode=2,
    pid=9,
    tid=10,
    comm=b"parent",
    child=11,
    child_comm=b"child",
    read_fd=12,
    write_fd=13,
    created=3,
    forked=4,
    parent_closed=5,
    read_began=6,
    own_released=7,
    own_released_by="exec",
    read_ended=8,
    outcome=Outcome.OK,
    pipe=15,
    place=14,
)


def release(**changes: Any) -> Release:
    [found] = spawn(last=(records.Release(**{**RELEASE, **changes}),)).releases
    return found


def spawn(**changes: Any) -> Spawn:
    return translate.to_spawn(records.Spawn(**{**SPAWN, **changes}))


def test_release() -> None:
    assert release() == Release(
        at=2,
        acquired=3,
        pid=4,
        parent=6,
        forker=7,
        comm=b"worker",
        fd=8,
        by="exit",
        execed=False,
        descendant=False,
        expected=False,
        left=9,
    )


@pytest.mark.parametrize(("how", "by"), [(How.CLOSE, "close"), (How.EXEC, "exec"), (How.EXIT, "exit")])
def test_how_a_copy_was_released(how: How, by: str) -> None:
    assert release(how=how).by == by
    assert spawn(own_how=how).own_released_by == by


@pytest.mark.parametrize(
    ("flag", "changes"),
    [
        (ReleaseFlag.EXECED, {"execed": True}),
        (ReleaseFlag.DESCENDANT, {"descendant": True}),
        (ReleaseFlag.EXPECTED, {"expected": True}),
        (ReleaseFlag.EXECED | ReleaseFlag.EXPECTED, {"execed": True, "expected": True}),
    ],
)
def test_flags_of_a_release(flag: ReleaseFlag, changes: dict[str, Any]) -> None:
    assert release(flags=flag) == release()._replace(**changes)


@pytest.mark.parametrize(("left", "expected"), [(0, 0), (3, 3), (records.LEFT_UNKNOWN, None)])
def test_number_of_copies_left(left: int, expected: Optional[int]) -> None:
    assert release(left=left).left == expected


def test_stack_id_of_a_release() -> None:
    assert release().stack_id == 0
    assert release(stack=12).stack_id == 12


def test_spawn() -> None:
    assert spawn() == PLAIN


@pytest.mark.parametrize("time", ["forked", "parent_closed", "read_began", "own_released", "read_ended"])
def test_a_time_of_zero_is_none(time: str) -> None:
    changes: dict[str, Any] = {time: None}
    assert spawn(**{time: 0}) == dataclasses.replace(PLAIN, **changes)


def test_a_spawn_in_flight() -> None:
    found = spawn(outcome=0, own_how=0)
    assert found.outcome is None
    assert found.own_released_by is None


@pytest.mark.parametrize("name", ["OK", "EXEC_FAILED", "ABANDONED"])
def test_outcome(name: str) -> None:
    assert spawn(outcome=records.Outcome[name]).outcome is Outcome[name]


@pytest.mark.parametrize("fact", ["reading", "held", "copy_lost", "read_cut", "is_socket", "elsewhere"])
def test_flags_of_a_spawn(fact: str) -> None:
    changes: dict[str, Any] = {fact: True}
    assert spawn(**{fact: 1}) == dataclasses.replace(PLAIN, **changes)


def test_the_releases_of_a_spawn() -> None:
    assert spawn().releases == ()
    assert spawn(last=(records.Release(**RELEASE),)).releases == (release(),)


def test_releases_are_sorted_by_time() -> None:
    """The kernel side keeps the latest releases in a ring."""
    ring = tuple(records.Release(**{**RELEASE, "ns": ns, "pid": ns}) for ns in (40, 50, 20, 30))
    assert [each.at for each in spawn(last=ring).releases] == [20, 30, 40, 50]


def test_a_child_that_was_killed() -> None:
    assert not spawn().child_killed
    assert spawn(killed=9).child_killed


def test_a_failed_exec() -> None:
    assert spawn(exec_error=2).exec_error == 2


def test_a_comm_is_the_kernels_bytes() -> None:
    assert spawn(comm=b"\xff\x1b").comm == b"\xff\x1b"
    assert release(comm=b"").comm == b""


MS = 1_000_000
SECOND = 1000 * MS
UNUSED_PID = 1 << 30
"""A pid that no process has."""


class _Kernel:
    """Fake probes with a ring buffer of three records."""

    sees_fd_tables = True

    def __init__(self, _options: object, receive: Callable[[loader.Record], None]) -> None:
        self._receive = receive
        self._ring: list[records.Spawn] = []
        self.lost = 0
        self.timeouts: list[int] = []
        self.waiting: list[records.Spawn] = []
        self.in_flight: list[records.Spawn] = []
        self.freed: list[tuple[int, int]] = []
        self.reads = True
        self.known: dict[int, Any] = {}
        self.evicted = False
        self.execs: dict[int, int] = {}
        self.by_comm: dict[bytes, records.CommStats] = {}

    def send(self, number: int) -> None:
        if len(self._ring) < 3:
            self._ring.append(_stalled(number))
        else:
            self.lost += 1

    def poll(self, timeout_ms: int) -> None:
        self.timeouts.append(timeout_ms)
        for record in self._ring:
            self._receive(record)
        self._ring.clear()

    open_files: Optional[_Files] = None

    def watched(self) -> list[records.Spawn]:
        return self.waiting

    def spawns(self) -> list[records.Spawn]:
        return self.in_flight

    def still_in_flight(self, spawns: Collection[records.Spawn]) -> list[records.Spawn]:
        ids = {spawn.id for spawn in spawns}
        return [spawn for spawn in self.in_flight if spawn.id in ids]

    def free(self, place: int, spawn_id: int) -> bool:
        self.freed.append((place, spawn_id))
        return True

    def is_reading(self, place: int, spawn_id: int) -> bool:
        return self.reads

    def process(self, pid: int) -> Optional[Any]:
        return self.known.get(pid)

    may_hold = loader.Probes.may_hold

    def may_have_evicted_processes(self) -> bool:
        return self.evicted

    def execed(self, pid: int) -> int:
        return self.execs.get(pid, 0)

    def comm_stats(self) -> dict[bytes, records.CommStats]:
        return dict(self.by_comm)

    def forget_comm(self, comm: bytes) -> None:
        self.by_comm.pop(comm, None)

    def counters(self) -> dict[records.Counter, int]:
        return {records.Counter.RECORDS_LOST: self.lost}

    def counter(self, which: records.Counter) -> int:
        return self.lost if which is records.Counter.RECORDS_LOST else 0

    def misses(self) -> int:
        return 0


_TIMES: dict[str, Any] = {"created": 1, "forked": 2, "parent_closed": 3, "read_began": 4, "own_released": 5}


def _stalled(number: int, how: How = How.EXIT) -> records.Spawn:
    """An ended spawn with a foreign holder."""
    last = records.Release(**{**RELEASE, "ns": 50 * MS, "left": 0, "how": how})
    spawn = {**SPAWN, **_TIMES, "id": number, "read_ended": 50 * MS + 1, "pid": UNUSED_PID, "held": 1}
    return records.Spawn(**{**spawn, "last": (last,), "releases": 1})


def _blocked(**changes: Any) -> records.Spawn:
    """A spawn whose parent has been waiting since 5 ns on the clock."""
    spawn = {**SPAWN, **_TIMES, "read_ended": 0, "outcome": 0, "reading": 1, "held": 1, "pid": UNUSED_PID}
    return records.Spawn(**{**spawn, **changes})


def replace_probes(patch: pytest.MonkeyPatch, probes: Callable[..., Any]) -> None:
    """Use fake probes, without compiling and without a self-test."""
    patch.setattr(loader, "Probes", probes)
    patch.setattr(loader, "Loading", lambda *_arguments: object())
    patch.setattr(loader, "CompilerProcess", contextlib.nullcontext)
    patch.setattr(selftest.SelfTest, "begin", lambda self: None)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[_Kernel]:
    made: list[_Kernel] = []

    def probes(*arguments: Any) -> _Kernel:
        made.append(_Kernel(*arguments))
        return made[0]

    replace_probes(monkeypatch, probes)
    return made


def test_records_that_arrive_while_stalls_are_judged_are_not_lost(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "_DRAIN_INTERVAL_NS", 0)
    reported: list[int] = []

    def report(stall: Stall) -> None:
        reported.append(stall.spawn.id)
        for number in (1, 2):
            if len(reported) <= 20:
                kernel[0].send(stall.spawn.id * 2 + number)

    tracing = Tracer(TracerOptions(), report)
    kernel[0].send(0)
    for _ in range(20):
        tracing.drain()
    assert sorted(reported) == list(range(41))
    assert tracing.counters()["records_lost"] == 0


def test_the_record_queue_is_bounded_and_counts_lost_records(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "_MAX_RECORDS", 2)
    reported: list[Stall] = []
    tracing = Tracer(TracerOptions(), reported.append)
    for number in (1, 2, 3, 4):
        kernel[0].send(number)
    tracing.drain()
    assert [stall.spawn.id for stall in reported] == [1, 2]
    assert tracing.counters()["records_lost"] == 2  # one in the ring, one here


def test_the_spawns_that_wait_to_be_judged_are_bounded(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a long storm records arrive faster than they are judged."""
    monkeypatch.setattr(tracer, "_MAX_SETTLING", 2)
    monkeypatch.setattr(prepared, "_MAX_RECORDS", 4)
    reported: list[Stall] = []
    tracing = Tracer(TracerOptions(), reported.append)
    for number in range(12):
        kernel[0].send(number)
        tracing.run_once(0)
    assert tracing.counters()["records_lost"] == 6
    tracing.drain()
    assert [stall.spawn.id for stall in reported] == [*range(6)]


@pytest.mark.parametrize(
    ("how", "execed", "cause"),
    [
        (How.CLOSE, 0, Cause.FORKED),
        (How.CLOSE, 50 * MS - 1, Cause.FORKED),  # it called exec before the release
        (How.CLOSE, 50 * MS, Cause.LATE_EXEC),
        (How.CLOSE, 80 * MS, Cause.LATE_EXEC),
        (How.EXIT, 80 * MS, Cause.FORKED),
    ],
)
def test_the_cause_depends_on_an_exec_after_the_close(
    how: How, execed: int, cause: Cause, kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Stall] = []
    tracing = Tracer(TracerOptions(), reported.append)
    kernel[0]._receive(_stalled(1, how))
    with monkeypatch.context() as patch:
        patch.setattr(tracer, "_SETTLE_NS", 3600 * 1000 * MS)  # however long this test is preempted
        tracing.run_once(0)
    assert reported == []  # the tracer waits for the exec
    kernel[0].execs[RELEASE["pid"]] = execed
    tracing.drain()
    assert [stall.culprit.cause for stall in reported] == [cause]


def test_a_spawn_without_a_foreign_holder_is_judged_at_once(kernel: list[_Kernel]) -> None:
    spawns: list[Spawn] = []
    tracing = Tracer(TracerOptions(every=True), lambda stall: None, spawns.append)
    record = _stalled(1)
    record.held = 0
    kernel[0]._receive(record)
    tracing.run_once(0)
    assert [spawn.id for spawn in spawns] == [1]


def test_a_spawn_with_exposures_is_identified_before_its_parent_exits(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short its wait was."""
    spawns: list[Spawn] = []
    tracing = Tracer(TracerOptions(every=True, min_ns=10**12), lambda stall: None, spawns.append)
    record = _stalled(1)
    record.pid = os.getpid()
    record.created = time.monotonic_ns()
    record.exposures = (2, 0, 1, 0)
    kernel[0]._receive(record)
    tracing.run_once(0)
    monkeypatch.setattr(known, "identify", lambda *_: None)  # from here on it has exited
    tracing.drain()
    [spawn] = spawns
    assert spawn.exposures == ((Cause.FORKED, 2), (Cause.LATE_EXEC, 1))
    assert spawn.identity is not None and spawn.identity.uid == os.getuid()


@dataclasses.dataclass
class _Host:
    """A fake host: what a search of its open files finds, and the number of searches."""

    copies: dict[int, dict[int, list[int]]] = dataclasses.field(default_factory=dict)
    searches: int = 0
    complete: bool = True
    stopped: bool = False
    blocked: bool = True
    in_exec: bool = False
    still_has: bool = True
    younger: bool = False
    exiting: frozenset[int] = frozenset()
    dumping: bool = False
    runs: Callable[[], bool] = lambda: True

    def pids(self) -> list[int]:
        self.searches += 1
        return sorted({pid for by in self.copies.values() for pid in by})

    def write_ends(self, pid: int, links: Mapping[str, int], most: int) -> tuple[dict[int, list[int]], bool]:
        inodes = links.values()
        found = {inode: by[pid] for inode, by in self.copies.items() if inode in inodes and pid in by}
        return found, self.complete


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> _Host:
    made = _Host()
    monkeypatch.setattr(procfs, "pids", made.pids)
    monkeypatch.setattr(procfs, "write_ends", made.write_ends)
    monkeypatch.setattr(procfs, "is_stopped", lambda pid, tid: made.stopped)
    monkeypatch.setattr(procfs, "is_blocked_on", lambda pid, tid, fd: made.blocked)
    monkeypatch.setattr(procfs, "is_in_exec", lambda pid: made.in_exec)
    monkeypatch.setattr(procfs, "still_has", lambda pid, fds, inode: made.still_has and inode == INODE)
    monkeypatch.setattr(procfs, "comm_of", lambda pid: b"holder")
    monkeypatch.setattr(procfs, "may_be_younger", lambda pid, than: made.younger)
    monkeypatch.setattr(procfs, "has_run", lambda pid: made.runs())
    monkeypatch.setattr(procfs, "is_exiting", lambda pid: pid in made.exiting)
    monkeypatch.setattr(snapshot, "is_dumping", lambda pid: made.dumping)
    monkeypatch.setattr(procfs, "started", lambda pid: 2 * SECOND if made.younger else 2)
    return made


INODE = SPAWN["inode"]
HOLDER = UNUSED_PID + 1


class _Looking:
    """A tracer whose kernel side watches one waiting spawn."""

    def __init__(self, kernel: list[_Kernel], **options: Any) -> None:
        self.reported: list[Stall] = []
        self.tracing = Tracer(TracerOptions(**options), self.reported.append)
        self.kernel = kernel[0]
        self.kernel.waiting = [_blocked()]
        self.at = SECOND // 2

    def look(self, after: int = SECOND // 4) -> tuple[Stall, ...]:
        """Look again after some time, and return the stalls in progress."""
        self.at += after
        self.tracing._holders._background.used = 0
        self.tracing._look(self.at, 60 * SECOND)
        return self.tracing.ongoing

    def holder(self) -> Holder:
        """The only holder of the only stall that the next look finds."""
        [stall] = self.look()
        [holder] = stall.holders
        return holder

    def process(self, **changes: Any) -> Any:
        """A process that was forked with a copy after the pipe was created."""
        made = records.process_type(64)(**{"born": 3, "parent": (30, 20, 10, 1), "forker": 31, **changes})
        made.may_hold.words[0] = 1 << SPAWN["index"]
        return made


def test_a_look_names_the_process_with_the_write_end(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4, 9]}}
    assert looking.holder() == Holder(
        pid=HOLDER,
        comm=b"holder",
        fds=(4, 9),
        cause=Cause.PASSED,
        acquired=None,
        released=None,
        confirmation=Confirmation.CONFIRMED,
        seen=looking.at,
    )
    first = looking.at
    assert looking.holder().seen == looking.at > first
    assert looking.tracing.confirmations == {Confirmation.CONFIRMED: 1}


@pytest.mark.parametrize(
    ("changes", "in_exec", "cause"),
    [
        ({}, False, Cause.FORKED),
        ({}, True, Cause.LATE_EXEC),
        ({"expected": 1}, False, Cause.LATE_EXEC),
        ({"execed": 7}, False, Cause.LEAKED),
        ({"execed": 7}, True, Cause.LEAKED),
        ({"execed": 7, "expected": 1}, False, Cause.LATE_EXEC),
        ({"parent": (30, SPAWN["own_pid"], 0, 0)}, False, Cause.OWN_DESCENDANT),
        ({"parent": (SPAWN["own_pid"], 0, 0, 0), "execed": 7}, False, Cause.OWN_DESCENDANT),
    ],
)
def test_the_cause_of_a_holder_that_was_forked_with_its_copy(
    changes: dict[str, Any], in_exec: bool, cause: Cause, kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    host.copies, host.in_exec = {INODE: {HOLDER: [4]}}, in_exec
    process = looking.kernel.known[HOLDER] = looking.process(**changes)
    holder = looking.holder()
    assert holder.cause is cause
    assert (holder.acquired, holder.parent, holder.forker) == (process.born, process.parent[0], 31)


def test_a_process_older_than_the_own_child_is_not_its_descendant(kernel: list[_Kernel], host: _Host) -> None:
    """An earlier process had the own child's pid."""
    looking = _Looking(kernel)
    looking.kernel.waiting = [_blocked(forked=4)]
    host.copies = {INODE: {HOLDER: [4]}}
    looking.kernel.known[HOLDER] = looking.process(parent=(SPAWN["own_pid"], 0, 0, 0), born=3)
    assert looking.holder().cause is Cause.FORKED


@pytest.mark.parametrize("changes", [{"born": 1}, {"born": 1, "shared": 1}, {"may_hold": None}])
def test_a_copy_that_was_not_inherited_was_passed(
    changes: dict[str, Any], kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    process = looking.process(**{name: value for name, value in changes.items() if value is not None})
    if "may_hold" in changes:
        process.may_hold.words[0] = 0
    looking.kernel.known[HOLDER] = process
    holder = looking.holder()
    assert (holder.cause, holder.acquired, holder.parent) == (Cause.PASSED, None, None)


@pytest.mark.parametrize(("ago", "cause"), [(SECOND // 2, Cause.UNKNOWN), (2 * SECOND, Cause.PASSED)])
def test_a_holder_that_has_not_finished_its_close(
    ago: int, cause: Cause, kernel: list[_Kernel], host: _Host
) -> None:
    """The kernel side records the entry of close, and the kernel can suspend it there."""
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    looking.at = 4 * SECOND
    process = looking.process(closing=looking.at + SECOND // 4 - ago)
    process.may_hold.words[0] = 0
    looking.kernel.known[HOLDER] = process
    assert looking.holder().cause is cause


def test_a_holder_that_has_just_closed_its_copy_is_not_named(kernel: list[_Kernel], host: _Host) -> None:
    """It did so between the search and the look at its row. The kernel side has recorded the release."""
    looking = _Looking(kernel)
    host.copies, host.still_has = {INODE: {HOLDER: [4], HOLDER + 1: [5]}}, False
    looking.kernel.known[HOLDER] = looking.process()
    process = looking.process(closing=looking.at + SECOND // 4 + 1)
    process.may_hold.words[0] = 0
    looking.kernel.known[HOLDER + 1] = process
    assert looking.holder().pid == HOLDER


def test_how_a_process_with_a_shared_table_got_its_copy_is_unknown(
    kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    looking.kernel.known[HOLDER] = looking.process(shared=1)
    assert looking.holder().cause is Cause.UNKNOWN


@pytest.mark.parametrize(
    ("evicted", "younger", "cause"),
    [(True, True, Cause.UNKNOWN), (True, False, Cause.PASSED), (False, True, Cause.PASSED)],
)
def test_a_process_that_may_have_lost_its_row(
    evicted: bool, younger: bool, cause: Cause, kernel: list[_Kernel], host: _Host
) -> None:
    """It may have been forked with its copy."""
    looking = _Looking(kernel)
    host.copies, host.younger = {INODE: {HOLDER: [4]}}, younger
    looking.kernel.evicted = evicted
    assert looking.holder().cause is cause


def test_a_process_whose_fork_has_not_been_traced_yet(kernel: list[_Kernel], host: _Host) -> None:
    """The iterator sees it before the kernel side does; it has not run yet."""
    looking = _Looking(kernel)
    host.copies, host.runs = {INODE: {HOLDER: [4]}}, lambda: False
    assert looking.holder().cause is Cause.UNKNOWN


def test_a_process_whose_fork_is_traced_during_the_search(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)

    def traced() -> bool:
        looking.kernel.known[HOLDER] = looking.process()
        return True

    host.copies, host.runs = {INODE: {HOLDER: [4]}}, traced
    assert looking.holder().cause is Cause.UNKNOWN


@pytest.mark.parametrize(
    ("younger", "reads", "cause"),
    [(True, False, Cause.UNKNOWN), (True, True, Cause.PASSED), (False, False, Cause.PASSED)],
)
def test_a_process_that_may_have_been_forked_after_the_end_of_the_read(
    younger: bool, reads: bool, cause: Cause, kernel: list[_Kernel], host: _Host
) -> None:
    """Then the kernel side does not record that it got a copy."""
    looking = _Looking(kernel)
    host.copies, host.younger = {INODE: {HOLDER: [4]}}, younger
    looking.kernel.reads = reads
    assert looking.holder().cause is cause


def test_a_holder_that_releases_its_copy_after_the_search_is_not_named(
    kernel: list[_Kernel], host: _Host
) -> None:
    """Its row is gone, or says that it has no copy: the same as for one to which a copy was passed."""
    looking = _Looking(kernel)
    host.copies, host.still_has = {INODE: {HOLDER: [4], HOLDER + 1: [5], HOLDER + 2: [6]}}, False
    looking.kernel.known[HOLDER] = looking.process()
    looking.kernel.known[HOLDER + 1] = looking.process()
    looking.kernel.known[HOLDER + 1].may_hold.words[0] = 0
    assert looking.holder().pid == HOLDER


# -- holders that crash or exit --


def test_a_holder_whose_core_is_dumped(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    looking.kernel.known[HOLDER] = looking.process()
    assert looking.holder().dumping is False
    host.dumping = True
    found = looking.holder()
    assert (found.pid, found.cause, found.dumping) == (HOLDER, Cause.FORKED, True)


def _exits(pid: int, left: int, ns: int = 6, how: How = How.EXIT) -> records.Release:
    return records.Release(**{**RELEASE, "pid": pid, "left": left, "ns": ns, "how": how})


def test_an_exiting_process_has_its_copy_until_it_closes_it(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    looking.kernel.waiting = [_blocked(last=(_exits(HOLDER, 0),))]
    host.copies, host.exiting, host.still_has = {INODE: {HOLDER: [4]}}, frozenset([HOLDER]), False
    found = looking.holder()
    assert (found.pid, found.cause, found.fds, found.exiting) == (HOLDER, Cause.FORKED, (4,), 6)
    assert found.seen == looking.at
    # Now no search finds its files.
    host.copies = {}
    found = looking.holder()
    assert (found.pid, found.cause, found.fds, found.exiting) == (HOLDER, Cause.FORKED, (8,), 6)
    assert (found.seen, found.confirmation) == (None, None)
    # Another process has its pid, or it is a zombie.
    for changes in ({"younger": True}, {"younger": False, "exiting": frozenset()}):
        vars(host).update(changes)
        looking.look()
        assert looking.holder().pid is None


@pytest.mark.parametrize(
    ("releases", "named"),
    [
        ([_exits(HOLDER, 1)], [None]),
        ([_exits(HOLDER, 1), _exits(HOLDER + 1, 0, 7)], [HOLDER + 1]),
        ([_exits(HOLDER, 0), _exits(HOLDER + 1, 1, 7, How.CLOSE)], [HOLDER]),
        ([_exits(HOLDER, 0), _exits(HOLDER + 1, 2, 7, How.CLOSE)], [None]),
    ],
)
def test_an_exiting_process_that_no_search_finds_is_named_if_the_count_shows_it(
    releases: list[records.Release], named: list[Optional[int]], kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    looking.kernel.waiting = [_blocked(last=tuple(releases))]
    host.exiting = frozenset([releases[-1].pid] if releases[-1].how == How.EXIT else [HOLDER])
    looking.look()
    [stall] = looking.look()
    assert [holder.pid for holder in stall.holders] == named


@pytest.mark.parametrize(("copy_lost", "sees_fd_tables"), [(1, True), (0, False)])
def test_the_cause_is_unknown_if_copies_cannot_be_followed(
    copy_lost: int, sees_fd_tables: bool, kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    looking.kernel.waiting = [_blocked(copy_lost=copy_lost)]
    looking.kernel.sees_fd_tables = sees_fd_tables
    host.copies = {INODE: {HOLDER: [4]}}
    assert looking.holder().cause is Cause.UNKNOWN


def test_neither_the_parent_nor_its_own_child_is_a_holder(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    own = SPAWN["own_pid"]
    host.copies = {INODE: {UNUSED_PID: [4], own: [4]}}
    assert looking.look() == ()
    looking.kernel.known[own] = looking.process(born=_TIMES["forked"])
    assert [stall.holders for stall in looking.look()] == [(UNSEEN,)]
    # Now another process has the own child's pid.
    looking.kernel.known[own] = looking.process(born=SECOND)
    assert looking.holder().pid == own


def test_a_search_after_the_end_of_the_read_changes_nothing(kernel: list[_Kernel], host: _Host) -> None:
    """There is no copy of this pipe any more: those that the search before has found count."""
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    assert looking.holder().pid == HOLDER
    host.copies, looking.kernel.reads = {}, False
    assert looking.holder().pid == HOLDER


def test_an_fd_is_not_taken_for_the_errpipe_after_the_end_of_the_read(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without BTF only the fd is known, which then can be the errpipe of the next spawn."""
    looking = _Looking(kernel)
    looking.kernel.sees_fd_tables = False
    looking.kernel.waiting = [_blocked(inode=0)]
    host.copies = {INODE: {HOLDER: [4]}}
    monkeypatch.setattr(procfs, "pipe_inode", lambda pid, fd: INODE)
    looking.kernel.reads = False
    assert looking.look() == ()
    looking.kernel.reads = True
    assert looking.holder().pid == HOLDER


def test_a_wait_without_a_holder_is_a_stall_at_the_second_look(kernel: list[_Kernel], host: _Host) -> None:
    """At the first look, it is most likely about to end."""
    looking = _Looking(kernel)
    assert looking.look() == ()
    [stall] = looking.look()
    assert stall.culprit.cause is Cause.UNKNOWN
    host.copies = {INODE: {HOLDER: [4]}}
    assert looking.holder().pid == HOLDER
    host.copies = {}
    assert looking.look() == ()
    host.stopped = True
    assert looking.look() == ()  # a stopped reader does not return from its read


def test_a_socketpair_counts_only_while_the_parent_is_blocked_on_it(
    kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    looking.kernel.waiting = [_blocked(is_socket=1)]
    host.copies, host.blocked = {INODE: {HOLDER: [4]}}, False
    assert looking.look() == ()
    host.blocked = True
    assert looking.holder().pid == HOLDER


@pytest.mark.parametrize(
    "changes",
    [{"reading": 0}, {"own_released": 0}, {"read_began": 0}, {"own_released": SECOND * 3 // 4 - 1}],
)
def test_a_parent_that_does_not_wait_causes_no_search(
    changes: dict[str, Any], kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    looking.kernel.waiting = [_blocked(**changes)]
    assert looking.look() == ()
    assert host.searches == 0


def test_searches_take_a_small_share_of_the_time(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that takes 50 ms is not repeated for a second."""
    looking = _Looking(kernel)
    monkeypatch.setattr(Budget, "used", 50 * MS)
    looking.look()
    for after, searches in ((999 * MS, 1), (2 * MS, 2)):
        looking.at += after
        looking.tracing._look(looking.at, 60 * SECOND)
        assert host.searches == searches


def test_a_stall_is_reported_once_while_in_progress(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel, ongoing_ns=SECOND)
    host.copies = {INODE: {HOLDER: [4]}}
    looking.look()
    assert looking.reported == []
    for _ in range(3):
        looking.look()
    assert [stall.ended for stall in looking.reported] == [None]


def test_a_holder_that_a_look_found_is_confirmed(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    looking.at = 20 * MS
    host.copies = {INODE: {RELEASE["pid"]: [8]}}
    [stall] = looking.look(after=10 * MS)
    assert stall.culprit.pid == RELEASE["pid"]
    looking.kernel.waiting = []
    looking.kernel._receive(_stalled(SPAWN["id"]))
    looking.tracing.drain()
    [stall] = looking.reported
    assert [(each.pid, each.confirmation, each.seen) for each in stall.holders] == [
        (RELEASE["pid"], Confirmation.CONFIRMED, 30 * MS)
    ]
    assert looking.tracing.ongoing == ()


def test_the_holder_that_has_not_released_its_copy_comes_first(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    looking.at = 20 * MS
    host.copies = {INODE: {HOLDER: [4]}}
    looking.look(after=10 * MS)
    looking.kernel.waiting = []
    record = _stalled(SPAWN["id"])
    record.last[0].left = 1
    looking.kernel._receive(record)
    looking.tracing.drain()
    assert [holder.pid for holder in looking.reported[-1].holders] == [HOLDER, RELEASE["pid"]]


def test_an_ended_spawn_without_a_record_is_judged_by_a_look(kernel: list[_Kernel], host: _Host) -> None:
    """Its record waits for the release of a copy that is not followed."""
    looking = _Looking(kernel)
    ended = _stalled(SPAWN["id"])
    ended.last[0].left = 1
    ended.read_ended = 700 * MS
    looking.kernel.waiting = [ended]
    looking.look()
    assert looking.reported == []  # its record may still arrive
    for _ in range(2):
        looking.look()
    [stall] = looking.reported
    assert (stall.spawn.id, stall.culprit.cause) == (SPAWN["id"], Cause.UNKNOWN)


def test_a_notice_hastens_the_next_look(kernel: list[_Kernel]) -> None:
    tracing = Tracer(TracerOptions(), lambda stall: None)
    tracing.run_once(0)
    later = tracing._next_look
    assert later > time.monotonic_ns() + 100 * MS
    kernel[0]._receive(records.Notice(kind=RecordKind.WAITING))
    tracing.run_once(0)
    assert tracing._next_look <= time.monotonic_ns() + 20 * MS
    # A second notice does not delay it.
    soon = tracing._next_look
    kernel[0]._receive(records.Notice(kind=RecordKind.WAITING))
    tracing.run_once(0)
    assert tracing._next_look <= max(soon, time.monotonic_ns() + 250 * MS)


def test_records_that_follow_a_notice_are_received_soon_without_another(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "_LOOK_NS", 3600 * 1000 * MS)  # however long this test is preempted
    tracing = Tracer(TracerOptions(), lambda stall: None)
    tracing.run_once(0)
    look = tracing._next_look
    kernel[0]._receive(records.Notice(kind=RecordKind.SENT))
    tracing.run_once(1)  # receives the notice
    tracing.run_once(1)
    assert 0 < kernel[0].timeouts[-1] <= 20
    assert tracing._next_look == look
    time.sleep(0.025)
    tracing.run_once(1)
    tracing.run_once(1)
    assert kernel[0].timeouts[-1] > 20  # only once


def test_comm_stats(kernel: list[_Kernel]) -> None:
    counted = records.CommStats(outcomes=(1, 2, 3), late_wakeups=4, exposures=(5, 6, 7, 8))
    tracing = Tracer(TracerOptions(), lambda stall: None)
    kernel[0].by_comm = {b"make": counted}
    [(comm, stats)] = tracing.comm_stats().items()
    assert comm == b"make"
    assert (stats.ok, stats.exec_failed, stats.abandoned, stats.late_wakeups) == (1, 2, 3, 4)
    assert stats.exposures == {
        Cause.FORKED: 5,
        Cause.LEAKED: 6,
        Cause.LATE_EXEC: 7,
        Cause.OWN_DESCENDANT: 8,
    }
    assert [exposure.name.lower() for exposure in records.Exposure] == [
        cause.value for cause in stats.exposures
    ]


@pytest.mark.parametrize(("held", "late"), [(1, 5), (0, 4)])
def test_a_late_wakeup_is_counted_once(held: int, late: int, kernel: list[_Kernel]) -> None:
    """The kernel side counts those of spawns without a foreign copy."""
    tracing = Tracer(TracerOptions(), lambda stall: None)
    kernel[0].by_comm = {b"parent": records.CommStats(late_wakeups=4)}
    record = _stalled(1, How.CLOSE)
    record.held, record.read_ended = held, 300 * MS
    kernel[0]._receive(record)
    tracing.drain()
    assert tracing.comm_stats()[b"parent"].late_wakeups == late


def test_spawns_whose_child_or_parent_is_missing_are_counted(kernel: list[_Kernel]) -> None:
    """The read has ended without a release by the own child, or the parent has no row; not if it is young."""
    tracing = Tracer(TracerOptions(), lambda _stall: None)
    now = time.monotonic_ns()
    kernel[0].known[UNUSED_PID] = object()
    ended = {**SPAWN, **_TIMES, "own_released": 0, "own_pid": 1, "pid": UNUSED_PID, "eof": 1, "outcome": 0}
    kernel[0].in_flight = [
        records.Spawn(**{**ended, "id": 1, "index": 4, "read_ended": now - 3 * SECOND}),
        records.Spawn(**{**ended, "id": 2, "index": 5, "read_ended": now}),
        records.Spawn(**{**ended, "id": 3, "index": 6, "read_ended": now - 3 * SECOND, "own_released": 5}),
        records.Spawn(**{**ended, "id": 4, "index": 7, "read_ended": 0, "eof": 0, "pid": UNUSED_PID + 1}),
        records.Spawn(**{**ended, "id": 5, "read_ended": 0, "eof": 0, "own_pid": 0, "pid": UNUSED_PID + 1}),
    ]
    tracing.run_once(0)
    assert kernel[0].freed == [(4, 1), (7, 4)]
    assert tracing.counters()["spawns_unfinished"] == 2


@pytest.mark.parametrize(
    ("still", "seconds", "ends"), [(True, 9, False), (False, 4, False), (False, 9, True)]
)
def test_a_parent_that_has_closed_its_errpipe_does_not_wait(
    still: bool, seconds: int, ends: bool, kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel side has not seen the end of its read: the thread was removed from a full map."""
    monkeypatch.setattr(procfs, "has_open", lambda pid, fd, inode: still)
    looking = _Looking(kernel)
    looking.kernel.known[UNUSED_PID] = looking.process()
    looking.kernel.in_flight = looking.kernel.waiting
    host.copies = {INODE: {HOLDER: [4]}}
    looking.at = seconds * SECOND
    looking.look(0)
    assert looking.kernel.freed == ([(SPAWN["index"], SPAWN["id"])] if ends else [])
    assert looking.tracing.counters()["spawns_unfinished"] == ends
    assert [stall.ended for stall in looking.reported if stall.ended] == [seconds * SECOND] * ends


def test_a_stall_that_was_reported_in_progress_ends_whatever_the_record_says(
    kernel: list[_Kernel], host: _Host
) -> None:
    """Its thread was removed from a full map, so that the record has no end of the read."""
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    looking.at = 5 * SECOND
    looking.look()
    assert [stall.ended for stall in looking.reported] == [None]
    looking.kernel.waiting = []
    unread = {**SPAWN, **_TIMES, "read_ended": 0, "outcome": records.Outcome.ABANDONED, "pid": UNUSED_PID}
    looking.kernel._receive(records.Spawn(**unread))
    looking.tracing.drain()
    assert len(looking.reported) == 2 and looking.reported[1].ended is not None
    assert looking.reported[1].holders == looking.reported[0].holders


def test_a_stall_ends_if_the_kernel_side_drops_its_spawn(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    looking.at = 5 * SECOND
    looking.look()
    looking.kernel.waiting = []
    for _ in range(4):
        looking.tracing._next_census = 0
        looking.look(2 * SECOND)
    assert [stall.ended is None for stall in looking.reported] == [True, False]
    assert looking.tracing.counters()["spawns_unfinished"] == 1


def test_comms_without_a_spawn_for_an_hour_are_forgotten(kernel: list[_Kernel]) -> None:
    hour = 3600 * SECOND
    tracing = Tracer(TracerOptions(), lambda stall: None)
    kernel[0].by_comm = {
        b"used": records.CommStats(used=2 * hour),
        b"unused": records.CommStats(used=hour - 1),
        b"new": records.CommStats(used=0),
        b"~other": records.CommStats(used=1),  # always kept
    }
    tracing._tidy(2 * hour)
    assert set(kernel[0].by_comm) == {b"used", b"new", b"~other"}


def test_counts_that_start_again_are_marked(kernel: list[_Kernel]) -> None:
    hour = 3600 * SECOND
    tracing = Tracer(TracerOptions(), lambda stall: None)
    kernel[0].by_comm = {b"used": records.CommStats(used=2 * hour), b"unused": records.CommStats(used=1)}
    before = tracing.comm_stats()
    tracing._tidy(2 * hour)
    kernel[0].by_comm[b"unused"] = records.CommStats(used=2 * hour)
    after = tracing.comm_stats()
    assert after[b"used"].since == before[b"used"].since
    assert after[b"unused"].since > before[b"unused"].since


def test_a_long_stall_with_the_comm_of_the_self_test_is_reported(kernel: list[_Kernel]) -> None:
    reported: list[Stall] = []
    tracing = Tracer(TracerOptions(), reported.append)
    record = _stalled(1, How.EXIT)
    record.comm, record.read_ended = selftest.COMM, 60 * MS
    kernel[0]._receive(record)
    tracing.drain()
    assert [stall.spawn.comm for stall in reported] == [selftest.COMM]


def test_a_forker_that_exits_during_the_symbol_lookup_has_plain_addresses(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid may have been reused, and the names be those of another process."""
    ended = False

    def who(pid: int, seen: int) -> Optional[Identity]:
        return None if ended else identify(os.getpid(), time.monotonic_ns())

    def symbolise(pid: int, addresses: tuple[int, ...]) -> list[Symbol]:
        nonlocal ended
        ended = True
        return [Symbol("another", None)]

    monkeypatch.setattr(stallstacks, "symbolise", symbolise)
    monkeypatch.setattr(stallstacks, "identify", who)
    tracing = Tracer(TracerOptions(stacks=True), lambda stall: None)
    monkeypatch.setattr(kernel[0], "fork_stack", lambda stack, born: (0x10,), raising=False)
    assert tracing._stacks is not None
    fork = tracing._stacks._look_up_fork(7, 1, 1)
    assert fork.stack is not None
    assert [frame.function for frame in fork.stack.frames] == ["0x10"]
    assert fork.missing is not None and "pid 7" in fork.missing


class _Files:
    """A fake iterator over the open files."""

    def __init__(self) -> None:
        self.passes = 0
        self.left_out = False

    def holders(
        self, pipes: Mapping[int, int], is_spent: Callable[[], bool], most: int
    ) -> dict[int, list[Copy]]:
        self.passes += 1
        return {pipe: [Copy(pipe, HOLDER, HOLDER, 4)] for pipe in pipes}


def test_searches_of_a_big_host_are_limited(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches of 10 ms take at most 1/20 of the time, and 1/200 if all stalls are old."""
    looking = _Looking(kernel)
    looking.kernel.in_flight = looking.kernel.waiting
    files = looking.kernel.open_files = _Files()
    monkeypatch.setattr(Budget, "used", 10 * MS)
    for at, passes in ((500, 1), (690, 1), (710, 2), (2100, 2), (2700, 2), (2720, 3), (4700, 3)):
        looking.at = at * MS
        looking.tracing._look(looking.at, 60 * SECOND)
        assert (at, files.passes) == (at, passes)
        assert [stall.culprit.pid for stall in looking.tracing.ongoing] == [HOLDER]
    looking.kernel.waiting.append(_blocked(id=2, read_began=4600 * MS, own_released=4600 * MS))
    looking.tracing._look(looking.at, 60 * SECOND)
    assert files.passes == 4
    looking.kernel.waiting.append(_blocked(id=3, read_began=4700 * MS, own_released=4700 * MS))
    for at, passes in ((4740, 4), (4760, 5), (4860, 5)):  # a new stall is searched for after 50 ms
        looking.at = at * MS
        looking.tracing._look(looking.at, 60 * SECOND)
        assert (at, files.passes) == (at, passes)


def test_a_holder_that_exits_during_a_search_keeps_its_cause(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without BTF, the cause comes from /proc, which loses it when the holder exits."""
    looking = _Looking(kernel)
    looking.kernel.sees_fd_tables = False
    host.copies = {INODE: {HOLDER: [4]}}
    for answer, cause in (
        (None, Cause.UNKNOWN),
        (True, Cause.FORKED),
        (None, Cause.FORKED),
        (False, Cause.UNKNOWN),
    ):
        monkeypatch.setattr(procfs, "has_not_execed", lambda pid, answer=answer: answer)
        assert looking.holder().cause is cause


@pytest.mark.parametrize(("expected", "cause"), [(0, Cause.FORKED), (1, Cause.LATE_EXEC)])
def test_without_types_a_process_whose_exec_is_awaited_is_late(
    expected: int, cause: Cause, kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = _Looking(kernel)
    looking.kernel.sees_fd_tables = False
    looking.kernel.known[HOLDER] = looking.process(born=SECOND, expected=expected)
    host.copies = {INODE: {HOLDER: [4]}}
    monkeypatch.setattr(procfs, "has_not_execed", lambda pid: True)
    assert looking.holder().cause is cause


# -- many stalls at once --


def _crowd(number: int) -> list[records.Spawn]:
    return [_blocked(id=each, index=each % 4608, key=each) for each in range(1, number + 1)]


def test_each_of_very_many_stalls_is_reported_once(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In progress and at the end, however many looks there are."""
    number = 4608  # Options.max_spawns
    looking = _Looking(kernel, ongoing_ns=SECOND // 2)
    looking.kernel.open_files = _Files()
    looking.kernel.waiting = _crowd(number)
    for _ in range(500):
        assert len(looking.look()) == number
        if len(looking.reported) >= number:
            break
    looking.look()
    assert sorted(stall.spawn.id for stall in looking.reported) == list(range(1, number + 1))
    assert {stall.culprit.pid for stall in looking.reported} == {HOLDER}
    looking.reported.clear()
    looking.kernel.waiting = []
    for each in range(1, number + 1):
        looking.kernel._receive(_stalled(each))
    looking.tracing.drain()
    assert sorted(stall.spawn.id for stall in looking.reported) == list(range(1, number + 1))
    assert looking.tracing.ongoing == ()
    assert looking.tracing.counters()["records_lost"] == 0


def test_polling_goes_on_while_very_many_stalls_end(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn ends after a while even if there is more to receive or to judge; the next one goes on."""
    monkeypatch.setattr(tracer, "_TURN_NS", 0)
    monkeypatch.setattr(tracer, "_DRAIN_INTERVAL_NS", 0)
    monkeypatch.setattr(tracer, "_SETTLE_NS", 0)
    reported: list[Stall] = []
    tracing = Tracer(TracerOptions(), reported.append)
    for each in range(1, 4):
        kernel[0]._receive(_stalled(each))
    for number in (1, 2, 3):
        tracing.run_once(10)  # it does not wait while there is more to do
        assert len(reported) == number


def test_a_look_reads_little_of_proc_about_very_many_readers(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those for whom there is no time come first in the next look."""
    looking = _Looking(kernel)
    looking.kernel.waiting = [_blocked(id=each, is_socket=1, read_fd=each) for each in range(1, 101)]
    read: list[int] = []
    clock = looking.at

    def is_blocked_on(pid: int, tid: int, fd: int) -> bool:
        nonlocal clock
        clock += MS
        read.append(fd)
        return True

    monkeypatch.setattr(procfs, "is_blocked_on", is_blocked_on)
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock)
    for looks in range(1, 6):
        looking.look()
        assert len(read) == 20 * looks
    assert len(set(read)) == 100


def test_the_next_look_waits_if_looks_take_long(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing = Tracer(TracerOptions(), lambda stall: None)
    looks: list[int] = []
    clock = cpu = SECOND

    def look(now: int) -> None:
        nonlocal cpu
        looks.append(now)
        cpu += SECOND // 2

    monkeypatch.setattr(tracing, "_look", look)
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock)
    monkeypatch.setattr(time, "thread_time_ns", lambda: cpu)
    for _ in range(80):
        clock += SECOND // 10
        tracing._next_look = 0  # as after a notice
        tracing.run_once(0)
    assert len(looks) == 2


def test_reports_of_very_many_stalls_are_spread_over_looks(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = _Looking(kernel, ongoing_ns=SECOND // 2)
    looking.kernel.open_files = _Files()
    looking.kernel.waiting = _crowd(100)
    clock = looking.at
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock)

    def report(stall: Stall) -> None:
        nonlocal clock
        clock += 10 * MS
        looking.reported.append(stall)

    looking.tracing._on_stall = report
    for looks in range(1, 6):
        assert len(looking.look()) == 100
        assert len(looking.reported) == 20 * looks
    assert len({stall.spawn.id for stall in looking.reported}) == 100


def test_a_stall_that_only_a_census_finds_stays_in_progress(kernel: list[_Kernel], host: _Host) -> None:
    """The kernel counted no foreign copy when the parent began to wait."""
    looking = _Looking(kernel)
    looking.kernel.waiting = []
    looking.kernel.in_flight = [_blocked(held=0)]
    host.copies = {INODE: {HOLDER: [4]}}
    looking.at = 2 * SECOND
    assert looking.holder().pid == HOLDER
    looking.tracing._next_census = 1 << 62
    assert looking.holder().pid == HOLDER
    looking.kernel.in_flight = []
    assert looking.look() == ()
    looking.kernel._receive(_stalled(SPAWN["id"]))
    looking.tracing.drain()
    assert looking.look() == ()


def test_a_census_of_a_busy_host_does_not_delay_the_next_one(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only CPU time counts: to wait for a CPU costs nothing."""
    looking = _Looking(kernel)
    at, cpu_times = looking.at, iter((0, 0, 0, SECOND // 10))
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(cpu_times))
    monkeypatch.setattr(time, "monotonic_ns", lambda: 60 * SECOND)
    looking.tracing._unwatched(at)
    assert looking.tracing._next_census == at + SECOND // 2
    looking.tracing._unwatched(at)
    assert looking.tracing._next_census == at + 10 * SECOND


def test_a_stall_that_ends_during_a_look_is_not_reported_in_progress(
    kernel: list[_Kernel], host: _Host
) -> None:
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    looking.kernel.reads = False
    looking.at = 5 * SECOND
    looking.look()
    assert looking.reported == []
    looking.kernel.reads = True
    looking.look()
    assert [stall.ended for stall in looking.reported] == [None]


# -- searches for holders --


def test_a_process_that_was_not_searched_remains_a_holder(kernel: list[_Kernel], host: _Host) -> None:
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    first = looking.holder()
    host.complete = False
    host.copies = {INODE: {}, 77: {HOLDER: [4]}}
    assert looking.holder() == first  # last seen before
    assert looking.tracing.counters()["searches_cut"] == 1
    host.complete = True
    assert looking.look() == ()


def test_a_search_goes_on_where_its_time_was_over(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = _Looking(kernel)
    pids = range(HOLDER, HOLDER + 6)
    host.copies = {INODE: {pid: [4] for pid in pids}}
    left = 4

    def is_spent(self: Budget) -> bool:
        nonlocal left
        if threading.current_thread().name != "holdersearch":
            return False
        left -= 1
        self.cut = left < 0
        return self.cut

    monkeypatch.setattr(Budget, "is_spent", is_spent)
    [stall] = looking.look()
    assert [holder.pid for holder in stall.holders] == [*pids][:4]
    left = 4
    [stall] = looking.look()
    assert {holder.pid for holder in stall.holders} == set(pids)
    assert looking.tracing.counters()["searches_cut"] == 2


def test_a_stall_whose_search_does_not_end_is_reported_without_a_holder(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polling goes on meanwhile, and what the search finds in the end is added."""
    looking = _Looking(kernel)
    host.copies = {INODE: {HOLDER: [4]}}
    go_on = threading.Event()

    def pids() -> list[int]:
        go_on.wait()
        return [HOLDER]

    monkeypatch.setattr(procfs, "pids", pids)
    for _ in range(3):
        looking.at += SECOND
        looking.tracing._look(looking.at, MS)
        assert looking.tracing.ongoing == ()
    looking.at += 3 * SECOND
    looking.tracing._look(looking.at, MS)
    [stall] = looking.tracing.ongoing
    assert stall.holders == (UNSEEN,)
    go_on.set()
    assert looking.holder().pid == HOLDER


def test_a_search_that_the_kernel_refuses_is_counted(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = _Looking(kernel)
    files = looking.kernel.open_files = _Files()
    assert looking.holder().pid == HOLDER

    def refuse(*_arguments: object) -> dict[int, list[Copy]]:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(files, "holders", refuse)
    assert looking.holder().pid == HOLDER
    assert looking.tracing.counters()["searches_cut"] == 1


def test_a_holder_of_many_pipes_is_looked_at_once(
    kernel: list[_Kernel], host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = _Looking(kernel)
    looking.kernel.open_files = _Files()
    looking.kernel.waiting = _crowd(60)
    looking.kernel.known[HOLDER] = looking.process()
    looking.kernel.known[HOLDER].may_hold.words[0] = (1 << 64) - 1
    asked: list[int] = []

    def is_in_exec(pid: int) -> bool:
        asked.append(pid)
        return False

    monkeypatch.setattr(procfs, "is_in_exec", is_in_exec)
    looking.look()
    assert asked == [HOLDER]
