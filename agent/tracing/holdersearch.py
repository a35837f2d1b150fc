# SPDX-License-Identifier: Apache-2.0
"""Find who holds the write ends of pipes now, and why, by a search of the host's open files."""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from agent import diagnosis, snapshot
from agent.host import procfs
from agent.model import Cause, Confirmation, Holder, Release, Spawn, stall_began
from agent.tracing.background import Background, Budget
from agent.tracing.known import KnownSpawns
from probes import loader
from probes.records import EXPECTED

__all__ = ["PATIENCE_NS", "HolderSearch", "youngest"]

_NEW_SHARE, _YOUNG_SHARE, _OLD_SHARE = 5, 20, 200
"""Searches take at most 1/N of the time: for a stall that has not been searched for, for one that is younger
than _YOUNG_NS, and for an older one."""
_YOUNG_NS = 2_000_000_000
_BUDGET_NS = 4_000_000_000
PATIENCE_NS = 10_000_000
"""How long a look waits for the search that it has begun: most end sooner."""
_CLOSING_NS = 1_000_000_000
"""The longest that the kernel is expected to suspend a thread in the middle of a close."""
_MAX_COPIES = 1 << 15
"""Copies that one search takes in, divided between the pipes that it is asked about."""
_FEW = 4
"""Copies of one pipe that are taken in even so."""

_Copies = dict[int, dict[int, list[int]]]
"""By spawn id: fds by pid."""


@dataclass(frozen=True)
class _Asked:
    """A spawn, and the holders that the search before has found."""

    spawn: Spawn
    before: tuple[Holder, ...]


@dataclass(frozen=True)
class _Found:
    """The foreign holders by spawn id; at: when the search began.

    missed: the processes that it did not look at, None: it cannot tell which.
    """

    at: int
    holders: Mapping[int, tuple[Holder, ...]]
    missed: Optional[Collection[int]] = ()


