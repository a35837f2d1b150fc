# SPDX-License-Identifier: Apache-2.0
"""Stalls as a trace file for Perfetto (ui.perfetto.dev) and chrome://tracing: the Trace Event Format.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: JSON, complete events ("X")
nested on a track (pid, tid), flows ("s", "f") from slice to slice, times in microseconds.

A process can hold several pipes at once, but slices on one track must be nested or disjoint.  A slice whose
track is busy goes to another lane of its process, under a tid that no thread has.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Optional, Union

from agent import __version__
from agent.model import Cause, StepKind
from agent.render.timeline import began_seconds
from agent.render.words import WHY, what_happened
from agent.reports.collection import Collection
from agent.reports.types import HolderObject, SpawnObject, StallObject

__all__ = ["trace_events"]

# PID_MAX_LIMIT in include/linux/threads.h: every pid and tid is smaller.
_NO_SUCH_PID = 1 << 22
_UNSEEN = _NO_SUCH_PID
_MAX_NAMES = 3
_MAX_EVIDENCE = 30
_RELEASED = (StepKind.CHILD_CLOSED, StepKind.CHILD_EXECED, StepKind.CHILD_EXITED)
_Event = dict[str, Any]
_Spawn = Union[StallObject, SpawnObject]


def trace_events(collection: Collection) -> dict[str, Any]:
    """The object of the trace file: the stalls, and the other spawns that were reported.

    Times count from the creation of the first errpipe, given in ``otherData``.  Every object that
    agent.reports.replay accepts can be drawn.
    """
    stalls = collection.stalls
    stalled = {_key(stall) for stall in stalls}
    spawns: list[_Spawn] = [*stalls, *(spawn for spawn in collection.spawns if _key(spawn) not in stalled)]
    first = min((_microseconds(spawn["time"]) for spawn in spawns), default=0)
    trace = _Trace()
    for spawn in sorted(spawns, key=lambda spawn: str(spawn["time"])):
        _Drawing(trace, spawn, first).draw()
    return {
        "traceEvents": list(trace.events()),
        "displayTimeUnit": "ms",
        "otherData": {
            "program": f"trace-popen {__version__}",
            "time_zero": min((spawn["time"] for spawn in spawns), default=None),
            "stalls_left_out": collection.stalls_left_out,
            "spawns_left_out": collection.spawns_left_out,
            "run": collection.run,
            "summary": collection.summary,
        },
    }


@dataclass
class _Slice:
    """A complete event; the first one of a stack is placed on a track, the others are nested in it."""

    name: str
    category: str
    begin: int
    end: int
    args: Mapping[str, Any] = field(default_factory=dict)

    def within(self, at: int) -> int:
        """The time nearest to ``at`` at which the slice is open; its end is exclusive."""
        return min(max(at, self.begin), self.end - 1)

    def event(self) -> _Event:
        return {
            "ph": "X",
            "name": self.name,
            "cat": self.category,
            "ts": self.begin,
            "dur": self.end - self.begin,
            "args": dict(self.args),
        }


@dataclass
class _Stack:
    """Slices, each nested in the previous one, with instants and flows; all share one lane."""

    pid: int
    tid: int
    slices: list[_Slice]
    events: list[_Event] = field(default_factory=list)

    def push(self, name: str, category: str, begin: int, end: int, **args: Any) -> _Slice:
        """Add a slice inside the last one, clipped to it."""
        around = self.slices[-1]
        begin = around.within(begin)
        pushed = _Slice(name, category, begin, max(begin + 1, min(end, around.end)), args)
        self.slices.append(pushed)
        return pushed


class _Trace:
    """Collects stacks and assigns them to lanes at the end."""

    def __init__(self) -> None:
        self._stacks: list[_Stack] = []
        self._instants: list[_Event] = []
        self._names: dict[tuple[int, int], dict[str, None]] = defaultdict(dict)
        self._flows = 0

    def stack(self, pid: int, tid: int, comm: str, begin: int, end: int, name: str, category: str) -> _Stack:
        """Add a stack with its first slice, which lasts at least a microsecond."""
        self._names[pid, tid].setdefault(comm)
        stack = _Stack(pid, tid, [_Slice(name, category, begin, max(begin + 1, end))])
        self._stacks.append(stack)
        return stack

    def flow(self, name: str, source: tuple[_Stack, _Slice, int], target: tuple[_Stack, _Slice, int]) -> None:
        """Add an arrow between two slices, as near as possible to the given times, never back in time."""
        begin, end = source[1].within(source[2]), target[1].within(target[2])
        begin = source[1].within(min(begin, end))
        if begin > end:
            return
        self._flows += 1
        common = {"name": name, "cat": "flow", "id": self._flows}
        source[0].events.append({"ph": "s", **common, "ts": begin})
        target[0].events.append({"ph": "f", "bp": "e", **common, "ts": end})  # e: bind to the enclosing slice

    def instant(self, pid: int, tid: int, comm: str, event: _Event) -> None:
        """Add an instant that belongs to no slice."""
        self._names[pid, tid].setdefault(comm)
        self._instants.append({**event, "pid": pid, "tid": tid})

    def events(self) -> Iterator[_Event]:
        """Names first, then everything in order of time; a slice precedes the events nested in it."""
        lanes = _Lanes()
        timed = list(self._instants)
        for stack in sorted(self._stacks, key=lambda stack: stack.slices[0].begin):
            outer = stack.slices[0]
            where = {"pid": stack.pid, "tid": lanes.take(stack.pid, stack.tid, outer.begin, outer.end)}
            timed += [{**slice_.event(), **where} for slice_ in stack.slices]
            timed += [{**event, **where} for event in stack.events]
        yield from self._metadata(lanes)
        yield from sorted(timed, key=lambda event: (event["ts"], -event.get("dur", 0)))

    def _metadata(self, lanes: _Lanes) -> Iterator[_Event]:
        processes: dict[int, dict[str, None]] = defaultdict(dict)
        for (pid, _tid), comms in self._names.items():
            processes[pid].update(comms)
        for pid, comms in processes.items():
            yield _named("process_name", pid, pid, _joined(comms))
        for (pid, tid), comms in self._names.items():
            name = _joined(comms)
            yield _named("thread_name", pid, tid, name)
            for number, lane in enumerate(lanes.others(pid, tid), 2):
                yield _named("thread_name", pid, lane, f"{name} ({number})")


class _Lanes:
    """Distributes slices over tracks so that they do not overlap; they must come in order of their start."""

    def __init__(self) -> None:
        self._busy: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        self._free: dict[tuple[int, int], list[int]] = {}
        self._others: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._last = _NO_SUCH_PID

    def take(self, pid: int, tid: int, begin: int, end: int) -> int:
        """Reserve a lane from begin to end and return its tid: the thread's own one if that is free."""
        key = pid, tid
        busy, free = self._busy[key], self._free.setdefault(key, [tid])
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            self._last += 1
            self._others[key].append(self._last)
            free.append(self._last)
        lane = heapq.heappop(free)
        heapq.heappush(busy, (end, lane))
        return lane

    def others(self, pid: int, tid: int) -> list[int]:
        """The lanes used in addition to the thread's own one."""
        return self._others.get((pid, tid), [])


