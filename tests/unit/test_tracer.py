"""agent.tracer: how the kernel side's records become plain data, and how many of them may wait."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any, Optional

import pytest

from agent import procfs, tracer
from agent.identity import identify
from agent.model import Cause, Identity, Outcome, Release, Spawn, Stall
from probes import loader, records, selftest
from probes.records import How, RecordKind, SlotFlag
from probes.stacks import Symbol

RELEASE: dict[str, Any] = {
    "kind": RecordKind.RELEASE,
    "how": How.EXIT,
    "id": 1,
    "ns": 2,
    "acquired": 3,
    "pid": 4,
    "tid": 5,
    "parent": 6,
    "forker": 7,
    "fd": 8,
    "flags": 0,
    "left": 9,
    "comm": b"worker",
}
SPAWN: dict[str, Any] = {
    "kind": RecordKind.SPAWN,
    "id": 1,
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
    "write_fd": 13,
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
)


def release(**changes: Any) -> Release:
    return tracer._release(records.Release(**{**RELEASE, **changes}))


def spawn(**changes: Any) -> Spawn:
    return tracer._spawn(records.Spawn(**{**SPAWN, **changes}))


def test_release() -> None:
    assert release() == Release(
        spawn_id=1,
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
        left=9,
        sure=True,
    )


@pytest.mark.parametrize(("how", "by"), [(How.CLOSE, "close"), (How.EXEC, "exec"), (How.EXIT, "exit")])
def test_how_a_copy_ended(how: How, by: str) -> None:
    assert release(how=how).by == by
    assert spawn(own_how=how).own_released_by == by


@pytest.mark.parametrize(
    ("flag", "changes"),
    [
        (SlotFlag.EXECED, {"execed": True}),
        (SlotFlag.DESCENDANT, {"descendant": True}),
        (SlotFlag.UNSURE, {"sure": False}),
        (SlotFlag.CLOEXEC_0 | SlotFlag.LET_GO, {}),
    ],
)
def test_flags_of_a_release(flag: SlotFlag, changes: dict[str, Any]) -> None:
    assert release(flags=flag) == dataclasses.replace(release(), **changes)


@pytest.mark.parametrize(("left", "told"), [(0, 0), (3, 3), (records.LEFT_UNKNOWN, None)])
def test_how_many_copies_were_left(left: int, told: Optional[int]) -> None:
    assert release(left=left).left == told


def test_where_the_stack_of_a_fork_is_kept() -> None:
    assert release().stack_id == 0
    assert release(stack=12).stack_id == 12


def test_spawn() -> None:
    assert spawn() == PLAIN


@pytest.mark.parametrize("time", ["forked", "parent_closed", "read_began", "own_released", "read_ended"])
def test_what_has_not_come_is_none(time: str) -> None:
    changes: dict[str, Any] = {time: None}
    assert spawn(**{time: 0}) == dataclasses.replace(PLAIN, **changes)


def test_a_spawn_in_flight() -> None:
    found = spawn(outcome=0, own_how=0)
    assert found.outcome is None
    assert found.own_released_by is None


@pytest.mark.parametrize("name", ["OK", "EXEC_FAILED", "ABANDONED"])
def test_outcome(name: str) -> None:
    assert spawn(outcome=records.Outcome[name]).outcome is Outcome[name]


@pytest.mark.parametrize("fact", ["reading", "held", "copy_lost", "read_cut"])
def test_facts_of_a_spawn(fact: str) -> None:
    changes: dict[str, Any] = {fact: True}
    assert spawn(**{fact: 1}) == dataclasses.replace(PLAIN, **changes)


def test_the_last_release_of_a_spawn() -> None:
    assert spawn().last_release is None
    assert spawn(last=records.Release(**RELEASE)).last_release == release()


def test_a_failed_exec() -> None:
    assert spawn(exec_error=2).exec_error == 2


def test_a_comm_is_the_bytes_that_the_kernel_has() -> None:
    assert spawn(comm=b"\xff\x1b").comm == b"\xff\x1b"
    assert release(comm=b"").comm == b""


class _Kernel:
    """In the place of the probes: a ring of three records, which come while others are judged."""

    sees_fd_tables = True

    def __init__(self, _options: object, receive: Callable[[records.Spawn], None]) -> None:
        self._receive = receive
        self._ring: list[records.Spawn] = []
        self.lost = 0

    def send(self, number: int) -> None:
        if len(self._ring) < 3:
            self._ring.append(_stalled(number))
        else:
            self.lost += 1

    def poll(self, _timeout_ms: int) -> None:
        for record in self._ring:
            self._receive(record)
        self._ring.clear()

    def spawns(self) -> list[records.Spawn]:
        return []

    def counters(self) -> dict[records.Counter, int]:
        return {records.Counter.RECORDS_LOST: self.lost}

    def counter(self, which: records.Counter) -> int:
        return self.lost if which is records.Counter.RECORDS_LOST else 0

    def misses(self) -> int:
        return 0


def _stalled(number: int, how: How = How.EXIT) -> records.Spawn:
    """A spawn with a foreign holder, and a pid that nobody has."""
    release = {**RELEASE, "id": number, "ns": 50_000_000, "left": 0, "how": how}
    times = {"created": 1, "forked": 2, "parent_closed": 3, "read_began": 4, "own_released": 5}
    spawn = {**SPAWN, **times, "id": number, "read_ended": 50_000_001, "pid": 1 << 30, "foreign_total": 1}
    return records.Spawn(**spawn, last=records.Release(**release))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[_Kernel]:
    made: list[_Kernel] = []

    def probes(*arguments: Any) -> _Kernel:
        made.append(_Kernel(*arguments))
        return made[0]

    monkeypatch.setattr(loader, "Probes", probes)
    return made


def test_records_that_come_while_stalls_are_judged_are_not_lost(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "_EMPTY_NS", 0)
    told: list[int] = []

    def tell(stall: Stall) -> None:
        told.append(stall.spawn.id)
        for number in (1, 2):
            if len(told) <= 20:
                kernel[0].send(stall.spawn.id * 2 + number)

    tracing = tracer.Tracer(tracer.TracerOptions(), tell)
    kernel[0].send(0)
    for _ in range(20):
        tracing.drain()
    assert sorted(told) == list(range(41))
    assert tracing.counters()["records_lost"] == 0


def test_records_that_wait_are_bounded_and_the_rest_is_lost(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "_MOST_RECORDS", 2)
    told: list[Stall] = []
    tracing = tracer.Tracer(tracer.TracerOptions(), told.append)
    for number in (1, 2, 3, 4):
        kernel[0].send(number)
    tracing.drain()
    assert [stall.spawn.id for stall in told] == [1, 2]
    assert tracing.counters()["records_lost"] == 2  # one in the ring, one here


@pytest.mark.parametrize(("noticed", "cause"), [(0, Cause.FORKED), (2, Cause.UNKNOWN)])
def test_a_lost_record_may_have_been_the_exec_of_a_holder(
    noticed: int, cause: Cause, kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spawn began at 1: what was lost before that was not."""
    now = noticed
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    told: list[Stall] = []
    tracing = tracer.Tracer(tracer.TracerOptions(), told.append)
    kernel[0].lost = 1
    tracing.run_once(0)
    kernel[0]._receive(_stalled(1, How.CLOSE))
    tracing.run_once(0)
    now = 1_000_000_000
    tracing.run_once(0)
    assert [stall.culprit.cause for stall in told] == [cause]


