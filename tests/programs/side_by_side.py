#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs many programs, a few at a time, under one trace; prints which processes belonged to which.

    side_by_side.py FILE [--at-once N]      FILE: {"name of the case": ["program", "argument", ...], ...}

It starts them by posix_spawn, and creates no pipe. A case's processes have its name in their environment.
It polls /proc for the longest time that a thread of the case waits in one system call for a pipe or socket.
Prints a line for each case: its pids, exit status, seconds, and "waited".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from _spawns import done, emit

_NAME = "SIDE_BY_SIDE_CASE"
_LOOK_SECONDS = 0.05
_MAX_SECONDS = 60.0
_READS = {"0", "45", "47"}  # x86_64: read, recvfrom, recvmsg
_POLLS = {"7", "23", "232", "270", "271", "281"}  # poll, select, epoll_wait, pselect6, ppoll, epoll_pwait


@dataclass
class Case:
    """One program and its descendants."""

    name: str
    pid: int
    began: float
    pids: set[int] = field(default_factory=set)
    waits: dict[int, tuple[str, float]] = field(default_factory=dict)
    waited: float = 0.0
    seconds: Optional[float] = None
    status: int = -1

    def look(self, now: float) -> None:
        """Record how long each thread has been in its current system call."""
        for pid in self.pids:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    self._note(int(task.name), _waits_in(pid, task), now)

    def _note(self, tid: int, call: Optional[str], now: float) -> None:
        before, since = self.waits.get(tid, (None, now))
        if call is None:
            self.waits.pop(tid, None)
            return
        if before != call:
            since = now
        self.waits[tid] = (call, since)
        self.waited = max(self.waited, now - since)


def _waits_in(pid: int, task: Path) -> Optional[str]:
    """Return the system call in which a thread waits for a pipe or socket, with its first argument."""
    try:
        words = (task / "syscall").read_text().split()
        if len(words) < 2:
            return None
        if words[0] in _READS:
            target = os.readlink(f"/proc/{pid}/fd/{int(words[1], 16)}")  # noqa: PTH115
            return words[0] + target if target.startswith(("pipe:", "socket:")) else None
    except OSError:
        return None
    return words[0] if words[0] in _POLLS else None


class Watch:
    """Assigns every process to its case."""

    def __init__(self) -> None:
        self.cases: dict[bytes, Case] = {}
        self._known: set[int] = set()

    def look(self) -> None:
        """Look at all processes once."""
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
        for pid in pids - self._known:
            with contextlib.suppress(OSError):
                for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    name, _, value = variable.partition(b"=")
                    if name == _NAME.encode() and value in self.cases:
                        self.cases[value].pids.add(pid)
        self._known = pids
        now = time.monotonic()
        for case in self.cases.values():
            case.look(now)


def _start(name: str, command: list[str]) -> Case:
    pid = os.posix_spawnp(command[0], command, {**os.environ, _NAME: name})
    return Case(name, pid, time.monotonic(), {pid})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--at-once", type=int, default=1000)
    options = parser.parse_args()
    to_start: list[tuple[str, list[str]]] = list(json.loads(options.file.read_text()).items())
    watch = Watch()
    at_work: dict[int, Case] = {}
    ends = time.monotonic() + _MAX_SECONDS
    while (to_start or at_work) and time.monotonic() < ends:
        while to_start and len(at_work) < options.at_once:
            case = _start(*to_start.pop(0))
            watch.cases[case.name.encode()] = at_work[case.pid] = case
        watch.look()
        time.sleep(_LOOK_SECONDS)
        for pid, case in list(at_work.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del at_work[pid]
                case.seconds = time.monotonic() - case.began
                case.status = os.waitstatus_to_exitcode(status)
    for case in watch.cases.values():
        emit(
            kind="case",
            case=case.name,
            pid=case.pid,
            pids=sorted(case.pids),
            status=case.status,
            seconds=case.seconds,
            waited=case.waited,
        )
    done()


if __name__ == "__main__":
    main()