class _Drawing:
    """Draws one stall or spawn."""

    def __init__(self, trace: _Trace, spawn: _Spawn, first: int) -> None:
        self._trace = trace
        self._spawn = spawn
        self._zero = _microseconds(spawn["time"]) - first
        self._at = {step["what"]: self._place(step["seconds"]) for step in reversed(spawn["steps"])}
        self._stall = spawn if spawn["type"] == "stall" else None
        began = None if self._stall is None else began_seconds(self._stall)
        self._began = None if began is None else self._place(began)

    def draw(self) -> None:
        spawn, stall = self._spawn, self._stall
        if not spawn["steps"] and (stall is None or stall["stall_seconds"] is None):
            self._moment("spawn" if stall is None else "blocked in read")
            return
        waits, reads = self._parent()
        stacks = {spawn["parent"]["pid"]: waits}
        child = self._child(waits)
        if child is not None:
            stacks.setdefault(child.pid, child)
        for number, holder in enumerate(() if stall is None else stall["holders"]):
            held = self._holder(holder, waits, child, reads)
            stacks.setdefault(held.pid, held)
            if number == 0:
                ended = spawn["state"] == "ended"
                until = held.slices[0].end
                self._trace.flow(
                    "release ends the read" if ended else "still holds",
                    (held, held.slices[0], until),
                    (waits, reads, reads.end if ended else until),
                )
        for step in spawn["steps"]:
            stack = stacks.get(step["pid"])
            if stack is not None:
                at = self._place(step["seconds"])
                stack.events.append(self._step_event(self._description(step["what"]), at))

    def _moment(self, name: str) -> None:
        """Draw an instant: the only known time is when the stall was seen."""
        parent = self._spawn["parent"]
        event = {**self._step_event(name, self._zero), "args": self._args()}
        self._trace.instant(parent["pid"], parent["tid"], parent["comm"], event)

    def _parent(self) -> tuple[_Stack, _Slice]:
        """Draw the spawn, the read in it and the stall in that; return the stack and its waiting slice."""
        spawn, parent, child = self._spawn, self._spawn["parent"], self._spawn["child"]
        last = max([self._zero, *self._at.values()])
        stall_end = last
        began = self._zero if self._began is None else self._began
        if self._stall is not None:
            stall_end = began + round((self._stall["stall_seconds"] or 0) * 1e6)
        end = max(last, stall_end)
        if spawn["spawn_seconds"] is not None:
            end = max(end, self._place(spawn["spawn_seconds"]))
        what = "a program" if child is None else child["comm"]
        stack = self._trace.stack(
            parent["pid"], parent["tid"], parent["comm"], self._zero, end, f"starts {what}", "spawn"
        )
        stack.slices[0].args = self._args()
        waits = stack.slices[0]
        if StepKind.READ_BEGAN in self._at:
            read_end = self._at.get(StepKind.READ_ENDED, self._at.get(StepKind.PARENT_DIED, end))
            name = f"read({spawn['errpipe']['read_fd']})"
            waits = stack.push(name, "read", self._at[StepKind.READ_BEGAN], read_end)
        if self._stall is not None:
            waits = stack.push("stall", "stall", began, stall_end, **self._args())
        return stack, waits

    def _child(self, waits: _Stack) -> Optional[_Stack]:
        child, forked = self._spawn["child"], self._at.get(StepKind.CHILD_FORKED)
        released = min((self._at[what] for what in _RELEASED if what in self._at), default=None)
        if child is None or forked is None or released is None:
            return None
        name = f"own child of {self._spawn['parent']['comm']}, before exec"
        stack = self._trace.stack(child["pid"], child["pid"], child["comm"], forked, released, name, "child")
        self._trace.flow("fork", (waits, waits.slices[0], forked), (stack, stack.slices[0], forked))
        return stack

    def _holder(self, holder: HolderObject, waits: _Stack, child: Optional[_Stack], reads: _Slice) -> _Stack:
        acquired, released = holder["acquired_seconds"], holder["released_seconds"]
        begin = reads.begin if acquired is None else self._place(acquired)
        end = reads.end if released is None else self._place(released)
        pid = _UNSEEN if holder["pid"] is None else holder["pid"]
        stack = self._trace.stack(
            pid,
            pid,
            "unknown holders" if holder["pid"] is None else holder["comm"] or "",
            begin,
            end,
            f"holds the write end: {holder['cause']}",
            "holder",
        )
        held = stack.slices[0]
        held.args = {
            "why": WHY[Cause(holder["cause"])],
            "begin_is_known": acquired is not None,
            **{key: holder[key] for key in ("exe", "uid", "container", "fds", "confirmation")},
        }
        if acquired is not None:
            source = child if holder["cause"] == Cause.OWN_DESCENDANT.value and child else waits
            self._trace.flow("copy of the write end", (source, source.slices[0], begin), (stack, held, begin))
        return stack

    def _step_event(self, name: str, at: int) -> _Event:
        return {"ph": "i", "s": "t", "name": name, "cat": "step", "ts": at, "args": {}}

    def _description(self, step: str) -> str:
        errpipe, child = self._spawn["errpipe"], self._spawn["child"]
        return what_happened(step, errpipe["read_fd"], errpipe["write_fd"], child and child["pid"])

    def _args(self) -> dict[str, Any]:
        spawn = self._spawn
        args: dict[str, Any] = {"time": spawn["time"], "state": spawn["state"]}
        if spawn["type"] == "spawn":
            return {**args, "outcome": spawn["outcome"]}
        args.update({key: spawn["parent"][key] for key in ("exe", "uid", "container")})
        for key in ("id", "stall_seconds", "late_wakeup_seconds", "advice", "source", "certainty"):
            if key in spawn:
                args[key] = spawn[key]
        if spawn.get("evidence"):
            args["evidence"] = spawn["evidence"][:_MAX_EVIDENCE]
        return args

    def _place(self, seconds: float) -> int:
        return max(0, self._zero + round(seconds * 1e6))


def _key(spawn: _Spawn) -> tuple[Any, ...]:
    """Identifies a spawn; equal in its stall object and its spawn object."""
    return spawn["time"], spawn["parent"]["pid"], spawn["parent"]["tid"]


def _microseconds(rfc3339: str) -> int:
    since = datetime.fromisoformat(rfc3339[:-1]) - datetime(1970, 1, 1)
    return since // timedelta(microseconds=1)


def _named(what: str, pid: int, tid: int, name: str) -> _Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _joined(comms: Iterable[str]) -> str:
    """The names that one process has had, as one text."""
    names = list(comms)
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return " / ".join(names[:_MAX_NAMES]) + more
