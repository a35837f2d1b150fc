# SPDX-License-Identifier: Apache-2.0
"""Makes the JSON objects of a report; ``types.py`` has their keys, JSON.md explains them.

Seconds in an object count from the creation of the errpipe.  A comm is any 15 bytes: bytes that are not UTF-8
or not printable are escaped (``\\xff``), so that every reader and terminal can show it.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, cast

from agent import __version__
from agent.advice import advise, release, wait_for_exit
from agent.clock import Clock
from agent.diagnosis import stall_steps
from agent.escape import printable
from agent.host.pyspy import Taken
from agent.model import KEEPS_COPY, Cause, Confirmation, Holder, Identity, Outcome, Spawn, Stack, Stall, Step
from agent.reports.durations import Durations
from agent.reports.exposures import Exposures
from agent.reports.kinds import KindName
from agent.reports.losses import LOSSES
from agent.reports.types import (
    CommandObject,
    ExposureObject,
    HolderObject,
    IdentityObject,
    ParentObject,
    QuantilesObject,
    RunObject,
    SpawnObject,
    StackObject,
    StacksObject,
    StallObject,
    StepObject,
    SummaryObject,
)
from agent.shape import truncated

__all__ = [
    "Summary",
    "command_object",
    "exposure_objects",
    "kind_of",
    "run_object",
    "snapshot_object",
    "spawn_object",
    "stacks_object",
    "stall_id",
    "stall_object",
]

_MAX_ARGUMENT = 4096
_MAX_ARGUMENTS = 1000


def run_object(
    options: Sequence[str] = (),
    pids: Sequence[int] = (),
    command: Optional[CommandObject] = None,
) -> RunObject:
    """Make the object of a run that begins now; pids and command: what is traced, else the whole host."""
    host = os.uname()
    return {
        "type": "run",
        "time": Clock().rfc3339(time.monotonic_ns()),
        "host": _printable_text(host.nodename),
        "kernel": _printable_text(host.release),
        "machine": host.machine,
        "version": __version__,
        "pids": list(pids),
        "command": command,
        "options": _arguments(options),
    }


def command_object(words: Sequence[str], with_arguments: bool) -> CommandObject:
    """Make the object of a COMMAND: its program, and its arguments only on request, as they can be secret."""
    program, *arguments = words
    return {
        "program": _arguments([program])[0],
        "argument_count": len(arguments),
        "arguments": _arguments(arguments) if with_arguments else None,
    }


def stall_id(stall: Stall) -> str:
    """Name a stall uniquely on this host until the next boot; the same while in progress and when ended."""
    return f"{stall.spawn.id:016x}"


def kind_of(stall: Stall) -> KindName:
    """Return the kind of a stall, as ``kind_name`` returns it for its object."""
    culprit = stall.culprit
    return KindName(printable(stall.spawn.comm), _holder_comm(culprit), culprit.cause)


def stall_object(stall: Stall, clock: Clock) -> StallObject:
    """Make the object of a stall, in progress or ended."""
    spawn, ended = stall.spawn, stall.ended
    until = time.monotonic_ns() if ended is None else ended
    identity = _identity_object(stall.identity)
    advice = advise(stall.culprit.cause, identity["exe"])
    made: StallObject = {
        "type": "stall",
        "time": clock.rfc3339(spawn.created),
        "state": "ongoing" if ended is None else "ended",
        "parent": {
            "pid": spawn.pid,
            "tid": spawn.tid,
            "comm": printable(spawn.comm),
            **identity,
            "thread": None if stall.thread is None else printable(stall.thread),
        },
        "child": {"pid": spawn.child, "comm": printable(spawn.child_comm)} if spawn.child else None,
        "errpipe": {"read_fd": spawn.read_fd, "write_fd": None if spawn.write_fd < 0 else spawn.write_fd},
        "spawn_seconds": None if ended is None else _between(spawn.created, spawn.read_ended),
        "exec_seconds": _between(spawn.forked, spawn.own_released),
        "id": stall_id(stall),
        "began_seconds": (stall.began - spawn.created) / 1e9,
        "stall_seconds": (until - stall.began) / 1e9,
        "late_wakeup_seconds": stall.late / 1e9,
        "holders": [_holder_object(holder, spawn) for holder in stall.holders],
        "advice": advice.text,
        "advice_source": advice.source,
        "release": None,
        "steps": _steps(stall_steps(stall), spawn),
    }
    if ended is None:
        made["release"] = _release(made, stall.culprit.parent)
    if stall.missing is not None:
        made["stacks"] = stacks_object(stall)
    return made


def _release(stall: StallObject, forker: Optional[int]) -> Optional[str]:
    """How to end a stall in progress; forker: the process that forked the first holder, None if unknown."""
    holders = stall["holders"]
    exiting = [holder for holder in holders if holder["exiting_seconds"] is not None]
    others = [holder for holder in holders if holder["exiting_seconds"] is None]
    sentences = []
    if others:
        known = forker if others[0] is holders[0] else None
        crashed = others[0]["dumping_core"]
        first = release(stall["parent"]["pid"], _names(others), Cause(others[0]["cause"]), known, crashed)
        if first is None:
            return None
        sentences.append(first)
    if exiting:
        sentences.append(wait_for_exit(_names(exiting)))
    return " ".join(sentences)


def _names(holders: Sequence[HolderObject]) -> list[tuple[Optional[int], str]]:
    return [(holder["pid"], holder["comm"] or "") for holder in holders]


def stacks_object(stall: Stall) -> StacksObject:
    """Make the stacks of a stall: of the reader, of the first holder's fork, and of that holder."""
    culprit = stall.culprit
    return {
        "reader": _stack_object(stall.reader_stack),
        "fork": _stack_object(culprit.fork_stack),
        "holder": _stack_object(culprit.own_stack),
        "missing": [_printable_text(line) for line in stall.missing or ()],
    }


