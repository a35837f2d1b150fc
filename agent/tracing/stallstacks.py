# SPDX-License-Identifier: Apache-2.0
"""Stack traces of a stall: of its reader, of its holders, and of their forks."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Union

from agent.host import pyspy
from agent.host.identity import identify
from agent.model import Frame, Holder, Release, Stack, Stall
from agent.tracing.known import Fork, Known
from probes import loader, records
from probes.stacks import symbolise

__all__ = ["StallStacks"]

_PATIENCE_NS = 2_000_000_000
_ROOM_NS = 1_000_000_000


class StallStacks:
    """Collect the stacks of forks from the kernel side, and Python stacks from py-spy."""

    def __init__(self, probes: loader.Probes, lock: threading.Lock) -> None:
        """lock: held while maps are read."""
        self._probes = probes
        self._lock = lock
        self._python = pyspy.PythonStacks()
        self._lost = 0
        self._next_room = 0

    def close(self) -> None:
        """Stop the thread that runs py-spy."""
        self._python.close()

    def note_forks(self, releases: Sequence[Release], known: Known) -> None:
        """Look up the stacks of these holders' forks while the forking processes exist."""
        for release in releases[-pyspy.MAX_HOLDERS :]:
            self._fork_of(release, known)

    def ask(self, stall: Stall, known: Known, now: int) -> None:
        """Request the Python stacks of a stall in progress, once."""
        if known.python is None:
            known.asked = now
            known.python = self._python.ask(stall)

    @staticmethod
    def are_awaited(known: Known, now: int) -> bool:
        """Whether Python stacks were requested and may still arrive."""
        return known.python is not None and not known.python.done() and now - known.asked < _PATIENCE_NS

    def added_to(self, stall: Stall, known: Known, until: int) -> Stall:
        """The stall with the stacks that are available; until: as in with_python."""
        missing = []
        holders = list(stall.holders)
        for number, holder in enumerate(holders[: pyspy.MAX_HOLDERS]):
            fork = self._fork_of(holder, known)
            holders[number] = holder._replace(fork_stack=fork.stack)
            if fork.missing is not None:
                missing.append(fork.missing)
        taken = known.python.result() if known.python is not None and known.python.done() else None
        stall = dataclasses.replace(stall, holders=tuple(holders), missing=tuple(missing))
        return pyspy.with_python(stall, taken, until)

    def _fork_of(self, holder: Union[Holder, Release], known: Known) -> Fork:
        if holder.pid is None or not holder.acquired or not holder.parent:
            return Fork(missing="fork: how the holder got its copy was not seen")
        key = holder.pid, holder.acquired
        if key not in known.forks:
            known.forks[key] = self._look_up_fork(holder.parent, holder.acquired, holder.stack_id)
        return known.forks[key]

    def _look_up_fork(self, forker: int, at: int, stack_id: int) -> Fork:
        with self._lock:
            addresses = self._probes.fork_stack(stack_id, at)
        if not addresses:
            return Fork(missing="fork: the kernel side had no room for the stack")
        frames = tuple(Frame(symbol.name, symbol.file, None) for symbol in symbolise(forker, addresses))
        # Check afterwards: the process may have exited during the lookup, and its pid been reused.
        if identify(forker, at) is None:
            plain = tuple(Frame(f"{address:#x}", None, None) for address in addresses)
            missing = f"fork: pid {forker} has exited, so its addresses have no names"
            return Fork(Stack("kernel", plain, at), missing)
        return Fork(Stack("kernel", frames, at))

    def make_room(self, now: int) -> None:
        """Free unused stacks in the kernel side's map if it lost some, at most once a second."""
        lost = self._probes.counter(records.Counter.STACKS_LOST)
        if lost > self._lost and now >= self._next_room:
            self._lost, self._next_room = lost, now + _ROOM_NS
            with self._lock:
                self._probes.make_room_for_stacks()
