# SPDX-License-Identifier: Apache-2.0
"""agent.tracing.earlier: findings of /proc become stalls that are followed until they end."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any, Optional, Union

import pytest

from agent import snapshot
from agent.model import Cause, Confirmation, Stall, StuckExec
from agent.tracing import earlier
from agent.tracing.background import Budget
from agent.tracing.earlier import EarlierHangs, Seen

_SECOND = 1_000_000_000


def _finding(pid: int, inode: int, certain: bool = True) -> snapshot.Finding:
    holder = snapshot.Holder(99, b"worker", (7,), "forked")
    return snapshot.Finding(
        time=time.time() - 60,
        pid=pid,
        tid=pid + 1,
        comm=b"app",
        child=None,
        child_comm=b"",
        read_fd=5,
        write_fd=None,
        holders=(holder,),
        certain=certain,
        evidence=(),
        pipe=f"pipe:[{inode}]",
    )


def _wait(pid: int, child: int, kind: str = "own_child", age: float = 60) -> snapshot.Wait:
    since = time.time() - age
    return snapshot.Wait(kind, time.time(), pid, pid + 1, b"app", child, b"app", "it waits", since=since)


class _Host:
    """What its searches find; calls are the system calls of its threads."""

    def __init__(self) -> None:
        self.findings: list[snapshot.Finding] = []
        self.waits: list[snapshot.Wait] = []
        self.searched: list[set[int]] = []
        self.in_time = True
        self.calls: dict[int, bytes] = {}
        self.now = time.monotonic_ns()
        self.known_pipes: set[int] = set()
        self.known_children: set[int] = set()
        self.hangs = EarlierHangs(search=self._search)

    def _search(
        self, pids: Collection[int], budget: Budget
    ) -> tuple[list[snapshot.Finding], list[snapshot.Wait]]:
        self.searched.append(set(pids))
        if not self.in_time:
            raise TimeoutError

        def is_asked(found: Union[snapshot.Finding, snapshot.Wait]) -> bool:
            return 1 in pids or found.pid in pids

        return list(filter(is_asked, self.findings)), list(filter(is_asked, self.waits))

    def see(self, seconds: float = 2) -> Seen:
        """Look after that time, when a search that was running is over."""
        running = self.hangs._background._running
        if running is not None:
            running.done.wait()
        self.now += int(seconds * _SECOND)
        return self.hangs.look(self.now, _SECOND, lambda: (self.known_pipes, self.known_children))

    def look(self, seconds: float = 2) -> tuple[list[Stall], list[Stall]]:
        """As ``see``, only the stalls."""
        seen = self.see(seconds)
        return seen.stalls, seen.reports


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Host]:
    made = _Host()
    monkeypatch.setattr(earlier, "_call", lambda pid, tid: made.calls.get(tid, b"0 0x5"))
    monkeypatch.setattr(earlier, "identify", lambda pid, now: None)
    monkeypatch.setattr("agent.host.procfs.is_alive", lambda pid: True)
    monkeypatch.setattr("agent.host.procfs.has_exited", lambda pid: False)
    yield made
    made.hangs.close()


def _search_host(host: _Host) -> tuple[list[Stall], list[Stall]]:
    host.hangs.search_soon()
    host.look()
    return host.look()


def test_nothing_is_searched_unless_asked(host: _Host) -> None:
    assert host.look() == ([], [])
    assert host.look() == ([], [])
    assert host.searched == []


def test_a_finding_becomes_a_stall_that_is_reported_once(host: _Host) -> None:
    host.findings = [_finding(10, 123)]
    ongoing, reports = _search_host(host)
    [stall] = ongoing
    assert reports == [stall]
    assert (stall.spawn.pid, stall.spawn.read_tid, stall.spawn.comm, stall.ended) == (10, 11, b"app", None)
    assert host.now - stall.began > 55 * _SECOND
    [holder] = stall.holders
    assert (holder.pid, holder.comm, holder.fds, holder.cause) == (99, b"worker", (7,), Cause.FORKED)
    assert holder.confirmation is Confirmation.CONFIRMED
    assert host.look() == ([stall], [])
    assert host.searched == [{1}]


@pytest.mark.parametrize("certain,known", [(False, None), (True, 123)])
def test_what_is_uncertain_or_known_is_not_followed(host: _Host, certain: bool, known: Optional[int]) -> None:
    host.findings = [_finding(10, 123, certain)]
    if known is not None:
        host.known_pipes = {known}
    assert _search_host(host) == ([], [])


def test_it_ends_when_a_second_search_does_not_find_it(host: _Host) -> None:
    host.findings = [_finding(10, 123), _finding(20, 456)]
    [first, second], _ = _search_host(host)
    host.findings.pop(0)
    host.calls[11] = b"running"
    host.look()  # doubts it, and searches that process only
    ongoing, reports = host.look()
    assert host.searched == [{1}, {10}]
    assert ongoing == [second]
    [ended] = reports
    assert ended.spawn == first.spawn
    assert ended.ended is not None and first.began < ended.ended <= host.now


def test_it_continues_if_the_second_search_finds_it(host: _Host) -> None:
    host.findings = [_finding(10, 123)]
    [stall], _ = _search_host(host)
    host.calls[11] = b"7 0x1"  # in poll for a moment
    host.look()
    ongoing, reports = host.look()
    assert [each.spawn for each in ongoing] == [stall.spawn]
    assert reports == []


def test_searches_of_the_host_are_rare_when_they_are_slow(host: _Host) -> None:
    _search_host(host)
    assert host.searched == [{1}]
    host.hangs._background.used = 5 * _SECOND
    _search_host(host)
    assert host.searched == [{1}]
    host.look(100)
    host.look()
    assert host.searched == [{1}, {1}]


def test_what_ended_a_moment_ago_is_reported_at_the_end(host: _Host) -> None:
    host.findings = [_finding(10, 123), _finding(20, 456)]
    [first, second], _ = _search_host(host)
    host.findings.pop(0)
    host.calls[11] = b""
    [ended], [] = host.hangs.finish(host.now + _SECOND)
    assert ended.spawn == first.spawn and ended.ended == host.now + _SECOND
    assert host.hangs.finish(host.now + _SECOND) == ([], [])
    assert host.searched == [{1}, {10}]
    assert [each.spawn for each in host.look()[0]] == [second.spawn]


def test_one_search_serves_all_that_may_have_ended(host: _Host) -> None:
    host.findings = [_finding(pid, 100 + pid) for pid in range(10, 400, 10)]
    _search_host(host)
    host.calls = dict.fromkeys(range(11, 401, 10), b"")
    host.findings = []
    host.look()
    assert host.searched == [{1}, set(range(10, 400, 10))]
    assert len(host.look()[1]) == 39


def test_a_look_checks_some_of_very_many(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check reads two files of /proc; the next look goes on with the others."""
    host.findings = [_finding(10 * number, 100 + number) for number in range(1, 1001)]
    _search_host(host)
    checked: list[int] = []

    def call(pid: int, tid: int) -> bytes:
        checked.append(pid)
        return b"0 0x5"

    monkeypatch.setattr(earlier, "_call", call)
    for seconds in (2, 0.25, 0.25, 0.25, 0.25):
        before = len(checked)
        host.look(seconds)
        assert len(checked) - before == earlier._CHECKS
    assert len(set(checked)) == 1000


