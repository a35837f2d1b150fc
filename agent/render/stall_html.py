# SPDX-License-Identifier: Apache-2.0
"""One stall for the template of the same name, made from its JSON object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional, Union

from agent.model import Cause
from agent.render.timeline import CAPTION, timeline
from agent.render.words import (
    WHY,
    container_words,
    duration,
    end_words,
    late_words,
    seen_words,
    stack_lines,
    what_happened,
)
from agent.reports.types import HolderObject, StalledParentObject, StallObject

__all__ = ["child_name", "holder_name", "stall_span", "stall_view"]

_MAX_HOLDERS = 12
_MAX_STEPS = 60
_MAX_EVIDENCE = 30
_NO_TIMES = "Found in /proc: who holds the pipe's write end (dashed) and who waits. Start time unknown."


def stall_view(stall: StallObject, name: str, today: str, is_open: bool) -> dict[str, Any]:
    """What the template shows of a stall; the date is shown unless it is ``today`` (YYYY-MM-DD).

    name: the id of its element.
    """
    verb = "waits to start" if stall["state"] == "ongoing" else "waited to start"
    if stall.get("certainty") == "possible":
        verb = f"possibly {verb}"
    parent, culprit = stall["parent"], stall["holders"][0]
    more = len(stall["holders"]) - 1
    day = "" if stall["time"].startswith(today) else f"{stall['time'][:10]} "
    evidence = list(stall.get("evidence") or ())
    return {
        "name": name,
        "is_open": is_open,
        "state": stall["state"],
        "time": stall["time"],
        "clock": day + stall["time"][11:19],
        "parent": parent,
        "verb": verb,
        "child": child_name(stall),
        "holder": holder_name(culprit),
        "others": f" and {more} more" if more else "",
        "cause": Cause(culprit["cause"]).value,
        "span": stall_span(stall),
        "release": stall.get("release"),
        "advice": stall.get("advice", ""),
        "advice_source": stall.get("advice_source", ""),
        "late": late_words(stall),
        "processes": [(parent["comm"], "; ".join(_parent(parent))), *_holders(stall)],
        "stacks": list(stack_lines(stall["stacks"])) if stall.get("stacks") else [],
        "timeline": timeline(stall),
        "caption": CAPTION if stall["steps"] else _NO_TIMES,
        "evidence": _cut(evidence, _MAX_EVIDENCE),
        "steps": _steps(stall),
    }


def holder_name(holder: HolderObject) -> str:
    """The holder's comm as plain text."""
    return "an unknown process" if holder["pid"] is None else str(holder["comm"])


def child_name(stall: StallObject) -> str:
    """The own child's comm as plain text."""
    return "a program" if stall["child"] is None else str(stall["child"]["comm"])


def stall_span(stall: StallObject) -> str:
    """How long the stall lasted, or has lasted so far."""
    seconds = stall["stall_seconds"]
    return "duration unknown" if seconds is None else duration(seconds * 1e9)


def _holders(stall: StallObject) -> Iterable[tuple[str, str]]:
    holders = stall["holders"]
    for holder in holders[:_MAX_HOLDERS]:
        if holder["pid"] is None:
            yield "an unknown process,", "whose copy was not observed"
            continue
        facts = [f"pid {holder['pid']}: {WHY[Cause(holder['cause'])]}", *_identity(holder)]
        if holder["fds"]:
            facts.append("fd " + ", ".join(str(fd) for fd in holder["fds"][:_MAX_HOLDERS]))
        facts += filter(None, [seen_words(holder, stall), end_words(holder, stall)])
        yield holder_name(holder), "; ".join(facts)
    more = len(holders) - _MAX_HOLDERS
    if more > 0:
        yield "", f"and {more} more"


def _parent(parent: StalledParentObject) -> list[str]:
    thread = "" if parent["tid"] == parent["pid"] else f", thread {parent['tid']}"
    return [f"pid {parent['pid']}{thread}: waits for its child's exec", *_identity(parent)]


def _identity(process: Union[StalledParentObject, HolderObject]) -> Iterable[str]:
    if process["exe"] is not None:
        yield f"{process['exe']}, uid {process['uid']}"
    if process["container"] is not None:
        yield container_words(process["container"])


def _cut(lines: list[str], limit: int) -> list[str]:
    more = len(lines) - limit
    return lines if more <= 0 else [*lines[:limit], f"and {more} more"]


def _steps(stall: StallObject) -> list[tuple[str, str, str, str]]:
    """Number, time, process and action of each step."""
    errpipe, steps = stall["errpipe"], stall["steps"]
    parent, child = stall["parent"], stall["child"]
    names: dict[Optional[int], Optional[str]] = {parent["pid"]: parent["comm"]}
    if child is not None:
        names[child["pid"]] = child["comm"]
    names.update((holder["pid"], holder["comm"]) for holder in stall["holders"])
    rows = []
    for number, step in enumerate(steps[:_MAX_STEPS], 1):
        what = what_happened(step["what"], errpipe["read_fd"], errpipe["write_fd"], child and child["pid"])
        who = f"{names.get(step['pid']) or ''} {step['pid']}"
        rows.append((str(number), f"{step['seconds'] * 1e3:,.3f} ms", who, what))
    if len(steps) > _MAX_STEPS:
        rows.append(("", "", "", f"and {len(steps) - _MAX_STEPS} more"))
    return rows