class HolderSearch:
    """Searches with the kernel's iterator over open files, or in /proc where the kernel has none.

    A search runs in a thread of its own and serves all spawns that are due.  What it finds is added to what
    is known of each spawn.
    """

    def __init__(self, probes: loader.Probes, lock: threading.Lock, known: KnownSpawns) -> None:
        """lock: held while maps are read."""
        self._probes = probes
        self._lock = lock
        self._known = known
        self._background: Background[_Found] = Background("holdersearch", _BUDGET_NS)
        self._next_pid = 0
        self.confirmations = dict.fromkeys(Confirmation, 0)

    @property
    def cut(self) -> int:
        """The number of searches that left something out."""
        return self._background.cut

    @property
    def is_running(self) -> bool:
        """Whether a search has not ended."""
        return self._background.is_running

    def close(self) -> None:
        """End a search that is running."""
        self._background.close()

    def search(self, waiting: Collection[Spawn], now: int) -> None:
        """Search for the holders of those that are due, unless searches have had their share of the time."""
        if not self._background.is_free(now, _NEW_SHARE):
            return
        asked = [
            _Asked(spawn, self._known.of(spawn.id).holding) for spawn in waiting if self._is_due(spawn, now)
        ]
        if asked:
            self._background.begin(now, lambda budget: self._search(asked, now, budget))

    def take(self, patience_ns: int = PATIENCE_NS) -> None:
        """Add what a search has found to what is known; wait at most that long for its end."""
        found = self._background.take(patience_ns)
        if found is None:
            return
        for spawn_id, holders in found.holders.items():
            known = self._known.get(spawn_id)
            if known is None:
                continue  # it has been judged
            for holder in holders:
                assert holder.pid is not None
                if holder.seen is None:
                    continue
                if holder.pid not in known.seen:
                    self.confirmations[Confirmation.CONFIRMED] += 1
                known.seen[holder.pid] = found.at
            if found.missed is None or found.missed:
                pids = {holder.pid for holder in holders}
                holders += tuple(
                    each
                    for each in known.holding
                    if each.pid not in pids and (found.missed is None or each.pid in found.missed)
                )
            known.holding = holders
            known.searched = found.at
            known.empty_searches = 0 if holders else known.empty_searches + 1

    def _is_due(self, spawn: Spawn, now: int) -> bool:
        searched = self._known.of(spawn.id).searched
        share = _YOUNG_SHARE if youngest([spawn], now) < _YOUNG_NS else _OLD_SHARE
        return searched is None or now >= searched + share * self._background.used

    # -- in the thread of the search --

    def _search(self, asked: Sequence[_Asked], at: int, budget: Budget) -> _Found:
        spawns = [each.spawn for each in asked]
        missed: Optional[Collection[int]]
        try:
            if self._probes.open_files is not None:
                copies, missed = self._by_iterator(spawns, budget)
            else:
                copies, missed = self._in_proc(spawns, budget)
        except OSError:  # no memory, or no fd, for a pass
            budget.leave_out()
            copies, missed = {}, None
        seen = _Processes(self._probes, self._lock)
        found = {}
        for each in asked:
            holders = self._holders(each, copies.get(each.spawn.id, {}), at, seen)
            # After the end of the read, there is no copy to find: what the search before has found counts.
            if holders or self._is_reading(each.spawn):
                found[each.spawn.id] = holders
        return _Found(at, found, missed)

    def _by_iterator(
        self, spawns: Sequence[Spawn], budget: Budget
    ) -> tuple[_Copies, Optional[Collection[int]]]:
        open_files = self._probes.open_files
        assert open_files is not None
        by_pipe = {spawn.pipe: spawn for spawn in spawns}
        copies: _Copies = {}
        most = max(_FEW, _MAX_COPIES // len(spawns))
        inodes = {pipe: spawn.inode for pipe, spawn in by_pipe.items()}
        for pipe, found in open_files.holders(inodes, budget.is_spent, most).items():
            holders = copies.setdefault(by_pipe[pipe].id, {})
            for copy in found:
                holders.setdefault(copy.pid, []).append(copy.fd)
        if open_files.left_out:
            budget.leave_out()
            return copies, None
        return copies, ()

    def _in_proc(self, spawns: Sequence[Spawn], budget: Budget) -> tuple[_Copies, Collection[int]]:
        """Begin with the process at which the time was over before, so that each gets its turn."""
        inodes = ((self._inode(spawn), spawn.id) for spawn in spawns)
        ids = {inode: spawn_id for inode, spawn_id in inodes if inode is not None}
        links = procfs.pipe_links(ids)
        copies: _Copies = {}
        pids = procfs.pids()
        first = next((at for at, pid in enumerate(pids) if pid >= self._next_pid), 0)
        pids = pids[first:] + pids[:first]
        missed = set()
        for at, pid in enumerate(pids):
            if budget.is_spent():
                self._next_pid = pid
                missed.update(pids[at:])
                break
            found, complete = procfs.write_ends(pid, links, budget.max_fds)
            if not complete:
                budget.leave_out()
                missed.add(pid)
            for inode, fds in found.items():
                copies.setdefault(ids[inode], {})[pid] = fds
        return copies, missed

    def _inode(self, spawn: Spawn) -> Optional[int]:
        """The errpipe's inode, None: unknown."""
        if spawn.inode:
            return spawn.inode
        inode = procfs.pipe_inode(spawn.pid, spawn.read_fd)
        # Once the parent has read, the fd can be the errpipe of its next spawn.
        return inode if self._is_reading(spawn) else None

    def _is_reading(self, spawn: Spawn) -> bool:
        with self._lock:
            return self._probes.is_reading(spawn.place, spawn.id)

    def _holders(
        self, asked: _Asked, copies: Mapping[int, Sequence[int]], at: int, seen: _Processes
    ) -> tuple[Holder, ...]:
        exiting = {release.pid: release for release in asked.spawn.releases if _is_exiting(release)}
        found = (
            _exiting(exiting[pid], fds, at) if pid in exiting else self._holder(asked, pid, fds, at, seen)
            for pid, fds in copies.items()
            if not _is_family(asked.spawn, pid, seen)
        )
        holders = tuple(holder for holder in found if holder is not None)
        if not holders and _are_the_rest(exiting, asked.spawn):
            return tuple(_exiting(release) for release in exiting.values())
        return holders

    def _holder(
        self, asked: _Asked, pid: int, fds: Sequence[int], at: int, seen: _Processes
    ) -> Optional[Holder]:
        """A holder whose copy is open now, with what the kernel side knows of how it got the copy.

        None: it has released its copy since the search. The kernel side then does not know it any more, so
        the copy would look like one that was passed on.
        """
        spawn = asked.spawn
        process = seen.row(pid)
        holder = Holder(
            pid=pid,
            comm=seen.comm(pid),
            fds=tuple(fds),
            cause=self._cause_of_unseen(asked, pid, at, seen),
            acquired=None,
            released=None,
            confirmation=Confirmation.CONFIRMED,
            seen=at,
            dumping=seen.is_dumping(pid),
        )
        if process is None or process.shared or process.born <= spawn.created:
            return self._if_open(holder, spawn)
        if not self._probes.sees_fd_tables:  # then may_hold is not known
            if holder.cause is Cause.UNKNOWN:
                return holder
            cause = Cause.LATE_EXEC if process.expected & EXPECTED else Cause.FORKED
            return _forked(holder, process)._replace(cause=cause)
        if not self._probes.may_hold(process, spawn.place, spawn.created):
            return self._if_open(holder, spawn)
        return _forked(holder, process)._replace(
            cause=diagnosis.cause_of(
                descendant=spawn.child in process.parent and process.born >= (spawn.forked or 0),
                execed=process.execed > 0,
                expected=bool(process.expected & EXPECTED) or (not process.execed and seen.is_in_exec(pid)),
            ),
        )

    def _if_open(self, holder: Holder, spawn: Spawn) -> Optional[Holder]:
        """A holder without a bit; None if it has released its copy since the search.

        If the kernel side does not follow all copies, a missing bit says nothing.
        """
        assert holder.pid is not None
        follows = self._probes.sees_fd_tables and not spawn.copy_lost
        return None if follows and not procfs.still_has(holder.pid, holder.fds, spawn.inode) else holder

    def _cause_of_unseen(self, asked: _Asked, pid: int, at: int, seen: _Processes) -> Cause:
        """The cause for a holder whose copy the kernel side did not see it acquire.

        The copy was passed, unless the kernel side lost track of this pipe's copies, or of the holder, or the
        holder's fork or close has not finished yet.
        """
        if not self._probes.sees_fd_tables:
            forked = seen.has_not_execed(pid)
            if forked is None:  # it has exited since the search: keep the previous cause
                return next((each.cause for each in asked.before if each.pid == pid), Cause.UNKNOWN)
            return Cause.FORKED if forked else Cause.UNKNOWN
        process = seen.row(pid)
        if process is None:
            is_lost = procfs.may_be_younger(pid, asked.spawn.created) and seen.any_may_be_evicted
        else:
            is_younger = process.born > asked.spawn.created
            is_closing = process.closing and at < process.closing + _CLOSING_NS
            is_lost = is_younger and (process.shared or is_closing)
        if asked.spawn.copy_lost or is_lost or self._was_untraced(asked.spawn, pid, at):
            return Cause.UNKNOWN
        return Cause.PASSED

    def _was_untraced(self, spawn: Spawn, pid: int, at: int) -> bool:
        """Whether the holder's fork may not have been traced when its row was read.

        The kernel makes a new process visible before the kernel side traces the fork, and lets it run after
        that.  After the end of the read, which can come during the search, no fork is traced for this spawn.
        """
        if not procfs.has_run(pid):
            return True
        if not self._is_reading(spawn) and procfs.may_be_younger(pid, at):
            return True
        with self._lock:
            process = self._probes.process(pid)
        return process is not None and self._probes.may_hold(process, spawn.place, spawn.created)


class _Processes:
    """What is known of the processes that one search finds, each read once."""

    def __init__(self, probes: loader.Probes, lock: threading.Lock) -> None:
        self._probes = probes
        self._lock = lock
        self._rows: dict[int, Any] = {}
        self._comms: dict[int, bytes] = {}
        self._in_exec: dict[int, bool] = {}
        self._dumping: dict[int, bool] = {}
        self._not_execed: dict[int, Optional[bool]] = {}

    @functools.cached_property
    def any_may_be_evicted(self) -> bool:
        """Whether a process may have lost its row because there were too many."""
        with self._lock:
            return self._probes.may_have_evicted_processes()

    def row(self, pid: int) -> Optional[Any]:
        """The kernel side's row, or None."""
        if pid not in self._rows:
            with self._lock:
                self._rows[pid] = self._probes.process(pid)
        return self._rows[pid]

    def comm(self, pid: int) -> bytes:
        if pid not in self._comms:
            self._comms[pid] = procfs.comm_of(pid)
        return self._comms[pid]

    def is_in_exec(self, pid: int) -> bool:
        if pid not in self._in_exec:
            self._in_exec[pid] = procfs.is_in_exec(pid)
        return self._in_exec[pid]

    def is_dumping(self, pid: int) -> bool:
        if pid not in self._dumping:
            self._dumping[pid] = snapshot.is_dumping(pid)
        return self._dumping[pid]

    def has_not_execed(self, pid: int) -> Optional[bool]:
        if pid not in self._not_execed:
            self._not_execed[pid] = procfs.has_not_execed(pid)
        return self._not_execed[pid]


def _is_exiting(release: Release) -> bool:
    """Whether a holder that exits may not have closed its copy yet.

    That takes seconds if it has much memory, and goes on for as long as a file system does not let it close
    a file.
    """
    try:
        return (
            release.by == "exit"
            and procfs.started(release.pid) <= release.acquired
            and procfs.is_exiting(release.pid)
        )
    except (OSError, ValueError, IndexError):
        return False  # gone


def _are_the_rest(exiting: Mapping[int, Release], spawn: Spawn) -> bool:
    """Whether the copies that are left are those of these processes, whose files no search finds any more.

    They are if the last release left no others.
    """
    if not exiting:
        return False
    last = max(spawn.releases, key=lambda release: release.at)
    return last.left is not None and last.left <= len(exiting.keys() - {last.pid})


def _exiting(release: Release, fds: Sequence[int] = (), at: Optional[int] = None) -> Holder:
    """A holder that exits; at: when a search found its copy open, None if none did."""
    holder = diagnosis.holder_of(release)
    return holder._replace(
        fds=tuple(fds) or holder.fds,
        confirmation=None if at is None else Confirmation.CONFIRMED,
        seen=at,
        exiting=release.at,
    )


def _is_family(spawn: Spawn, pid: int, seen: _Processes) -> bool:
    """Whether a pid is the parent or its own child, and not a later process with the child's pid."""
    if pid == spawn.pid:
        return True
    process = seen.row(pid) if pid == spawn.child else None
    return pid == spawn.child and (process is None or process.born <= (spawn.own_released or 0))


def youngest(waiting: Collection[Spawn], now: int) -> int:
    """The shortest time (ns) that one of these parents has waited."""
    return now - max(stall_began(spawn) or now for spawn in waiting)


def _forked(holder: Holder, process: Any) -> Holder:
    """The holder with what the kernel side recorded at its fork."""
    return holder._replace(
        acquired=process.born,
        parent=process.parent[0],
        forker=process.forker,
        stack_id=process.stack,
    )
