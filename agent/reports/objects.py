"""Spawns, stalls and summaries as JSON objects: the contract that scripts rely on (JSON.md).

Seconds in an object count from the errpipe's creation.  A comm is any 15 bytes: what is not UTF-8 or not
printable is written as an escape (``\\xff``), so that every reader and terminal can take it.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from agent.advice import advise
from agent.clock import Clock
from agent.escape import printable
from agent.host.identity import identify
from agent.host.pyspy import Taken
from agent.model import Cause, Confirmation, Holder, Identity, Outcome, Spawn, Stack, Stall, Step
from agent.reports.losses import LOSSES

__all__ = [
    "Summary",
    "snapshot_object",
    "spawn_object",
    "stacks_object",
    "stall_id",
    "stall_object",
]


def stall_id(stall: Stall) -> str:
    """Names a stall on this host until the next boot; the same while it is going on and when it has ended."""
    return f"{stall.spawn.id:016x}"


def stall_object(stall: Stall, clock: Clock) -> dict[str, Any]:
    """The object of a stall, ended or ongoing."""
    spawn = stall.spawn
    ended = stall.ended
    common = _common("stall", spawn, None if ended is None else spawn.read_ended, clock)
    common["state"] = "ongoing" if ended is None else "ended"
    until = time.monotonic_ns() if ended is None else ended
    common["parent"].update(_identity_object(stall.identity))
    return {
        **common,
        "id": stall_id(stall),
        "began_seconds": (stall.began - spawn.created) / 1e9,
        "stall_seconds": (until - stall.began) / 1e9,
        "late_wakeup_seconds": stall.late / 1e9,
        "holders": [_holder_object(holder, spawn) for holder in stall.holders],
        **_advice_object(stall.culprit.cause.value, common["parent"]["exe"]),
        "steps": _steps(stall.steps, spawn),
        **({} if stall.missing is None else {"stacks": stacks_object(stall)}),
    }


def stacks_object(stall: Stall) -> dict[str, Any]:
    """Where in the code a stall came about: the reader, the fork of the first holder, and that holder."""
    culprit = stall.culprit
    return {
        "reader": _stack_object(stall.reader_stack),
        "fork": _stack_object(culprit.fork_stack),
        "holder": _stack_object(culprit.own_stack),
        "missing": [_printable_text(line) for line in stall.missing or ()],
    }


def snapshot_object(found: Mapping[str, Any], stacks: Optional[Taken] = None) -> dict[str, Any]:
    """The object of a stall that was found by looking at /proc, with who its processes are.

    stacks: those that were taken then; None: they were not asked for.
    """
    seen = time.monotonic_ns()

    def who(process: Mapping[str, Any]) -> dict[str, Any]:
        pid = process["pid"]
        return {**process, **_identity_object(None if pid is None else identify(pid, seen))}

    parent, holders = who(found["parent"]), [who(holder) for holder in found["holders"]]
    advice = _advice_object(holders[0]["cause"], parent["exe"])
    stalled = {**found, "parent": parent, "holders": holders, **advice}
    if stacks is not None:
        stalled["stacks"] = {
            "reader": _stack_object(stacks.reader),
            "fork": None,
            "holder": _stack_object(stacks.holders.get(holders[0]["pid"])),
            "missing": [
                "fork: it was before it could be traced",
                *(_printable_text(line) for line in stacks.missing),
            ],
        }
    return stalled


def spawn_object(spawn: Spawn, steps: Sequence[Step], clock: Clock) -> dict[str, Any]:
    """The object of an ended spawn."""
    return {
        **_common("spawn", spawn, spawn.read_ended, clock),
        "outcome": spawn.outcome.value if spawn.outcome else None,
        "steps": _steps(steps, spawn),
    }


@dataclass
class Summary:
    """What a run of trace-popen saw; ``add_spawn`` and ``add_stall`` fill it."""

    began: int = field(default_factory=time.monotonic_ns)
    exec_failures: int = 0
    stalls: int = 0
    stalled_ns: int = 0
    spawn_ns: list[int] = field(default_factory=list)
    spawns: int = 0
    holders: dict[tuple[bytes, Cause], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def add_spawn(self, spawn: Spawn) -> None:
        """Counts an ended spawn."""
        self.spawns += 1
        if spawn.outcome is Outcome.EXEC_FAILED:
            self.exec_failures += 1
        if spawn.outcome is not Outcome.ABANDONED and spawn.read_ended is not None:
            self.spawn_ns.append(spawn.read_ended - spawn.created)

    def add_stall(self, stall: Stall) -> None:
        """Counts an ended stall, against the holder whose release ended it."""
        if stall.ended is None:
            return
        stalled = stall.ended - stall.began
        self.stalls += 1
        self.stalled_ns += stalled
        culprit = self.holders[stall.culprit.comm, stall.culprit.cause]
        culprit[0] += 1
        culprit[1] += stalled

    def add_sampled(self, found: Mapping[str, Any]) -> None:
        """Counts a stall that was seen to end by looking at /proc (an object of the snapshot)."""
        if found["state"] != "ended":
            return
        stalled = int(found["stall_seconds"] * 1e9)
        holder = found["holders"][0]
        self.stalls += 1
        self.stalled_ns += stalled
        culprit = self.holders[(holder["comm"] or "").encode(), Cause(holder["cause"])]
        culprit[0] += 1
        culprit[1] += stalled

    def object(
        self, lost_records: int, ongoing: int = 0, not_followed: Mapping[str, int] = {}
    ) -> dict[str, Any]:
        """The summary's object; percentiles are null when nothing was spawned.

        ongoing: stalls whose end was not seen.  not_followed: what was lost, as losses.not_followed
        has it; nothing, where it is not told.
        """
        worst = sorted(self.holders.items(), key=lambda item: item[1][1], reverse=True)
        return {
            "type": "summary",
            "seconds": (time.monotonic_ns() - self.began) / 1e9,
            "spawns": self.spawns,
            "stalls": self.stalls,
            "ongoing": ongoing,
            "exec_failures": self.exec_failures,
            "lost_records": lost_records,
            "not_followed": {name: not_followed.get(name, 0) for name, _, _ in LOSSES},
            "spawn_seconds": self._quantiles(),
            "stalled_seconds": self.stalled_ns / 1e9,
            "holders": [
                {
                    "comm": printable(comm) or None,
                    "cause": cause.value,
                    "stalls": stalls,
                    "seconds": stalled / 1e9,
                }
                for (comm, cause), (stalls, stalled) in worst
            ],
        }

    def _quantiles(self) -> Mapping[str, Optional[float]]:
        ordered = sorted(self.spawn_ns)
        if not ordered:
            return {"p50": None, "p95": None, "p99": None, "max": None}

        def at(fraction: float) -> float:
            return ordered[math.ceil(fraction * len(ordered)) - 1] / 1e9  # nearest rank

        return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": ordered[-1] / 1e9}


def _common(kind: str, spawn: Spawn, ended: Optional[int], clock: Clock) -> dict[str, Any]:
    return {
        "type": kind,
        "time": clock.rfc3339(spawn.created),
        "state": "ended",
        "parent": {"pid": spawn.pid, "tid": spawn.tid, "comm": printable(spawn.comm)},
        "child": {"pid": spawn.child, "comm": printable(spawn.child_comm)},
        "errpipe": {"read_fd": spawn.read_fd, "write_fd": spawn.write_fd},
        "spawn_seconds": None if ended is None else (ended - spawn.created) / 1e9,
        "exec_seconds": _between(spawn.forked, spawn.own_released),
    }


def _stack_object(stack: Optional[Stack]) -> Optional[dict[str, Any]]:
    if stack is None:
        return None
    return {
        "by": stack.by,
        "frames": [
            {
                "function": _printable_text(frame.function),
                "file": None if frame.file is None else _printable_text(frame.file),
                "line": frame.line,
            }
            for frame in stack.frames
        ],
    }


def _printable_text(text: str) -> str:
    return printable(text.encode(errors="backslashreplace"))


def _holder_object(holder: Holder, spawn: Spawn) -> dict[str, Any]:
    return {
        "pid": holder.pid,
        "comm": None if holder.pid is None else printable(holder.comm),
        **_identity_object(holder.identity),
        "fds": list(holder.fds),
        "cause": holder.cause.value,
        "acquired_seconds": _between(spawn.created, holder.acquired),
        "forked_by": None if holder.parent is None else {"pid": holder.parent, "tid": holder.forker},
        "released_seconds": _between(spawn.created, holder.released),
        "released_by": holder.released_by,
        "confirmed": holder.confirmation is Confirmation.CONFIRMED,
        "confirmation": holder.confirmation.value if holder.confirmation else None,
        "last_seen_seconds": _between(spawn.created, holder.seen),
    }


def _identity_object(identity: Optional[Identity]) -> dict[str, Any]:
    """The same keys for everybody; null is what could not be read (the process is gone)."""
    if identity is None:
        return {"exe": None, "uid": None, "container": None}
    container = identity.container
    return {
        "exe": None if identity.exe is None else printable(os.fsencode(identity.exe)),
        "uid": identity.uid,
        "container": container
        and {"id": container.id, "runtime": container.runtime, "pod_uid": container.pod_uid},
    }


def _advice_object(cause: str, exe: Optional[str]) -> dict[str, str]:
    advice = advise(Cause(cause), exe)
    return {"advice": advice.text, "advice_source": advice.source}


def _steps(steps: Sequence[Step], spawn: Spawn) -> list[dict[str, Any]]:
    return [
        {
            "seconds": (step.at - spawn.created) / 1e9,
            "pid": step.pid,
            "tid": step.tid,
            "what": step.what,
        }
        for step in steps
    ]


def _between(start: Optional[int], end: Optional[int]) -> Optional[float]:
    return None if start is None or end is None else (end - start) / 1e9