def snapshot_object(
    found: Mapping[str, Any], identities: Mapping[int, Optional[Identity]], stacks: Optional[Taken] = None
) -> StallObject:
    """Complete the object of a stall that ``agent.snapshot`` found in /proc.

    identities: of its parent and holders, by pid, read when it was found.
    stacks: taken then; None: not asked for.
    """
    parent = {**found["parent"], **_identity_object(identities.get(found["parent"]["pid"]))}
    holders = [
        {**holder, **_identity_object(identities.get(holder["pid"])), "cause": Cause(holder["cause"])}
        for holder in found["holders"]
    ]
    advice = advise(holders[0]["cause"], parent["exe"])
    made = {
        **found,
        "parent": parent,
        "holders": holders,
        "advice": advice.text,
        "advice_source": advice.source,
        "release": None,
    }
    if found.get("state") == "ongoing" and found.get("certainty") == "certain":
        made["release"] = _release(cast(StallObject, made), None)
    if stacks is not None:
        taken: StacksObject = {
            "reader": _stack_object(stacks.reader),
            "fork": None,
            "holder": _stack_object(stacks.holders.get(holders[0]["pid"])),
            "missing": [
                "fork: it happened before it could be traced",
                *(_printable_text(line) for line in stacks.missing),
            ],
        }
        made["stacks"] = taken
    # snapshot.py stands alone and has no types: tests hold its objects to the schema.
    return cast(StallObject, made)


def spawn_object(spawn: Spawn, steps: Sequence[Step], clock: Clock) -> SpawnObject:
    """Make the object of an ended spawn."""
    return {
        "type": "spawn",
        "time": clock.rfc3339(spawn.created),
        "state": "ended",
        "parent": _parent(spawn),
        "child": {"pid": spawn.child, "comm": printable(spawn.child_comm)},
        "errpipe": {"read_fd": spawn.read_fd, "write_fd": spawn.write_fd},
        "spawn_seconds": _between(spawn.created, spawn.read_ended),
        "exec_seconds": _between(spawn.forked, spawn.own_released),
        "outcome": spawn.outcome,
        "steps": _steps(steps, spawn),
    }


def exposure_objects(spawn: Spawn, clock: Clock) -> Iterator[ExposureObject]:
    """Make an object for each cause of the spawn's exposures with which a process can keep its copy."""
    for cause, number in spawn.exposures:
        if cause in KEEPS_COPY:
            yield {
                "type": "exposure",
                "time": clock.rfc3339(spawn.own_released or spawn.created),
                "parent": _parent(spawn),
                "child": {"pid": spawn.child, "comm": printable(spawn.child_comm)},
                "cause": cause,
                "count": number,
            }


def _parent(spawn: Spawn) -> ParentObject:
    return {"pid": spawn.pid, "tid": spawn.tid, "comm": printable(spawn.comm)}


