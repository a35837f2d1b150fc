# SPDX-License-Identifier: Apache-2.0
"""The wording that all human-readable reports share: durations, causes, steps, stacks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Literal, Optional

from agent import snapshot
from agent.model import Cause, StepKind
from agent.reports.kinds import time_in
from agent.reports.types import (
    CommandObject,
    ContainerObject,
    HolderObject,
    RunObject,
    StacksObject,
    StallObject,
    WaitObject,
)

__all__ = [
    "WHY",
    "clock_words",
    "container_words",
    "count",
    "duration",
    "end_words",
    "headline_words",
    "late_words",
    "run_words",
    "seen_words",
    "stack_lines",
    "wait_end_words",
    "what_happened",
]

WHY = {cause: snapshot.WHY[cause.value] for cause in Cause}
"""What a holder did, by cause; the holder is the subject."""

_WHAT: dict[str, str] = {
    StepKind.ERRPIPE_CREATED: "creates the errpipe (read fd {r}, write fd {w})",
    StepKind.CHILD_FORKED: "forks the child {child}",
    StepKind.PARENT_CLOSED_WRITE_END: "closes its write end",
    StepKind.READ_BEGAN: "waits in read({r})",
    StepKind.READ_ENDED: "read returns",
    StepKind.PARENT_DIED: "dies in read",
    StepKind.CHILD_CLOSED: "the child closes its copy",
    StepKind.CHILD_EXECED: "the child calls exec, which closes its copy",
    StepKind.CHILD_EXITED: "the child exits, which closes its copy",
    StepKind.HOLDER_FORKED: "is forked with a copy of the write end",
    StepKind.HOLDER_CLOSED: "closes its copy",
    StepKind.HOLDER_EXECED: "calls exec, which closes its copy",
    StepKind.HOLDER_EXITED: "exits, which closes its copy",
    StepKind.HOLDER_RELEASED: "releases its copy",
}
_STACKS: tuple[tuple[Literal["reader", "fork", "holder"], str], ...] = (
    ("reader", "stack of the blocked thread"),
    ("fork", "stack of the thread that forked the holder"),
    ("holder", "stack of the holder"),
)
_MAX_FRAMES = 16
_MAX_WORDS = 1000

_DAY = 86400


def duration(nanoseconds: float) -> str:
    """A time span with about three significant digits, in a suitable unit."""
    seconds = nanoseconds / 1e9
    if seconds >= 120:
        return snapshot.duration(seconds)
    if seconds >= 99.995:
        return f"{seconds:.0f} s"
    if seconds >= 0.99995:
        return f"{seconds:.2f} s"
    if seconds >= 0.0009995:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} us"


def headline_words(p99_ns: Optional[float], stalled_ns: float, spawns: int, lost_records: int) -> str:
    """What people look for first: the p99 of all spawns, and the time that stalls took.

    p99_ns: None if it is not known.  It is an upper bound if records were lost.
    """
    stalled = f"{duration(stalled_ns)} lost to stalls" if stalled_ns else "no time lost to stalls"
    if not spawns:
        return stalled
    if p99_ns is None:
        return f"p99 of a spawn unknown, {stalled}"
    return f"p99 of a spawn {'at most ' if lost_records else ''}{duration(p99_ns)}, {stalled}"


def clock_words(stall: StallObject, seconds: Optional[float]) -> Optional[str]:
    """The time ``seconds`` after the errpipe's creation, as in ``10:23:20.005 UTC``; None if unknown."""
    if seconds is None:
        return None
    when = time_in(stall, seconds)
    if when is None:
        return None
    if (stall.get("stall_seconds") or 0) >= _DAY:
        return f"{when:%Y-%m-%d %H:%M:%S} UTC"
    return f"{when:%H:%M:%S.%f}"[:-3] + " UTC"


def late_words(stall: StallObject) -> Optional[str]:
    """A sentence about a late wake-up, or None if there was none."""
    seconds = stall.get("late_wakeup_seconds", 0)
    if not seconds > 0:
        return None
    return f"After the last copy was closed, the reader took another {duration(seconds * 1e9)} to wake up."


def seen_words(holder: HolderObject, stall: StallObject) -> Optional[str]:
    """When a holder's copy was last seen open, or None if it never was."""
    if holder["confirmation"] != "confirmed":
        return None
    when = clock_words(stall, holder.get("last_seen_seconds"))
    return "copy seen open" if when is None else f"copy last seen open at {when}"