def test_a_search_that_takes_too_long_ends_nothing(host: _Host) -> None:
    host.findings = [_finding(10, 123)]
    [stall], _ = _search_host(host)
    host.calls[11], host.in_time, host.findings = b"", False, []
    host.look()
    assert host.look() == ([stall], [])
    assert host.hangs.cut == 1
    assert host.hangs.finish(host.now) == ([], [])
    host.in_time = True
    host.look()
    assert [each.ended is not None for each in host.look()[1]] == [True]


# -- own children --


def _search_for_children(host: _Host) -> Seen:
    host.hangs.search_soon()
    host.see()
    return host.see()


@pytest.mark.parametrize("kind", ["own_child", "vfork"])
def test_an_own_child_is_reported_once(host: _Host, kind: str) -> None:
    host.waits = [_wait(10, 99, kind)]
    seen = _search_for_children(host)
    [stuck] = seen.stuck
    assert seen.stuck_reports == [stuck]
    assert (seen.stalls, seen.reports) == ([], [])
    assert isinstance(stuck, StuckExec)
    assert (stuck.spawn.pid, stuck.spawn.tid, stuck.spawn.child, stuck.wait["kind"]) == (10, 11, 99, kind)
    assert stuck.spawn.forked is not None and host.now - stuck.spawn.forked > 55 * _SECOND
    assert host.see()[1:] == ([stuck], [], [])