@dataclass
class Summary:
    """What one run of trace-popen saw.

    exposures: None if they are not counted.
    """

    began: int = field(default_factory=time.monotonic_ns)
    exec_failures: int = 0
    stalls: int = 0
    stalled_ns: int = 0
    spawn_times: Durations = field(default_factory=Durations)
    spawns: int = 0
    waits: int = 0
    holders: dict[tuple[bytes, Cause], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    exposures: Optional[Exposures] = None

    def add_spawn(self, spawn: Spawn) -> None:
        """Count an ended spawn and its exposures."""
        self.spawns += 1
        if self.exposures is not None:
            self.exposures.add(spawn.comm, spawn.exposures)
        if spawn.outcome is Outcome.EXEC_FAILED:
            self.exec_failures += 1
        if spawn.outcome is not Outcome.ABANDONED and spawn.read_ended is not None:
            self.spawn_times.add(spawn.read_ended - spawn.created)

    def add_stall(self, stall: Stall) -> None:
        """Count an ended stall under the holder whose release ended it; ignore one in progress."""
        if stall.ended is None:
            return
        stalled = stall.ended - stall.began
        self.stalls += 1
        self.stalled_ns += stalled
        culprit = self.holders[stall.culprit.comm, stall.culprit.cause]
        culprit[0] += 1
        culprit[1] += stalled

    def add_sampled(self, found: StallObject) -> None:
        """Count a stall whose end was seen in /proc."""
        if found["state"] != "ended":
            return
        stalled = int((found["stall_seconds"] or 0) * 1e9)
        holder = found["holders"][0]
        self.stalls += 1
        self.stalled_ns += stalled
        culprit = self.holders[(holder["comm"] or "").encode(), holder["cause"]]
        culprit[0] += 1
        culprit[1] += stalled

    def spawn_p99_ns(self, lost_records: int) -> Optional[int]:
        """The time within which 99 % of all spawns ended, at most; None if it is not known.

        The record of a spawn can be lost, and the spawn can have taken any time.
        """
        return self.spawn_times.quantile(0.99, missing=lost_records)

    def object(
        self,
        lost_records: int,
        ongoing: int = 0,
        not_followed: Mapping[str, int] = {},
        waits_in_progress: int = 0,
        ongoing_ns: int = 0,
    ) -> SummaryObject:
        """Make the object of the summary; percentiles are null if no spawn ended.

        ongoing: stalls whose end was not seen.  not_followed: as ``losses.not_followed`` returns it; a
        missing name counts as 0.  waits_in_progress: waits whose end was not seen.
        ongoing_ns: how long the stalls in progress have lasted so far, in total.
        """
        p99 = self.spawn_p99_ns(lost_records)
        worst = sorted(self.holders.items(), key=lambda item: item[1][1], reverse=True)
        now = time.monotonic_ns()
        return {
            "type": "summary",
            "time": Clock().rfc3339(now),
            "seconds": (now - self.began) / 1e9,
            "spawns": self.spawns,
            "stalls": self.stalls,
            "ongoing": ongoing,
            "waits": self.waits,
            "waits_in_progress": waits_in_progress,
            "exec_failures": self.exec_failures,
            "lost_records": lost_records,
            "not_followed": {name: not_followed.get(name, 0) for name, _, _ in LOSSES},
            "spawn_p99_seconds": None if p99 is None else p99 / 1e9,
            "stall_total_seconds": (self.stalled_ns + ongoing_ns) / 1e9,
            "spawn_seconds": self._quantiles(),
            "stalled_seconds": self.stalled_ns / 1e9,
            "holders": [
                {
                    "comm": printable(comm) or None,
                    "cause": cause,
                    "stalls": stalls,
                    "seconds": stalled / 1e9,
                }
                for (comm, cause), (stalls, stalled) in worst
            ],
            "exposures": None if self.exposures is None else self.exposures.objects(),
        }

    def _quantiles(self) -> QuantilesObject:
        def at(fraction: float) -> Optional[float]:
            ns = self.spawn_times.quantile(fraction)
            return None if ns is None else ns / 1e9

        return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1)}


def _stack_object(stack: Optional[Stack]) -> Optional[StackObject]:
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


def _arguments(words: Sequence[str]) -> list[str]:
    return [truncated(printable(os.fsencode(word)), _MAX_ARGUMENT) for word in words[:_MAX_ARGUMENTS]]


def _printable_text(text: str) -> str:
    return printable(text.encode(errors="backslashreplace"))


def _holder_object(holder: Holder, spawn: Spawn) -> HolderObject:
    return {
        "pid": holder.pid,
        "comm": _holder_comm(holder),
        **_identity_object(holder.identity),
        "fds": list(holder.fds),
        "cause": holder.cause,
        "acquired_seconds": _between(spawn.created, holder.acquired),
        "forked_by": None if holder.parent is None else {"pid": holder.parent, "tid": holder.forker},
        "released_seconds": _between(spawn.created, holder.released),
        "released_by": holder.released_by,
        "confirmed": holder.confirmation is Confirmation.CONFIRMED,
        "confirmation": holder.confirmation,
        "last_seen_seconds": _between(spawn.created, holder.seen),
        "exiting_seconds": _between(spawn.created, holder.exiting),
        "dumping_core": holder.dumping,
    }


def _holder_comm(holder: Holder) -> Optional[str]:
    return None if holder.pid is None else printable(holder.comm)


def _identity_object(identity: Optional[Identity]) -> IdentityObject:
    """Make the same keys for every process; null: it could not be read (the process is gone)."""
    if identity is None:
        return {"exe": None, "uid": None, "container": None}
    container = identity.container
    return {
        "exe": None if identity.exe is None else printable(os.fsencode(identity.exe)),
        "uid": identity.uid,
        "container": None
        if container is None
        else {
            "id": container.id,
            "runtime": container.runtime,
            "pod_uid": container.pod_uid,
            "user": container.user,
        },
    }


def _steps(steps: Sequence[Step], spawn: Spawn) -> list[StepObject]:
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
