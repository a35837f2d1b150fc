# SPDX-License-Identifier: Apache-2.0
"""Find hangs that began before the probes were attached, and follow them until they end.

The kernel side knows a wait only if it saw the pipe being made.  A look at ``/proc`` finds the others, stalls
and own children that have not called exec: when tracing starts, and again after the tracer has lost records
or was itself stopped for a while.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from agent import snapshot
from agent.host import procfs
from agent.host.identity import identify
from agent.model import Cause, Confirmation, Holder, Spawn, Stall, StuckExec
from agent.tracing.background import Background, Budget
from agent.tracing.stuckexecs import KINDS, LATE_NS, end_of

__all__ = ["EarlierHangs", "Seen"]

_INIT = 1
_CHECK_NS = 1_000_000_000
_CHECKS = 200
"""Hangs that one look checks, those that were not checked for the longest time first."""
_SEARCH_SHARE, _DOUBT_SHARE = 20, 5
"""Searches take at most this fraction (1/N) of a core: of all processes, and of those whose hangs may have
ended."""
_BUDGET_NS = 10_000_000_000
_LAST_BUDGET_NS = 1_000_000_000

_Found = tuple[Collection[snapshot.Finding], Collection[snapshot.Wait]]
_Known = tuple[Collection[int], Collection[int]]
_Hang = Union[Stall, StuckExec]


class Seen(NamedTuple):
    """The hangs in progress, and those to report: old enough for the first time, or ended."""

    stalls: list[Stall]
    stuck: list[StuckExec]
    reports: list[Stall]
    stuck_reports: list[StuckExec]


@dataclass
class _Followed:
    """call: the system call in which the thread is blocked; doubted: when it was first seen elsewhere.

    wait: of an own child; end: what /proc showed of its end when it was first doubted, while its child may
    still be a zombie.
    """

    hang: _Hang
    call: bytes
    checked: int
    wait: Optional[snapshot.Wait] = None
    doubted: Optional[int] = None
    end: Optional[StuckExec] = None
    reported: bool = False

    def doubt(self, now: int) -> None:
        """Note that it seems to have ended."""
        if self.doubted is None:
            self.doubted = now
            if self.wait is not None:
                self.end = end_of(self.wait, self.hang.spawn)


@dataclass(frozen=True)
class _Searched:
    """What is in these processes and their descendants; asked: when the search was requested."""

    pids: frozenset[int]
    asked: int
    found: _Found


class EarlierHangs:
    """The hangs that only ``/proc`` shows; ``look`` is called repeatedly, and never waits for a search.

    pids: these processes and their descendants are searched, empty: the whole host.
    search(pids, budget) returns the findings and the waits in processes and their descendants.
    """

    def __init__(
        self,
        pids: Collection[int] = (),
        search: Callable[[Collection[int], Budget], _Found] = snapshot.survey,
    ) -> None:
        self._pids = frozenset(pids) or frozenset({_INIT})
        self._search = search
        self._background: Background[_Searched] = Background("earlier", _BUDGET_NS)
        self._is_due = False
        self._followed: dict[int, _Followed] = {}

    @property
    def cut(self) -> int:
        """The number of searches that left something out."""
        return self._background.cut

    def search_soon(self) -> None:
        """Have all processes searched when searches have not taken more than their share of the time."""
        self._is_due = True

    def close(self) -> None:
        """End a search that is running."""
        self._background.close()

    def look(self, now: int, ongoing_ns: int, known: Callable[[], _Known]) -> Seen:
        """Return what there is now.

        ongoing_ns: the age from which a stall is reported.
        known: returns the inodes of the pipes that the kernel side follows, and the own children that have
        not let go.
        """
        reports: list[Stall] = []
        stuck_reports: list[StuckExec] = []
        searched = self._background.take()
        if searched is not None:
            reports, stuck_reports = self._merge(searched, now, known() if any(searched.found) else ((), ()))
        self._check(now)
        self._begin_search(now)
        for one in self._followed.values():
            if one.reported or now - _began(one.hang) < (
                ongoing_ns if isinstance(one.hang, Stall) else LATE_NS
            ):
                continue
            if isinstance(one.hang, Stall):
                reports.append(one.hang)
            elif _is_late(one.hang, now):
                stuck_reports.append(one.hang)
            else:  # it was young: another search finds out what it does now
                one.doubt(now)
                continue
            one.reported = True
        hangs = [one.hang for one in self._followed.values()]
        return Seen(
            [hang for hang in hangs if isinstance(hang, Stall)],
            [hang for hang in hangs if isinstance(hang, StuckExec) and _is_late(hang, now)],
            reports,
            stuck_reports,
        )

    def finish(self, now: int) -> tuple[list[Stall], list[StuckExec]]:
        """Return those that have ended since the last look; it waits for a search of their processes."""
        doubted = [one for one in self._followed.values() if not _is_still_there(one)]
        for one in doubted:
            one.doubt(now)
        pids = frozenset(one.hang.spawn.pid for one in doubted)
        if not pids:
            return [], []
        try:
            searched = self._searched(pids, now, Budget(_LAST_BUDGET_NS))
        except TimeoutError:
            return [], []  # it is not known whether they have ended
        return self._merge(searched, now, ((), ()))

    def _check(self, now: int) -> None:
        """Doubt the hangs whose thread is no longer in its system call."""
        due = [
            one for one in self._followed.values() if one.doubted is None and now >= one.checked + _CHECK_NS
        ]
        for one in sorted(due, key=lambda one: one.checked)[:_CHECKS]:
            one.checked = now
            if not _is_still_there(one):
                one.doubt(now)

    def _begin_search(self, now: int) -> None:
        """Search all processes when that is due, otherwise those whose hangs may have ended."""
        doubted = {one.hang.spawn.pid for one in self._followed.values() if one.doubted is not None}
        if self._is_due and self._background.is_free(now, _SEARCH_SHARE):
            self._is_due = False
            pids = self._pids
        elif doubted and self._background.is_free(now, _DOUBT_SHARE):
            pids = frozenset(doubted)
        else:
            return
        self._background.begin(now, lambda budget: self._searched(pids, now, budget))

    def _searched(self, pids: frozenset[int], asked: int, budget: Budget) -> _Searched:
        return _Searched(pids, asked, self._search(pids, budget))

    def _merge(self, searched: _Searched, now: int, known: _Known) -> tuple[list[Stall], list[StuckExec]]:
        """Follow what was found, and return what has ended and was reported (stalls: even if it was not)."""
        findings, waits = searched.found
        pipes, children = known
        seen: dict[int, tuple[_Hang, Optional[snapshot.Wait]]] = {}
        for finding in findings:
            inode = finding.inode
            if finding.certain and inode is not None and inode not in pipes:
                stall = _stall(finding, inode, now)
                before = self._followed.get(stall.spawn.id)
                if before is not None and isinstance(before.hang, Stall):
                    stall = dataclasses.replace(before.hang, holders=stall.holders)
                seen[stall.spawn.id] = stall, None
        for wait in waits:
            if wait.kind in KINDS and wait.child is not None and wait.child not in children:
                stuck = _stuck(wait, wait.child, now)
                seen[stuck.spawn.id] = stuck, wait
        for id_, (hang, found) in seen.items():
            before = self._followed.get(id_)
            call = _call(hang.spawn.pid, hang.spawn.read_tid)
            reported = before is not None and before.reported
            self._followed[id_] = _Followed(hang, call, now, found, reported=reported)
        stalls, ended = [], []
        for id_, one in list(self._followed.items()):
            if one.doubted is None or id_ in seen or one.doubted > searched.asked:
                continue
            if searched.pids == self._pids or one.hang.spawn.pid in searched.pids:
                del self._followed[id_]
                if isinstance(one.hang, Stall):
                    stalls.append(dataclasses.replace(one.hang, ended=one.doubted))
                elif one.reported and one.end is not None:
                    ended.append(one.end)
        return stalls, ended


def _began(hang: _Hang) -> int:
    return hang.began if isinstance(hang, Stall) else hang.spawn.created


def _is_late(hang: StuckExec, now: int) -> bool:
    return not hang.wait["normal"] and now - _began(hang) >= LATE_NS


def _is_still_there(one: _Followed) -> bool:
    """Whether the thread is in the same system call, and the holder, or the own child, lives."""
    spawn = one.hang.spawn
    pid = one.hang.culprit.pid if isinstance(one.hang, Stall) else spawn.child
    call = _call(spawn.pid, spawn.read_tid)
    return bool(call) and call == one.call and (pid is None or procfs.is_alive(pid))


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
            dumping=holder.dumping,
            identity=None if holder.pid is None else identify(holder.pid, now),
        )
        for holder in finding.holders
    )


def _stall(finding: snapshot.Finding, inode: int, now: int) -> Stall:
    """The stall of a finding.  It began when the pipe was made, or a moment later."""
    began = _monotonic(finding.time, now)
    spawn = dataclasses.replace(
        _spawn(snapshot.FOUND | inode, finding, began),
        inode=inode,
        child=finding.child or 0,
        read_fd=finding.read_fd,
        write_fd=-1 if finding.write_fd is None else finding.write_fd,
        read_began=began,
        held=True,
    )
    return Stall(
        spawn,
        began,
        None,
        _holders(finding, now),
        identity=identify(finding.pid, now),
        thread=procfs.thread_comm(finding.pid, finding.tid),
    )


def _stuck(wait: snapshot.Wait, child: int, now: int) -> StuckExec:
    """The own child of a wait.  It was forked when it started."""
    forked = _monotonic(wait.time if wait.since is None else wait.since, now)
    spawn = dataclasses.replace(
        _spawn(snapshot.FOUND | snapshot.FOUND >> 1 | child, wait, forked), child=child, forked=forked
    )
    return StuckExec(spawn, wait.to_object())


def _spawn(id_: int, found: Union[snapshot.Finding, snapshot.Wait], began: int) -> Spawn:
    """A spawn in flight; only its waiting thread is known."""
    return Spawn(
        id=id_,
        inode=0,
        pid=found.pid,
        tid=found.tid,
        comm=found.comm,
        child=0,
        child_comm=found.child_comm,
        read_fd=-1,
        write_fd=-1,
        created=began,
        forked=None,
        parent_closed=None,
        read_began=None,
        own_released=None,
        own_released_by=None,
        read_ended=None,
        outcome=None,
        reading=True,
        read_tid=found.tid,
    )


def _monotonic(when: float, now: int) -> int:
    """A wall-clock time, in the past, on the clock of now."""
    return min(now, now - int((time.time() - when) * 1e9))
