# SPDX-License-Identifier: Apache-2.0
"""Find stalls that began before the probes were attached, and follow them until they end.

The kernel side knows a wait only if it saw the pipe being made.  A look at ``/proc`` finds the others: when
tracing starts, and again after the tracer has lost records or was itself stopped for a while.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional

from agent import snapshot
from agent.host import procfs
from agent.host.identity import identify
from agent.model import Cause, Confirmation, Holder, Spawn, Stall

__all__ = ["EarlierStalls"]

_INIT = 1
_CHECK_NS = 1_000_000_000
_SEARCH_SHARE = 20
"""Searches of all processes take at most this fraction (1/N) of a core."""


@dataclass
class _Followed:
    """call: the system call in which the thread is blocked; doubted: when it was first seen elsewhere."""

    stall: Stall
    call: bytes
    doubted: Optional[int] = None
    reported: bool = False


@dataclass(frozen=True)
class _Searched:
    """The findings in these processes and their descendants; asked: when the search was requested."""

    pids: frozenset[int]
    asked: int
    findings: list[snapshot.Finding]
    took_ns: int


class EarlierStalls:
    """The stalls that only ``/proc`` shows; ``look`` is called repeatedly, and never waits for a search.

    pids: these processes and their descendants are searched, empty: the whole host.
    search(pid) returns the findings in a process and its descendants.
    """

    def __init__(
        self,
        pids: Collection[int] = (),
        search: Callable[[int], list[snapshot.Finding]] = snapshot.take,
    ) -> None:
        self._pids = frozenset(pids) or frozenset({_INIT})
        self._search = search
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="earlier")
        self._running: Optional[Future[_Searched]] = None
        self._is_due = False
        self._next_search = 0
        self._next_check = 0
        self._followed: dict[int, _Followed] = {}

    def search_soon(self) -> None:
        """Have all processes searched at the next look."""
        self._is_due = True

    def close(self) -> None:
        """Wait for a search that is running."""
        self._thread.shutdown()

    def look(
        self, now: int, ongoing_ns: int, known_pipes: Callable[[], Collection[int]]
    ) -> tuple[list[Stall], list[Stall]]:
        """Return the stalls in progress, and those to report: old enough for the first time, or ended.

        known_pipes: returns the inodes of the pipes that the kernel side follows.
        """
        reports = []
        if self._running is not None and self._running.done():
            searched = self._running.result()
            self._running = None
            if searched.pids == self._pids:
                self._next_search = now + _SEARCH_SHARE * searched.took_ns
            reports += self._merge(searched, now, known_pipes() if searched.findings else ())
        if now >= self._next_check:
            self._next_check = now + _CHECK_NS
            for followed in self._followed.values():
                if followed.doubted is None and not _is_still_there(followed):
                    followed.doubted = now
        if self._running is None:
            self._begin_search(now)
        for followed in self._followed.values():
            if not followed.reported and now - followed.stall.began >= ongoing_ns:
                followed.reported = True
                reports.append(followed.stall)
        return [followed.stall for followed in self._followed.values()], reports

    def finish(self, now: int) -> list[Stall]:
        """Return the stalls that have ended since the last look; it waits for a search of their processes."""
        doubted = [one for one in self._followed.values() if not _is_still_there(one)]
        for followed in doubted:
            followed.doubted = followed.doubted or now
        pids = frozenset(one.stall.spawn.pid for one in doubted)
        return self._merge(self._searched(pids, now), now, ()) if pids else []

    def _begin_search(self, now: int) -> None:
        """Search all processes when that is due, otherwise those whose stalls may have ended."""
        doubted = {one.stall.spawn.pid for one in self._followed.values() if one.doubted is not None}
        if self._is_due and now >= self._next_search:
            self._is_due = False
            pids = self._pids
        elif doubted:
            pids = frozenset(doubted)
        else:
            return

        self._running = self._thread.submit(self._searched, pids, now)

    def _searched(self, pids: frozenset[int], asked: int) -> _Searched:
        began = time.monotonic_ns()
        findings = [finding for pid in pids for finding in self._search(pid)]
        return _Searched(pids, asked, findings, time.monotonic_ns() - began)

    def _merge(self, searched: _Searched, now: int, known_pipes: Collection[int]) -> list[Stall]:
        """Follow what was found, and return the stalls that have ended."""
        seen = set()
        for finding in searched.findings:
            inode = finding.inode
            if not finding.certain or inode is None or inode in known_pipes:
                continue
            seen.add(inode)
            before = self._followed.get(inode)
            call = _call(finding.pid, finding.tid)
            stall = _stall(finding, inode, now) if before is None else _again(before.stall, finding, now)
            self._followed[inode] = _Followed(stall, call, reported=before is not None and before.reported)
        ended = []
        for inode, followed in list(self._followed.items()):
            if followed.doubted is None or inode in seen or followed.doubted > searched.asked:
                continue
            if searched.pids == self._pids or followed.stall.spawn.pid in searched.pids:
                del self._followed[inode]
                ended.append(dataclasses.replace(followed.stall, ended=followed.doubted))
        return ended


def _is_still_there(followed: _Followed) -> bool:
    """Whether the thread is in the same system call, and the holder lives."""
    spawn, holder = followed.stall.spawn, followed.stall.culprit
    call = _call(spawn.pid, spawn.read_tid)
    return bool(call) and call == followed.call and (holder.pid is None or procfs.is_alive(holder.pid))


def _call(pid: int, tid: int) -> bytes:
    """Number, arguments and stack of the system call in which a thread is blocked; empty: it is not."""
    try:
        return procfs.contents(f"/proc/{pid}/task/{tid}/syscall")
    except OSError:
        return b""


def _holders(finding: snapshot.Finding, now: int) -> tuple[Holder, ...]:
    return tuple(
        Holder(
            pid=holder.pid,
            comm=holder.comm,
            fds=holder.fds,
            cause=Cause(holder.cause),
            acquired=None,
            released=None,
            confirmation=None if holder.pid is None else Confirmation.CONFIRMED,
            seen=None if holder.pid is None else now,
            identity=None if holder.pid is None else identify(holder.pid, now),
        )
        for holder in finding.holders
    )


def _stall(finding: snapshot.Finding, inode: int, now: int) -> Stall:
    """The stall of a finding.  It began when the pipe was made, or a moment later."""
    began = min(now, now - int((time.time() - finding.time) * 1e9))
    spawn = Spawn(
        id=snapshot.FOUND | inode,
        inode=inode,
        pid=finding.pid,
        tid=finding.tid,
        comm=finding.comm,
        child=finding.child or 0,
        child_comm=finding.child_comm,
        read_fd=finding.read_fd,
        write_fd=-1 if finding.write_fd is None else finding.write_fd,
        created=began,
        forked=None,
        parent_closed=None,
        read_began=began,
        own_released=None,
        own_released_by=None,
        read_ended=None,
        outcome=None,
        reading=True,
        held=True,
        read_tid=finding.tid,
    )
    identity = identify(finding.pid, now)
    return Stall(spawn, began, None, _holders(finding, now), identity=identity)


def _again(stall: Stall, finding: snapshot.Finding, now: int) -> Stall:
    """The same stall, with the holders that it has now."""
    return dataclasses.replace(stall, holders=_holders(finding, now))
