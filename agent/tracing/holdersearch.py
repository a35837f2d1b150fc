# SPDX-License-Identifier: Apache-2.0
"""Find who holds the write ends of pipes now, and why, by a search of the host's open files."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any, Optional

from agent import diagnosis
from agent.host import procfs
from agent.model import Cause, Confirmation, Holder, Spawn, stall_began
from agent.tracing.known import Known, KnownSpawns
from probes import loader

__all__ = ["HolderSearch", "youngest"]

_NEW_SHARE, _YOUNG_SHARE, _OLD_SHARE = 5, 20, 200
"""Searches take at most 1/N of the time: while a stall has not been searched for, while one is younger than
_YOUNG_NS, and later."""
_YOUNG_NS = 2_000_000_000


class HolderSearch:
    """Search with the kernel's iterator over open files, or in /proc where the kernel has none."""

    def __init__(self, probes: loader.Probes, lock: threading.Lock, known: KnownSpawns) -> None:
        """lock: held while maps are read."""
        self._probes = probes
        self._lock = lock
        self._known = known
        self._searched, self._took = 0, 0
        self._processes: dict[int, Any] = {}
        self._comms: dict[int, bytes] = {}
        self.confirmations = dict.fromkeys(Confirmation, 0)

    def copies(self, waiting: Collection[Spawn], now: int) -> Optional[dict[int, dict[int, list[int]]]]:
        """Who has the write end of each spawn open now: fds by pid, by spawn id.

        None if the search was skipped because searches have taken their share of the time.
        """
        self._processes, self._comms = {}, {}
        share = _YOUNG_SHARE if youngest(waiting, now) < _YOUNG_NS else _OLD_SHARE
        if not all(self._known.of(spawn.id).searched for spawn in waiting):
            share = _NEW_SHARE
        if now < self._searched + share * self._took:
            return None
        open_files = self._probes.open_files
        if open_files is not None:
            by_pipe = {spawn.pipe: spawn.id for spawn in waiting}
            copies: dict[int, dict[int, list[int]]] = {}
            with self._lock:
                for pipe, found in open_files.holders(by_pipe).items():
                    holders = copies.setdefault(by_pipe[pipe], {})
                    for copy in found:
                        holders.setdefault(copy.pid, []).append(copy.fd)
            self._searched, self._took = now, time.monotonic_ns() - now
            return copies
        ids = {spawn.inode or procfs.pipe_inode(spawn.pid, spawn.read_fd) or 0: spawn.id for spawn in waiting}
        ids.pop(0, None)
        in_proc = procfs.find_holders(ids)
        self._searched, self._took = now, time.monotonic_ns() - now
        return {ids[inode]: in_proc.get(inode, {}) for inode in ids}

    def _cause_of_unseen(self, spawn: Spawn, known: Known, pid: int) -> Cause:
        """The cause for a holder whose copy the kernel side did not see it acquire.

        The copy was passed, unless the kernel side lost track of this pipe's copies.
        """
        if not self._probes.sees_fd_tables:
            forked = procfs.has_not_execed(pid)
            if forked is None:  # it has exited since the search: keep the previous cause
                return next((each.cause for each in known.holding if each.pid == pid), Cause.UNKNOWN)
            return Cause.FORKED if forked else Cause.UNKNOWN
        return Cause.UNKNOWN if spawn.copy_lost else Cause.PASSED

    def is_family(self, spawn: Spawn, pid: int) -> bool:
        """Whether a pid is the parent or its own child, and not a later process with the child's pid."""
        if pid == spawn.pid:
            return True
        process = self._process(pid) if pid == spawn.child else None
        return pid == spawn.child and (process is None or process.born <= (spawn.own_released or 0))

    def holder(
        self,
        spawn: Spawn,
        known: Known,
        pid: int,
        fds: Sequence[int],
        now: int,
    ) -> Optional[Holder]:
        """A holder whose copy is open now, with what the kernel side knows of how it got the copy.

        None: it has released its copy since the search. The kernel side then does not know it any more, so
        the copy would look like one that was passed on.
        """
        if pid not in self._comms:
            self._comms[pid] = procfs.comm_of(pid)
        if pid not in known.seen:
            self.confirmations[Confirmation.CONFIRMED] += 1
        known.seen[pid] = now
        process = self._process(pid)
        holder = Holder(
            pid=pid,
            comm=self._comms[pid],
            fds=tuple(fds),
            cause=self._cause_of_unseen(spawn, known, pid),
            acquired=None,
            released=None,
            confirmation=Confirmation.CONFIRMED,
            seen=now,
        )
        if process is None or process.shared or process.born <= spawn.created:
            return _if_open(holder, spawn)
        if not self._probes.sees_fd_tables:  # then may_hold is not known
            return holder if holder.cause is Cause.UNKNOWN else _forked(holder, process)
        if not self._probes.may_hold(process, spawn.place, spawn.created):
            return _if_open(holder, spawn)
        return dataclasses.replace(
            _forked(holder, process),
            cause=diagnosis.cause_of(
                descendant=spawn.child in process.parent and process.born >= (spawn.forked or 0),
                execed=process.execed > 0,
                expected=bool(process.expected) or (not process.execed and procfs.is_in_exec(pid)),
            ),
        )

    def _process(self, pid: int) -> Optional[Any]:
        if pid not in self._processes:
            with self._lock:
                self._processes[pid] = self._probes.process(pid)
        return self._processes[pid]


def youngest(waiting: Collection[Spawn], now: int) -> int:
    """The shortest time (ns) that one of these parents has waited."""
    return now - max(stall_began(spawn) or now for spawn in waiting)


def _if_open(holder: Holder, spawn: Spawn) -> Optional[Holder]:
    """A holder to which a copy was passed; None if it has released the copy since the search."""
    assert holder.pid is not None
    is_passed = holder.cause is Cause.PASSED
    return None if is_passed and not procfs.still_has(holder.pid, holder.fds, spawn.inode) else holder


def _forked(holder: Holder, process: Any) -> Holder:
    """The holder with what the kernel side recorded at its fork."""
    return dataclasses.replace(
        holder,
        acquired=process.born,
        parent=process.parent[0],
        forker=process.forker,
        stack_id=process.stack,
    )
