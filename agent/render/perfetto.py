"""Stalls as a trace file for Perfetto (ui.perfetto.dev) and chrome://tracing: the Trace Event Format.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: JSON, complete events ("X")
nested on a track (pid, tid), flows ("s", "f") from slice to slice, times in microseconds.

A process can hold several pipes at once, and slices of one track must not overlap but by nesting: what finds
its track taken goes to another lane of its process, under a tid that no thread has.
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

_NO_SUCH_PID = (
    1 << 22
)  # PID_MAX_LIMIT, include/linux/threads.h: no process and no thread has it or a greater one
_UNSEEN = _NO_SUCH_PID
_MOST_NAMES = 3
_MOST_EVIDENCE = 30
_RELEASED = (StepKind.CHILD_CLOSED, StepKind.CHILD_EXECED, StepKind.CHILD_EXITED)
_Event = dict[str, Any]
_Spawn = Union[StallObject, SpawnObject]


def trace_events(told: Collection) -> dict[str, Any]:
    """The trace file's object: stalls, and the other spawns where they were told.

    Times count from the first errpipe, which ``otherData`` names.  Raises nothing on objects that
    agent.reports.replay has let through.
    """
    stalls = told.stalls
    stalled = {_same(stall) for stall in stalls}
    spawns: list[_Spawn] = [*stalls, *(spawn for spawn in told.spawns if _same(spawn) not in stalled)]
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
            "stalls_left_out": told.stalls_left_out,
            "spawns_left_out": told.spawns_left_out,
            "summary": told.summary,
        },
    }


@dataclass
class _Slice:
    """A complete event; the first of a stack has a track, and the others are nested in it."""

    name: str
    category: str
    begin: int
    end: int
    args: Mapping[str, Any] = field(default_factory=dict)

    def within(self, at: int) -> int:
        """The nearest moment at which the slice is open (its end is not in it)."""
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
    """Slices, each nested in the one before, and what happens meanwhile; all of it shares a lane."""

    pid: int
    tid: int
    slices: list[_Slice]
    marks: list[_Event] = field(default_factory=list)

    def push(self, name: str, category: str, begin: int, end: int, **args: Any) -> _Slice:
        """A slice within the last one, which bounds it."""
        around = self.slices[-1]
        begin = around.within(begin)
        pushed = _Slice(name, category, begin, max(begin + 1, min(end, around.end)), args)
        self.slices.append(pushed)
        return pushed


class _Trace:
    """Collects stacks, and gives each a lane in the end."""

    def __init__(self) -> None:
        self._stacks: list[_Stack] = []
        self._instants: list[_Event] = []
        self._names: dict[tuple[int, int], dict[str, None]] = defaultdict(dict)
        self._flows = 0

    def stack(self, pid: int, tid: int, comm: str, begin: int, end: int, name: str, category: str) -> _Stack:
        """A new stack with its first slice, of a microsecond at least."""
        self._names[pid, tid].setdefault(comm)
        stack = _Stack(pid, tid, [_Slice(name, category, begin, max(begin + 1, end))])
        self._stacks.append(stack)
        return stack

    def flow(self, name: str, source: tuple[_Stack, _Slice, int], target: tuple[_Stack, _Slice, int]) -> None:
        """An arrow between two slices, at the moments nearest to the given ones; never back in time."""
        begin, end = source[1].within(source[2]), target[1].within(target[2])
        begin = source[1].within(min(begin, end))
        if begin > end:
            return
        self._flows += 1
        common = {"name": name, "cat": "flow", "id": self._flows}
        source[0].marks.append({"ph": "s", **common, "ts": begin})
        target[0].marks.append({"ph": "f", "bp": "e", **common, "ts": end})  # e: the slice that is open then

    def instant(self, pid: int, tid: int, comm: str, event: _Event) -> None:
        """Something that is known without a slice."""
        self._names[pid, tid].setdefault(comm)
        self._instants.append({**event, "pid": pid, "tid": tid})

    def events(self) -> Iterator[_Event]:
        """Names first, then everything in the order of time; a slice comes before what is nested in it."""
        lanes = _Lanes()
        timed = list(self._instants)
        for stack in sorted(self._stacks, key=lambda stack: stack.slices[0].begin):
            outer = stack.slices[0]
            where = {"pid": stack.pid, "tid": lanes.take(stack.pid, stack.tid, outer.begin, outer.end)}
            timed += [{**slice_.event(), **where} for slice_ in stack.slices]
            timed += [{**mark, **where} for mark in stack.marks]
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
    """Tracks of a process on which slices do not overlap; takes them in the order of their begin."""

    def __init__(self) -> None:
        self._busy: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        self._free: dict[tuple[int, int], list[int]] = {}
        self._others: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._last = _NO_SUCH_PID

    def take(self, pid: int, tid: int, begin: int, end: int) -> int:
        """The tid of a lane that is free from begin to end; the thread's own when that is."""
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
        """The lanes beside the thread's own."""
        return self._others.get((pid, tid), [])


class _Drawing:
    """One stall or spawn."""

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
                stack.marks.append(self._mark(self._words(step["what"]), self._place(step["seconds"])))

    def _moment(self, name: str) -> None:
        """No time is known but the one at which it was seen."""
        parent = self._spawn["parent"]
        mark = {**self._mark(name, self._zero), "args": self._args()}
        self._trace.instant(parent["pid"], parent["tid"], parent["comm"], mark)

    def _parent(self) -> tuple[_Stack, _Slice]:
        """The spawn, in it the read, and in that the stall; and the slice that waits."""
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
        name = f"own child of {self._spawn['parent']['comm']}, until its exec"
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
            "holders that were not seen" if holder["pid"] is None else holder["comm"] or "",
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

    def _mark(self, name: str, at: int) -> _Event:
        return {"ph": "i", "s": "t", "name": name, "cat": "step", "ts": at, "args": {}}

    def _words(self, step: str) -> str:
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
            args["evidence"] = spawn["evidence"][:_MOST_EVIDENCE]
        return args

    def _place(self, seconds: float) -> int:
        return max(0, self._zero + round(seconds * 1e6))


def _same(spawn: _Spawn) -> tuple[Any, ...]:
    """Equal for the two objects of a spawn that stalled."""
    return spawn["time"], spawn["parent"]["pid"], spawn["parent"]["tid"]


def _microseconds(rfc3339: str) -> int:
    since = datetime.fromisoformat(rfc3339[:-1]) - datetime(1970, 1, 1)
    return since // timedelta(microseconds=1)


def _named(what: str, pid: int, tid: int, name: str) -> _Event:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _joined(comms: Iterable[str]) -> str:
    """A pid can have had several names."""
    names = list(comms)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return " / ".join(names[:_MOST_NAMES]) + more