@pytest.mark.parametrize("changes", [{"kind": "output"}, {"kind": "child"}, {"child": 50}])
def test_other_waits_and_known_children_are_not_followed(host: _Host, changes: dict[str, Any]) -> None:
    host.known_children = {50}
    host.waits = [_wait(10, 99)._replace(**changes)]
    assert _search_for_children(host) == ([], [], [], [])


def test_a_young_own_child_is_reported_when_it_is_late(host: _Host) -> None:
    """What it did when it was young was normal, so it is looked at again."""
    host.waits = [_wait(10, 99, age=0)._replace(normal=True)]
    host.hangs.search_soon()
    host.see()
    assert host.see(0)[1:] == ([], [], [])
    host.waits = [_wait(10, 99)]
    for _ in range(2):  # it is found to be late, and searched for
        assert host.see()[1:] == ([], [], [])
    seen = host.see()
    assert [stuck.wait["normal"] for stuck in seen.stuck_reports] == [False]
    assert seen.stuck == seen.stuck_reports
    assert host.searched == [{1}, {10}]


def test_a_young_own_child_that_has_called_exec_is_not_reported(host: _Host) -> None:
    host.waits = [_wait(10, 99, age=0)._replace(normal=True)]
    host.hangs.search_soon()
    host.see()
    host.see(0)
    host.waits = []
    for _ in range(3):
        assert host.see() == ([], [], [], [])
    assert host.searched == [{1}, {10}]
    assert not host.hangs._followed


def test_an_own_child_is_followed_until_it_calls_exec(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.host.procfs.has_not_execed", lambda pid: True)
    host.waits = [_wait(10, 99), _wait(20, 98)]
    first, _second = _search_for_children(host).stuck_reports
    host.waits.pop(0)
    host.calls[11] = b"running"
    assert len(host.see().stuck) == 2  # doubts it, and searches that process only
    seen = host.see()
    assert [stuck.spawn.pid for stuck in seen.stuck] == [20]
    [ended] = seen.stuck_reports
    assert (ended.spawn.pid, ended.wait["state"], ended.wait["id"]) == (10, "ended", first.wait["id"])
    assert ended.wait["ending"] == "the thread no longer waits for its child"
    assert host.searched == [{1}, {10}]
    host.waits = []
    monkeypatch.setattr("agent.host.procfs.is_alive", lambda pid: pid != 98)
    monkeypatch.setattr("agent.host.procfs.has_exited", lambda pid: pid == 98)
    host.see()
    [ended] = host.see().stuck_reports
    assert "98" in ended.wait["ending"] and "has exited" in ended.wait["ending"]
    assert host.see() == ([], [], [], [])


def test_the_end_of_an_own_child_at_the_end_of_tracing(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.waits = [_wait(10, 99)]
    _search_for_children(host)
    assert host.hangs.finish(host.now) == ([], [])
    host.waits = []
    host.calls[11] = b"running"
    stalls, [ended] = host.hangs.finish(host.now)
    assert (stalls, ended.wait["state"]) == ([], "ended")
    assert host.hangs.finish(host.now) == ([], [])
