# SPDX-License-Identifier: Apache-2.0
"""agent.tracing.earlier: findings of /proc become stalls that are followed until they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional

import pytest

from agent import snapshot
from agent.model import Cause, Confirmation, Stall
from agent.tracing import earlier
from agent.tracing.earlier import EarlierStalls

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


class _Host:
    """What its searches find; calls are the system calls of its threads."""

    def __init__(self) -> None:
        self.findings: list[snapshot.Finding] = []
        self.searched: list[int] = []
        self.calls: dict[int, bytes] = {}
        self.now = time.monotonic_ns()
        self.known_pipes: set[int] = set()
        self.stalls = EarlierStalls(search=self._search)

    def _search(self, pid: int) -> list[snapshot.Finding]:
        self.searched.append(pid)
        return [finding for finding in self.findings if pid in (1, finding.pid)]

    def look(self, seconds: float = 2) -> tuple[list[Stall], list[Stall]]:
        """After that time, when a search that was running is over."""
        running = self.stalls._running
        if running is not None:
            running.result()
        self.now += int(seconds * _SECOND)
        return self.stalls.look(self.now, _SECOND, lambda: self.known_pipes)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Host]:
    made = _Host()
    monkeypatch.setattr(earlier, "_call", lambda pid, tid: made.calls.get(tid, b"0 0x5"))
    monkeypatch.setattr(earlier, "identify", lambda pid, now: None)
    monkeypatch.setattr("agent.host.procfs.is_alive", lambda pid: True)
    yield made
    made.stalls.close()


def _search_host(host: _Host) -> tuple[list[Stall], list[Stall]]:
    host.stalls.search_soon()
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
    assert host.searched == [1]


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
    assert host.searched == [1, 10]
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
    assert host.searched == [1]
    host.stalls._next_search = host.now + 100 * _SECOND
    _search_host(host)
    assert host.searched == [1]
    host.look(100)
    host.look()
    assert host.searched == [1, 1]


def test_what_ended_a_moment_ago_is_reported_at_the_end(host: _Host) -> None:
    host.findings = [_finding(10, 123), _finding(20, 456)]
    [first, second], _ = _search_host(host)
    host.findings.pop(0)
    host.calls[11] = b""
    [ended] = host.stalls.finish(host.now + _SECOND)
    assert ended.spawn == first.spawn and ended.ended == host.now + _SECOND
    assert host.stalls.finish(host.now + _SECOND) == []
    assert host.searched == [1, 10]
    assert [each.spawn for each in host.look()[0]] == [second.spawn]