def test_all_of_proc_is_searched_only_when_a_holder_that_has_gone_was_not_the_end(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process has ended, and the kernel side is about to hear of it."""
    searched: list[int] = []

    def search(inodes: set[int]) -> dict[int, dict[int, list[int]]]:
        searched.extend(inodes)
        return {}

    monkeypatch.setattr(procfs, "find_holders", search)
    tracing = tracer.Tracer(tracer.TracerOptions(), lambda stall: None)
    times = {"created": 1, "forked": 2, "parent_closed": 3, "read_began": 4, "own_released": 5}
    waiting = records.Spawn(**{**SPAWN, **times, "read_ended": 0, "outcome": 0}, reading=1, held=1)
    monkeypatch.setattr(kernel[0], "spawns", lambda: [waiting])
    slot = records.Slot(id=waiting.id, fds=(12, -1, -1))
    gone = [(1 << 30, records.table_type(1)(born=2), slot)]
    monkeypatch.setattr(kernel[0], "holders", lambda: gone, raising=False)
    tracing._look(20_000_000_000)
    assert searched == []
    tracing._look(20_250_000_000)
    assert searched == [waiting.inode]


def test_a_long_stall_is_told_whatever_its_process_calls_itself(kernel: list[_Kernel]) -> None:
    told: list[Stall] = []
    tracing = tracer.Tracer(tracer.TracerOptions(), told.append)
    record = _stalled(1, How.EXIT)
    record.comm, record.read_ended = selftest.COMM, 60_000_000
    kernel[0]._receive(record)
    tracing.drain()
    assert [stall.spawn.comm for stall in told] == [selftest.COMM]


def test_a_forker_that_ends_while_names_are_looked_for_has_plain_addresses(
    kernel: list[_Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid may be another's by then, and the names with it."""
    ended = False

    def who(pid: int, seen: int) -> Optional[Identity]:
        return None if ended else identify(os.getpid(), time.monotonic_ns())

    def symbolise(pid: int, addresses: tuple[int, ...]) -> list[Symbol]:
        nonlocal ended
        ended = True
        return [Symbol("another", None)]

    monkeypatch.setattr(tracer, "symbolise", symbolise)
    monkeypatch.setattr(tracer, "identify", who)
    tracing = tracer.Tracer(tracer.TracerOptions(), lambda stall: None)
    monkeypatch.setattr(kernel[0], "fork_stack", lambda stack, born: (0x10,), raising=False)
    fork = tracing._look_up_fork(7, 1, 1)
    assert fork.stack is not None
    assert [frame.function for frame in fork.stack.frames] == ["0x10"]
    assert fork.missing == "fork: pid 7 has ended, so that addresses have no names"
