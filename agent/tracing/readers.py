# SPDX-License-Identifier: Apache-2.0
"""Which parents wait for their errpipe now: what the kernel side has recorded, and what ``/proc`` adds."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from agent.host import procfs
from agent.model import Spawn, stall_began
from agent.tracing.known import Known, KnownSpawns
from agent.tracing.translate import polled, to_spawn
from probes import records

__all__ = ["SEARCHED_WITHIN_NS", "Readers"]

SEARCHED_WITHIN_NS = 5_000_000_000
"""From this age on, a stall is reported without a holder if searches have not found one."""
_CHECKS_NS = 20_000_000
"""How long one look reads ``/proc``.  Readers for which there is no time come first in the next look."""


class Readers:
    """The readers of the errpipes of spawns in flight."""

    def __init__(self, known: KnownSpawns) -> None:
        self._known = known
        self._converted: dict[int, tuple[bytes, Spawn]] = {}

    def spawns(self, watched: Iterable[records.Spawn]) -> list[Spawn]:
        """Convert records; a record that has not changed since the last call is the same object again."""
        converted = {}
        for record in watched:
            data = bytes(record)
            before = self._converted.get(record.id)
            converted[record.id] = (
                before if before is not None and before[0] == data else (data, to_spawn(record))
            )
        self._converted = converted
        return [spawn for _, spawn in converted.values()]

    def waiting(self, spawns: Collection[Spawn], now: int, least_ns: int) -> list[Spawn]:
        """Those whose parent has been waiting for at least that long."""
        self._look_at(spawns, now)
        found = []
        for spawn in spawns:
            known = self._known.get(spawn.id)
            if known is not None and known.polled:
                spawn = polled(spawn)
            began = stall_began(spawn)
            if not spawn.reading or began is None or now - began < least_ns:
                continue
            if not spawn.is_socket or (known is not None and known.blocked):
                found.append(spawn)
        return found

    def _look_at(self, spawns: Iterable[Spawn], now: int) -> None:
        """Read ``/proc`` about readers of whom the kernel side knows too little, the longest unread first."""
        due = []
        for spawn in spawns:
            known = self._known.get(spawn.id)
            if (
                spawn.is_socket
                or _may_be_polling(spawn)
                or (known is not None and _may_be_stopped(spawn, known, now))
            ):
                due.append((spawn, known or self._known.of(spawn.id)))
        due.sort(key=lambda item: item[1].checked)
        until = time.monotonic_ns() + _CHECKS_NS
        for spawn, known in due:
            _look_at(spawn, known)
            known.checked = now
            if time.monotonic_ns() >= until:
                return


def _look_at(spawn: Spawn, known: Known) -> None:
    if _may_be_polling(spawn):
        threads = {spawn.tid, spawn.pid}
        known.polled = known.polled or any(
            procfs.is_polling(spawn.pid, tid, spawn.read_fd) for tid in threads
        )
    if spawn.is_socket:
        known.blocked = procfs.is_blocked_on(spawn.pid, spawn.read_tid, spawn.read_fd)
    if not known.holding:
        known.runs = not procfs.is_stopped(spawn.pid, spawn.read_tid)


def _may_be_polling(spawn: Spawn) -> bool:
    """Whether the parent may poll the errpipe without having read from it, as Qt does."""
    return not spawn.read_began and spawn.held and bool(spawn.own_released and spawn.parent_closed)


def _may_be_stopped(spawn: Spawn, known: Known, now: int) -> bool:
    """Whether this matters: it would be reported without a holder, but does not return to its read."""
    if known.holding:
        return False
    return known.empty_searches > 0 or now - (stall_began(spawn) or now) >= SEARCHED_WITHIN_NS