def end_words(holder: HolderObject, stall: StallObject) -> Optional[str]:
    """How a holder with a copy came to its end; None if no look found it there."""
    when = clock_words(stall, holder.get("exiting_seconds"))
    if when is not None:
        return f"exiting since {when}"
    return "crashed, with a core dump" if holder.get("dumping_core") else None


def wait_end_words(wait: WaitObject) -> Optional[str]:
    """How and when a wait has ended: a clause; None if it goes on."""
    ended, how = wait.get("ended"), wait.get("ending")
    if ended is None or how is None:
        return None
    forked = wait["since"] if wait["kind"] in ("own_child", "vfork") else None
    began, end = (
        datetime.strptime(when, "%Y-%m-%dT%H:%M:%S.%fZ") for when in (forked or wait["time"], ended)
    )
    after = duration(max(0.0, (end - began).total_seconds()) * 1e9)
    return f"{how}, at {end:%H:%M:%S} UTC, {after} after {'its fork' if forked else 'the wait was found'}"


def what_happened(what: str, read_fd: int, write_fd: Optional[int], child: Optional[int]) -> str:
    """Describe a step; an unknown one is returned unchanged."""
    return _WHAT.get(what, what).format(r=read_fd, w=write_fd, child=child)


def stack_lines(stacks: StacksObject) -> Iterator[str]:
    """The "stacks" of a stall's object as text: a heading for each stack and one line for each frame."""
    for which, heading in _STACKS:
        stack = stacks[which]
        if stack is None:
            continue
        yield f"{heading} (from {stack['by']})"
        for frame in stack["frames"][:_MAX_FRAMES]:
            line = "" if frame["line"] is None else f":{frame['line']}"
            where = "" if frame["file"] is None else f"  {frame['file']}{line}"
            yield f"  {frame['function']:<24}{where}".rstrip()
        if len(stack["frames"]) > _MAX_FRAMES:
            yield f"  and {len(stack['frames']) - _MAX_FRAMES} more"
    for line in stacks["missing"]:
        yield f"no stack: {line}"


def container_words(container: ContainerObject) -> str:
    """As in ``container 0123456789ab (podman), pod UID``; an unknown runtime or pod is omitted.

    A container of a user, whose word it is, is followed by ``created by uid 1000``.
    """
    runtime = f" ({container['runtime']})" if container["runtime"] else ""
    pod = f", pod {container['pod_uid']}" if container["pod_uid"] else ""
    user = container.get("user")
    created = "" if user is None else f", created by uid {user}"
    return f"container {container['id'][:12]}{runtime}{pod}{created}"


def run_words(run: RunObject, until: Optional[str]) -> str:
    """Where, when and by which command a run was made; until: its end, None if unknown.

    As in ``on web-1 (Linux 6.1.0, x86_64) from 2026-11-24 09:51:40 to 09:51:43 UTC by trace-popen 0.2.0
    --min-ms 5 -- make (2 arguments)``.
    """
    day, clock = run["time"][:10], run["time"][11:19]
    span = f"from {day} {clock}"
    if until is not None:
        span += f" to {until[11:19]}" if until.startswith(day) else f" to {until[:10]} {until[11:19]}"
    command = [f"trace-popen {run['version']}", *map(shlex.quote, run["options"])]
    if run["command"] is not None:
        command += ["--", _command_words(run["command"])]
    host = f"{run['host']} (Linux {run['kernel']}, {run['machine']})"
    line = f"on {host} {span} UTC by {' '.join(command)}"
    return line if len(line) <= _MAX_WORDS else f"{line[:_MAX_WORDS]}..."


def _command_words(command: CommandObject) -> str:
    program = shlex.quote(command["program"])
    if command["arguments"] is None:
        return f"{program} ({count(command['argument_count'], 'argument')})"
    more = command["argument_count"] - len(command["arguments"])
    left_out = f" (and {count(more, 'more argument')})" if more > 0 else ""
    return " ".join([program, *map(shlex.quote, command["arguments"])]) + left_out


def count(number: int, what: str) -> str:
    """A number with its noun, as in ``1 stall`` and ``1,024 stalls``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
