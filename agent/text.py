"""What trace-popen prints for a person: the answer first, then the evidence.

Built as rich Text, so that a terminal gets colour and a pipe gets the same words without.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from agent.model import Cause, Confirmation, Holder, Outcome, Spawn, Stall, Step
from agent.report import Clock, printable

__all__ = ["WHY", "duration", "snapshot_text", "spawn_line", "stall_text", "summary_text", "what_happened"]

WHY = {
    Cause.FORKED: "forked while the pipe was open, and not execed since",
    Cause.LEAKED: "execed with its copy, which was not close-on-exec",
    Cause.LATE_EXEC: "forked while the pipe was open, and slow to exec",
    Cause.OWN_DESCENDANT: "forked by the child that was being started",
    Cause.PASSED: "given a copy by another process",
    Cause.UNKNOWN: "why it has a copy is not known",
}
"""What each cause says of a holder."""

_WHAT = {
    "errpipe_created": "makes the errpipe (read fd {r}, write fd {w})",
    "child_forked": "forks the child {child}",
    "parent_closed_write_end": "closes its own write end",
    "read_began": "waits in read({r})",
    "read_ended": "read returns",
    "parent_died": "dies in read",
    "child_closed": "the child closes its copy",
    "child_execed": "the child execs: its copy is closed",
    "child_exited": "the child exits: its copy is closed",
    "holder_forked": "is forked, with a copy of the write end",
    "holder_closed": "closes its copy",
    "holder_execed": "execs: its copy is closed",
    "holder_exited": "exits: its copy is closed",
    "holder_released": "lets go of its copy",
}


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


def what_happened(step: str, read_fd: int, write_fd: int, child: int) -> str:
    """A step in words, as in "forks the child 123"."""
    return _WHAT.get(step, step).format(r=read_fd, w=write_fd, child=child)


def stall_text(stall: Stall, clock: Clock) -> Text:
    """A paragraph: who is blocked, by whom and why; then the steps."""
    spawn = stall.spawn
    text = Text()
    until = time.monotonic_ns() if stall.ended is None else stall.ended
    span = duration(until - stall.began)
    when = clock.rfc3339(stall.began)[11:23]
    if stall.ended is None:
        text.append("STALL GOING ON", "bold red")
        text.append(f"  {_who(spawn)} has been blocked for {span},\n  since {when} UTC")
    else:
        text.append("STALL", "bold yellow")
        text.append(f"  {_who(spawn)} was blocked for {span},\n  from {when} UTC")
    text.append(f", in starting {printable(spawn.child_comm)} (pid {spawn.child}).\n")
    for number, holder in enumerate(stall.holders):
        text.append("  held by  " if number == 0 else "  also by  ")
        text.append(_holder_name(holder), "bold")
        text.append(f": {'its copy was not seen' if holder.pid is None else WHY[holder.cause]}\n")
        text.append(f"           {', '.join(_evidence(holder))}\n", "dim")
    for step in stall.steps:
        text.append(_step_line(step, spawn), "dim")
    return text


def snapshot_text(found: Mapping[str, Any]) -> Text:
    """A stall that was found by looking at /proc: who is blocked, by whom; then the evidence."""
    parent, child = found["parent"], found["child"]
    text = Text()
    if found["state"] == "ongoing":
        text.append("BLOCKED NOW" if found["certainty"] == "certain" else "POSSIBLY BLOCKED NOW", "bold red")
    else:
        text.append("STALL", "bold yellow")
    thread = "" if parent["tid"] == parent["pid"] else f", thread {parent['tid']}"
    text.append(f"  {parent['comm']} (pid {parent['pid']}{thread}) in read({found['errpipe']['read_fd']})")
    if found["stall_seconds"] is not None:
        text.append(f" for about {duration(found['stall_seconds'] * 1e9)}")
    text.append(
        ",\n  in starting a program.\n"
        if child is None
        else f",\n  in starting {child['comm']} (pid {child['pid']}).\n"
    )
    for number, holder in enumerate(found["holders"]):
        text.append("  held by  " if number == 0 else "  also by  ")
        if holder["pid"] is None:
            text.append("somebody who cannot be seen\n", "bold")
            continue
        text.append(f"{holder['comm']} (pid {holder['pid']})", "bold")
        text.append(f": {WHY[Cause(holder['cause'])]}\n")
        fds = ", ".join(str(fd) for fd in holder["fds"])
        text.append(f"           cause {holder['cause']}, fd {fds}\n", "dim")
    for line in found["evidence"]:
        text.append(f"    {line}\n", "dim")
    return text


def spawn_line(spawn: Spawn, clock: Clock) -> Text:
    """One line for a spawn that ended."""
    outcome = spawn.outcome or Outcome.ABANDONED
    style = {Outcome.OK: "green", Outcome.EXEC_FAILED: "red", Outcome.ABANDONED: "yellow"}[outcome]
    text = Text(f"{clock.rfc3339(spawn.created)[11:23]}  ")
    text.append(f"{outcome.value:<11}", style)
    span = "-" if spawn.read_ended is None else duration(spawn.read_ended - spawn.created)
    text.append(f" {span:>8}  {_who(spawn)} -> {printable(spawn.child_comm)} (pid {spawn.child})")
    return text


def summary_text(summary: Mapping[str, Any]) -> Text:
    """The end of a run, from the summary's JSON object."""
    text = Text()
    text.append(
        f"{summary['seconds']:.1f} s: {_count(summary['spawns'], 'spawn')},"
        f" {_count(summary['stalls'], 'stall')}, {_count(summary['exec_failures'], 'failed exec')},"
        f" {_count(summary['lost_records'], 'lost record')}\n",
        "bold",
    )
    spawn = summary["spawn_seconds"]
    if spawn["max"] is not None:
        quantiles = ", ".join(f"{name} {duration(value * 1e9)}" for name, value in spawn.items())
        text.append(f"  a spawn took: {quantiles}\n")
    if summary["stalls"]:
        text.append(f"  stalled in all: {duration(summary['stalled_seconds'] * 1e9)}, held by\n")
    for holder in summary["holders"]:
        text.append(
            f"    {holder['comm'] or 'unknown':<16} {holder['cause']:<15}"
            f" {_count(holder['stalls'], 'stall')}, {duration(holder['seconds'] * 1e9)}\n"
        )
    if summary["lost_records"]:
        text.append("  records were lost: there were more stalls than are shown here\n", "red")
    return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _who(spawn: Spawn) -> str:
    thread = "" if spawn.tid == spawn.pid else f", thread {spawn.tid}"
    return f"{printable(spawn.comm)} (pid {spawn.pid}{thread})"


def _holder_name(holder: Holder) -> str:
    if holder.pid is None:
        return "somebody unknown"
    return f"{printable(holder.comm)} (pid {holder.pid})"


def _evidence(holder: Holder) -> list[str]:
    evidence = [f"cause {holder.cause.value}"]
    if holder.fds:
        evidence.append(f"fd {', '.join(str(fd) for fd in holder.fds)}")
    if holder.parent:
        evidence.append(f"forked by pid {holder.parent}")
    if holder.released is not None:
        evidence.append(f"let go by {holder.released_by}")
    if holder.confirmation is Confirmation.CONFIRMED:
        evidence.append("seen in /proc")
    elif holder.confirmation is Confirmation.MISMATCH:
        evidence.append("/proc disagrees")
    return evidence


def _step_line(step: Step, spawn: Spawn) -> str:
    what = what_happened(step.what, spawn.read_fd, spawn.write_fd, spawn.child)
    return f"  {(step.at - spawn.created) / 1e6:>12.3f} ms  pid {step.pid:<8} {what}\n"
