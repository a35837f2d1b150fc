# SPDX-License-Identifier: Apache-2.0
"""One stall as HTML, made from its JSON object: the answer on one line, and all details below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Optional, Union

from agent.model import Cause
from agent.render.markup import moment
from agent.render.timeline import CAPTION, timeline
from agent.render.words import (
    WHY,
    container_words,
    duration,
    late_words,
    seen_words,
    stack_lines,
    what_happened,
)
from agent.reports.types import HolderObject, StalledParentObject, StallObject

__all__ = ["child_name", "holder_name", "stall_details", "stall_span"]

_MAX_HOLDERS = 12
_MAX_STEPS = 60
_MAX_EVIDENCE = 30
_NO_TIMES = "Found in /proc: who holds the pipe's write end (dashed) and who waits. Start time unknown."


def stall_details(stall: StallObject, name: str, today: str, is_open: bool) -> str:
    """A ``<details>`` with ``name`` as its id; the date is shown unless it is ``today`` (YYYY-MM-DD)."""
    ongoing = stall["state"] == "ongoing"
    parent, culprit = stall["parent"], stall["holders"][0]
    verb = "waits to start" if ongoing else "waited to start"
    if stall.get("certainty") == "possible":
        verb = f"possibly {verb}"
    more = len(stall["holders"]) - 1
    others = f" and {more} more" if more else ""
    day = "" if stall["time"].startswith(today) else f"{escape(stall['time'][:10])} "
    caption = CAPTION if stall["steps"] else _NO_TIMES
    return (
        f'<details class="stall {stall["state"]}" id="{escape(name)}"'
        f' data-state="{stall["state"]}" data-parent="{parent["pid"]}"{" open" if is_open else ""}>'
        f'<summary><time datetime="{escape(stall["time"])}" title="{escape(moment(stall["time"]))}">'
        f"{day}{escape(stall['time'][11:19])}</time>"
        f'<span class="story"><b>{escape(parent["comm"])}</b> {verb} <b>{escape(child_name(stall))}</b>,'
        f' <span class="by">held by <b>{escape(holder_name(culprit))}</b>{others}</span>'
        f' <span class="chip">{escape(culprit["cause"])}</span></span>'
        f'<span class="span">{stall_span(stall)}</span></summary>'
        f'<div class="body">{_release(stall)}<p class="advice">{escape(stall["advice"])}'
        f' <span class="see">{escape(stall["advice_source"])}</span></p>{_late(stall)}'
        f'<ul class="holders"><li><b>{escape(parent["comm"])}</b> {escape("; ".join(_parent(parent)))}</li>'
        f"{''.join(_holders(stall))}</ul>{_stacks(stall, name)}"
        f"<figure>{timeline(stall)}<figcaption>{escape(caption)}</figcaption></figure>"
        f"{_evidence(stall.get('evidence') or ())}{_steps(stall)}</div></details>"
    )


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


def _release(stall: StallObject) -> str:
    """How to end a stall in progress now."""
    now = stall.get("release")
    return f'<p class="advice"><b>Now:</b> {escape(now)}</p>' if now else ""


def _late(stall: StallObject) -> str:
    sentence = late_words(stall)
    return "" if sentence is None else f'<p class="late">{escape(sentence)}</p>'


def _holders(stall: StallObject) -> Iterable[str]:
    holders = stall["holders"]
    for holder in holders[:_MAX_HOLDERS]:
        if holder["pid"] is None:
            yield "<li><b>an unknown process</b>, whose copy was not observed</li>"
            continue
        facts = [f"pid {holder['pid']}: {WHY[Cause(holder['cause'])]}", *_identity(holder)]
        if holder["fds"]:
            facts.append("fd " + ", ".join(str(fd) for fd in holder["fds"][:_MAX_HOLDERS]))
        seen = seen_words(holder, stall)
        if seen is not None:
            facts.append(seen)
        yield f"<li><b>{escape(holder_name(holder))}</b> {escape('; '.join(facts))}</li>"
    more = len(holders) - _MAX_HOLDERS
    if more > 0:
        yield f"<li>and {more} more</li>"


def _stacks(stall: StallObject, name: str) -> str:
    if not stall.get("stacks"):
        return ""
    return (
        f'<details class="stacks" id="stacks-{escape(name)}" data-state="{stall["state"]}">'
        f"<summary>Stacks</summary><pre>{escape(chr(10).join(stack_lines(stall['stacks'])))}</pre>"
        "</details>"
    )


def _parent(parent: StalledParentObject) -> list[str]:
    thread = "" if parent["tid"] == parent["pid"] else f", thread {parent['tid']}"
    return [f"pid {parent['pid']}{thread}: waits for its child's exec", *_identity(parent)]


def _identity(process: Union[StalledParentObject, HolderObject]) -> Iterable[str]:
    if process["exe"] is not None:
        yield f"{process['exe']}, uid {process['uid']}"
    if process["container"] is not None:
        yield container_words(process["container"])


def _evidence(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    shown = list(lines[:_MAX_EVIDENCE])
    if len(lines) > _MAX_EVIDENCE:
        shown.append(f"and {len(lines) - _MAX_EVIDENCE} more")
    return f'<ul class="evidence">{"".join(f"<li>{escape(line)}</li>" for line in shown)}</ul>'


def _steps(stall: StallObject) -> str:
    errpipe, steps = stall["errpipe"], stall["steps"]
    if not steps:
        return ""
    parent, child = stall["parent"], stall["child"]
    names: dict[Optional[int], Optional[str]] = {parent["pid"]: parent["comm"]}
    if child is not None:
        names[child["pid"]] = child["comm"]
    names.update((holder["pid"], holder["comm"]) for holder in stall["holders"])
    rows = []
    for number, step in enumerate(steps[:_MAX_STEPS], 1):
        what = what_happened(step["what"], errpipe["read_fd"], errpipe["write_fd"], child and child["pid"])
        rows.append(
            f"<tr><td>{number}</td><td>{step['seconds'] * 1e3:,.3f} ms</td>"
            f"<td>{escape(names.get(step['pid']) or '')} {step['pid']}</td><td>{escape(what)}</td></tr>"
        )
    if len(steps) > _MAX_STEPS:
        rows.append(f"<tr><td></td><td></td><td></td><td>and {len(steps) - _MAX_STEPS} more</td></tr>")
    return f'<table class="steps">{"".join(rows)}</table>'
