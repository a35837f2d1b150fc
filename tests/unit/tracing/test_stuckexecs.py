# SPDX-License-Identifier: Apache-2.0
"""agent.tracing.stuckexecs: candidates of the kernel side, confirmed by a look at /proc."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import pytest

from agent import snapshot
from agent.model import Spawn, StuckExec
from agent.tracing.background import Budget
from agent.tracing.stuckexecs import StuckExecs
from tests.unit.samples import spawn

_SECOND = 1_000_000_000


def _wait(kind: str, pid: int, child: int) -> snapshot.Wait:
    return snapshot.Wait(kind, time.time(), pid, pid, b"app", child, b"app", f"pid {pid} waits for {child}")


class _Host:
    """waits: what /proc shows of each process; looked: the processes of each look."""

    def __init__(self) -> None:
        self.waits: dict[int, list[snapshot.Wait]] = {}
        self.looked: list[set[int]] = []
        self.in_time = True
        self.now = time.monotonic_ns()
        self.stuck = StuckExecs(self._find)
        self.ended: list[StuckExec] = []

    def _find(self, pids: Collection[int], budget: Budget) -> list[snapshot.Wait]:
        self.looked.append(set(pids))
        if not self.in_time:
            raise TimeoutError
        return [wait for pid in pids for wait in self.waits.get(pid, [])]

    def look(self, *spawns: Spawn, seconds: float = 0.5) -> tuple[list[StuckExec], list[StuckExec]]:
        if self.stuck._background._running is not None:
            self.stuck._background._running.done.wait()
        self.now += int(seconds * _SECOND)
        confirmed, fresh, self.ended = self.stuck.look(self.now, spawns)
        return confirmed, fresh


@pytest.fixture
def host() -> Iterator[_Host]:
    made = _Host()
    yield made
    made.stuck.close()


@pytest.mark.parametrize("kind", ["own_child", "vfork"])
def test_a_confirmed_candidate_is_reported_once(host: _Host, kind: str) -> None:
    late = spawn(id=1, pid=10, child=11)
    host.waits[10] = [_wait("output", 10, 99), _wait(kind, 10, 11)]
    assert host.look(late) == ([], [])
    [stuck], [fresh] = host.look(late)
    assert stuck == fresh
    assert (stuck.spawn, stuck.wait["kind"]) == (late, kind)
    confirmed, fresh_now = host.look(late)
    assert (len(confirmed), fresh_now) == (1, [])
    assert host.look() == ([], [])


def test_a_worker_with_a_result_pipe_is_not_reported(host: _Host) -> None:
    worker = spawn(id=1, pid=10, child=11)
    host.waits[10] = [_wait("output", 10, 11), _wait("own_child", 10, 12)]
    for _ in range(10):
        assert host.look(worker) == ([], [])
    assert host.looked == [{10}]
    host.look(worker, seconds=60)
    host.look(worker)
    assert host.looked == [{10}, {10}]


def test_it_is_no_longer_stuck(host: _Host) -> None:
    late = spawn(id=1, pid=10, child=11)
    host.waits[10] = [_wait("own_child", 10, 11)]
    host.look(late)
    assert len(host.look(late)[0]) == 1
    host.waits[10] = []
    host.look(late, seconds=2)
    assert host.look(late) == ([], [])


def test_one_look_serves_all_spawns_of_all_processes(host: _Host) -> None:
    late = [spawn(id=number, pid=number % 7, child=number) for number in range(1, 50)]
    host.waits = {
        pid: [_wait("own_child", pid, one.child) for one in late if one.pid == pid] for pid in range(7)
    }
    host.look(*late)
    assert len(host.look(*late)[1]) == 49
    assert host.looked == [set(range(7))]


def test_a_look_is_bounded(host: _Host) -> None:
    late = [spawn(id=number, pid=number, child=1000 + number) for number in range(1, 101)]
    host.look(*late)
    host.look(*late)
    host.look(*late)
    assert [len(pids) for pids in host.looked] == [64, 36]


def test_a_look_that_takes_too_long_changes_nothing(host: _Host) -> None:
    late = spawn(id=1, pid=10, child=11)
    host.waits[10] = [_wait("own_child", 10, 11)]
    host.look(late)
    assert len(host.look(late)[0]) == 1
    host.in_time = False
    host.look(late, seconds=2)
    assert len(host.look(late)[0]) == 1
    assert len(host.looked) == 2


def test_looks_take_little_of_the_time(host: _Host) -> None:
    late = [spawn(id=1, pid=10, child=11)]
    host.look(*late)
    host.look(*late)
    host.stuck._background.used = _SECOND
    late.append(spawn(id=2, pid=20, child=21))
    host.look(*late, seconds=40)
    assert host.looked == [{10}]
    host.look(*late, seconds=20)
    host.look(*late)
    assert host.looked == [{10}, {10, 20}]


# -- the end --


def _confirmed(host: _Host, late: Spawn) -> StuckExec:
    host.waits[late.pid] = [_wait("own_child", late.pid, late.child)]
    host.look(late)
    [stuck], _ = host.look(late)
    return stuck


@pytest.mark.parametrize(
    ("by", "killed", "how"),
    [("exit", True, "was killed before its exec"), ("exec", False, "has called exec")],
)
def test_a_record_shows_how_it_ended(by: Any, killed: bool, how: str, host: _Host) -> None:
    late = spawn(id=1, pid=10, child=11)
    stuck = _confirmed(host, late)
    assert host.look() == ([], [])
    ago = 5 * _SECOND
    record = dataclasses.replace(late, own_released=host.now - ago, own_released_by=by, child_killed=killed)
    ended = host.stuck.end(record, host.now)
    assert ended is not None
    assert (ended.wait["id"], ended.wait["state"]) == (stuck.wait["id"], "ended")
    assert ended.wait["ending"].endswith(how)
    assert ended.wait["ended"] < stuck.wait["time"]
    assert host.stuck.end(record, host.now) is None
    host.look()
    host.look()
    assert host.ended == []


def test_an_exit_ends_the_wait_when_the_files_are_closed(host: _Host) -> None:
    late = spawn(id=1, pid=10, child=11)
    _confirmed(host, late)
    exited = host.now - 5 * _SECOND
    killed = dataclasses.replace(late, own_released=exited, own_released_by="exit", child_killed=True)
    record = dataclasses.replace(killed, read_ended=host.now - _SECOND)
    ended = host.stuck.end(record, host.now)
    assert ended is not None
    assert ended.wait["ending"].endswith("was killed before its exec, and has closed its files")
    assert time.time() - 2 < datetime.fromisoformat(ended.wait["ended"].replace("Z", "+00:00")).timestamp()


def test_without_a_record_the_next_look_reports_the_end_once(host: _Host) -> None:
    late = spawn(id=1, pid=10, child=1 << 22)
    stuck = _confirmed(host, late)
    host.waits[10] = []
    host.look(late, seconds=2)
    host.look(late)  # not confirmed any more, but in flight
    host.look()
    assert host.ended == []
    host.look()
    [ended] = host.ended
    assert (ended.wait["id"], ended.wait["state"]) == (stuck.wait["id"], "ended")
    assert "has exited" in ended.wait["ending"]
    host.look()
    assert host.ended == []


def test_the_end_of_one_that_was_not_reported_is_not_reported(host: _Host) -> None:
    late = spawn(id=1, pid=10, child=11)
    host.look(late)
    assert host.stuck.end(late, host.now) is None
    assert host.stuck.end(spawn(id=2), host.now) is None
