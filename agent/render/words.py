"""The words of every report for a person: durations, causes, steps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal, Optional

from agent.model import Cause, StepKind
from agent.reports.types import ContainerObject, HolderObject, StacksObject, StallObject

__all__ = [
    "WHY",
    "clock_words",
    "container_words",
    "count",
    "duration",
    "late_words",
    "seen_words",
    "stack_lines",
    "what_happened",
]

WHY = {
    Cause.FORKED: "forked while the pipe was open, and not execed since",
    Cause.LEAKED: "execed with its copy, which was not close-on-exec",
    Cause.LATE_EXEC: "forked while the pipe was open, and slow to exec",
    Cause.OWN_DESCENDANT: "forked by the child that was being started",
    Cause.PASSED: "given a copy by another process",
    Cause.UNKNOWN: "why it has a copy is not known",
}
"""What a holder did, by cause."""

_WHAT: dict[str, str] = {
    StepKind.ERRPIPE_CREATED: "makes the errpipe (read fd {r}, write fd {w})",
    StepKind.CHILD_FORKED: "forks the child {child}",
    StepKind.PARENT_CLOSED_WRITE_END: "closes its own write end",
    StepKind.READ_BEGAN: "waits in read({r})",
    StepKind.READ_ENDED: "read returns",
    StepKind.PARENT_DIED: "dies in read",
    StepKind.CHILD_CLOSED: "the child closes its copy",
    StepKind.CHILD_EXECED: "the child execs: its copy is closed",
    StepKind.CHILD_EXITED: "the child exits: its copy is closed",
    StepKind.HOLDER_FORKED: "is forked, with a copy of the write end",
    StepKind.HOLDER_CLOSED: "closes its copy",
    StepKind.HOLDER_EXECED: "execs: its copy is closed",
    StepKind.HOLDER_EXITED: "exits: its copy is closed",
    StepKind.HOLDER_RELEASED: "lets go of its copy",
}
_STACKS: tuple[tuple[Literal["reader", "fork", "holder"], str], ...] = (
    ("reader", "where it is blocked"),
    ("fork", "where the holder was forked"),
    ("holder", "where the holder is"),
)
_MOST_FRAMES = 16


def duration(nanoseconds: float) -> str:
    """A time span with three digits or so, in the unit that suits it."""
    seconds = nanoseconds / 1e9
    if seconds >= 99.995:
        return f"{seconds:.0f} s"
    if seconds >= 0.99995:
        return f"{seconds:.2f} s"
    if seconds >= 0.0009995:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} us"


def clock_words(stall: StallObject, seconds: Optional[float]) -> Optional[str]:
    """The time so long after a stall's errpipe was made, as in ``10:23:20.005 UTC``; None: not known."""
    if seconds is None:
        return None
    try:
        when = datetime.fromisoformat(stall["time"].replace("Z", "+00:00")) + timedelta(seconds=seconds)
    except OverflowError:  # a kept report can hold any time
        return None
    return f"{when:%H:%M:%S.%f}"[:-3] + " UTC"


def late_words(stall: StallObject) -> Optional[str]:
    """A sentence about a reader that waited on although nobody kept it any more; None: it did not."""
    seconds = stall.get("late_wakeup_seconds", 0)
    if not seconds > 0:
        return None
    return f"After that the reader was woken {duration(seconds * 1e9)} late: nobody held the pipe any more."


def seen_words(holder: HolderObject, stall: StallObject) -> Optional[str]:
    """When a holder's copy was last seen open; None: never."""
    if holder["confirmation"] != "confirmed":
        return None
    when = clock_words(stall, holder.get("last_seen_seconds"))
    return "seen holding it" if when is None else f"seen holding it at {when}"


def what_happened(what: str, read_fd: int, write_fd: Optional[int], child: Optional[int]) -> str:
    """A step in words; one that has none is given as it is."""
    return _WHAT.get(what, what).format(r=read_fd, w=write_fd, child=child)


def stack_lines(stacks: StacksObject) -> Iterator[str]:
    """Where in the code a stall came about, from "stacks" of its object: headings, and a line a frame."""
    for which, heading in _STACKS:
        stack = stacks[which]
        if stack is None:
            continue
        yield f"{heading} (by {stack['by']})"
        for frame in stack["frames"][:_MOST_FRAMES]:
            line = "" if frame["line"] is None else f":{frame['line']}"
            where = "" if frame["file"] is None else f"  {frame['file']}{line}"
            yield f"  {frame['function']:<24}{where}".rstrip()
        if len(stack["frames"]) > _MOST_FRAMES:
            yield f"  and {len(stack['frames']) - _MOST_FRAMES} more"
    for line in stacks["missing"]:
        yield f"no stack: {line}"


def container_words(container: ContainerObject) -> str:
    """As in ``container 0123456789ab (podman), pod UID``; runtime and pod where they are known."""
    runtime = f" ({container['runtime']})" if container["runtime"] else ""
    pod = f", pod {container['pod_uid']}" if container["pod_uid"] else ""
    return f"container {container['id'][:12]}{runtime}{pod}"


def count(number: int, what: str) -> str:
    """A number of things, as in ``1 stall`` and ``1,024 stalls``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
