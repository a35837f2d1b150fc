# SPDX-License-Identifier: Apache-2.0
"""Text reports of trace-popen: the answer first, then the evidence.

Everything is rendered from the JSON objects of agent.reports, so a saved report renders the same.  The
results are renderables of rich: coloured and as wide as the terminal, or plain text in a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from agent.model import Cause
from agent.render.words import (
    WHY,
    clock_words,
    container_words,
    count,
    duration,
    end_words,
    headline_words,
    late_words,
    run_words,
    seen_words,
    stack_lines,
    what_happened,
)
from agent.reports.exposures import exposure_lines
from agent.reports.losses import loss_lines
from agent.reports.types import HolderObject, RunObject, SpawnObject, StallObject, SummaryObject

__all__ = ["end_line", "run_line", "spawn_line", "stall_text", "summary_text"]

_OUTCOME_STYLES = {"ok": "green", "exec_failed": "red", "abandoned": "yellow"}


def stall_text(stall: StallObject, steps: bool = True) -> Group:
    """A stall: who is blocked, by whom, why and what to do, then the evidence and, on request, the steps."""
    entries = []
    for number, holder in enumerate(stall["holders"]):
        entries.append(_entry("held by" if number == 0 else "also by", _holder(holder)))
        entries.append(_entry("", Text(", ".join(_evidence(holder, stall)), "dim")))
    now = stall.get("release")
    if now:
        entries.append(_entry("now", Text(now, "bold")))
    if "advice" in stall:
        entries.append(_entry("advice", Text(stall["advice"], "green")))
        entries.append(_entry("", Text(stall.get("advice_source", ""), "dim", no_wrap=True)))
    entries += _listed("process", _identities(stall))
    entries += _listed("evidence", stall.get("evidence", ()))
    lines = [f"  {line}" for line in stack_lines(stall["stacks"])] if "stacks" in stall else []
    lines += _steps(stall) if steps else ()
    # Never cut, even on a narrow console: a truncated path loses its line number.
    details = [Text(line, "dim", no_wrap=True, overflow="ignore") for line in lines]
    return Group(_Hanging("", "  ", _headline(stall)), *entries, *details)


def spawn_line(spawn: SpawnObject) -> Text:
    """An ended spawn on one line."""
    text = Text(f"{spawn['time'][11:23]}  ")
    outcome = spawn["outcome"] or "unknown"
    text.append(f"{outcome:<11}", _OUTCOME_STYLES.get(outcome, ""))
    span = "-" if spawn["spawn_seconds"] is None else duration(spawn["spawn_seconds"] * 1e9)
    text.append(f" {span:>11}  {_process(spawn['parent'])} -> {_process(spawn['child'])}")
    return text


def end_line(stall: StallObject) -> Text:
    """The end of a stall that was shown while it was in progress."""
    holder = stall["holders"][0]
    text = Text.assemble(("ENDED", "bold green"), f"  {_process(stall['parent'])} was blocked")
    if stall["stall_seconds"] is not None:
        text.append(f" for {duration(stall['stall_seconds'] * 1e9)}")
    if holder["pid"] is not None and holder["released_by"] is not None:
        text.append(f", until {_process(holder)} released its copy by {holder['released_by']}")
    text.append(".")
    return text


def run_line(run: RunObject, until: Optional[str] = None) -> _Hanging:
    """Where a report comes from; until: the end of the run, None if unknown."""
    return _Hanging("  ", "    ", Text(run_words(run, until), "dim"))


def summary_text(summary: SummaryObject) -> Text:
    """The summary of a run, without its kinds of stalls (kindtable.py)."""
    text = Text()
    total = summary.get("stall_total_seconds")
    # Reports of earlier versions have only what was seen and has ended.
    p99 = (
        summary["spawn_seconds"]["p99"]
        if "spawn_p99_seconds" not in summary
        else summary["spawn_p99_seconds"]
    )
    words = headline_words(
        None if p99 is None else p99 * 1e9,
        (summary["stalled_seconds"] if total is None else total) * 1e9,
        summary["spawns"],
        summary["lost_records"],
    )
    text.append(f"{summary['seconds']:.1f} s: {words}\n", "bold")
    text.append(
        f"  {count(summary['spawns'], 'spawn')}, {count(summary['stalls'], 'stall')},"
        f" {count(summary['exec_failures'], 'failed exec')},"
        f" {count(summary['lost_records'], 'lost record')}\n"
    )
    took = summary["spawn_seconds"]
    known = (("p50", took["p50"]), ("p95", took["p95"]), ("p99", took["p99"]), ("max", took["max"]))
    quantiles = ", ".join(f"{name} {duration(value * 1e9)}" for name, value in known if value is not None)
    if quantiles:
        text.append(f"  spawn time: {quantiles}\n")
    if summary["ongoing"]:
        text.append(f"  still in progress: {count(summary['ongoing'], 'stall')}\n", "bold red")
    for line in exposure_lines(summary.get("exposures") or ()):
        text.append(f"  {line}\n")
    ended, waiting = summary.get("waits", 0), summary.get("waits_in_progress", 0)
    if ended or waiting:
        text.append(f"  waits that are not stalls: {ended:,} ended, {waiting:,} in progress\n")
    if summary["lost_records"]:
        text.append("  records were lost: stalls may be missing from this report\n", "red")
    for line in loss_lines(summary.get("not_followed", {}), besides="records_lost"):
        text.append(f"  not followed: {line}\n", "red")
    text.rstrip()
    return text


def _headline(stall: StallObject) -> Text:
    ongoing = stall["state"] == "ongoing"
    text = Text()
    if not ongoing:
        text.append("STALL", "bold yellow")
    elif stall.get("certainty") == "possible":
        text.append("POSSIBLE STALL IN PROGRESS", "bold red")
    else:
        text.append("STALL IN PROGRESS", "bold red")
    text.append(f"  {_process(stall['parent'])} {'has been' if ongoing else 'was'} blocked")
    if stall["stall_seconds"] is not None:
        text.append(" for ")
        text.append(duration(stall["stall_seconds"] * 1e9), "bold")
    child = stall["child"]
    text.append(f" while starting {_process(child)}" if child else " while starting a program")
    began = clock_words(stall, stall["began_seconds"])
    if began is not None:
        text.append(f", {'since' if ongoing else 'from'} {began}")
    text.append(".")
    late = late_words(stall)
    if late is not None:
        text.append(f" {late}")
    return text


def _holder(holder: HolderObject) -> Text:
    if holder["pid"] is None:
        return Text.assemble(("an unknown process", "bold"), ": its copy was not observed")
    name = (_process(holder), "bold")
    return Text.assemble(name, f": {WHY[Cause(holder['cause'])]}")


def _evidence(holder: HolderObject, stall: StallObject) -> Iterable[str]:
    yield f"cause {holder['cause']}"
    if holder["fds"]:
        yield f"fd {', '.join(str(fd) for fd in holder['fds'])}"
    if holder["forked_by"]:
        yield f"forked by {_process({**holder['forked_by'], 'comm': ''})}"
    if holder["released_by"]:
        yield f"released by {holder['released_by']}"
    for words in (seen_words(holder, stall), end_words(holder, stall)):
        if words is not None:
            yield words


def _identities(stall: StallObject) -> Iterable[str]:
    """Executable, user and container of each process, as far as known."""
    for process in (stall["parent"], *stall["holders"]):
        if process["uid"] is None:
            continue
        exe = f"{process['exe']}, " if process["exe"] is not None else ""
        inside = f", {container_words(process['container'])}" if process["container"] else ""
        yield f"{process['pid']}: {exe}uid {process['uid']}{inside}"


def _steps(stall: StallObject) -> Iterable[str]:
    errpipe, child = stall["errpipe"], stall["child"]
    for step in stall["steps"]:
        what = what_happened(step["what"], errpipe["read_fd"], errpipe["write_fd"], child and child["pid"])
        yield f"  {step['seconds'] * 1e3:>12,.3f} ms  pid {step['pid']:<8} {what}"


def _process(process: Mapping[str, Any]) -> str:
    """As in ``web-app (pid 29033, thread 29040)``."""
    thread = "" if process.get("tid", process["pid"]) == process["pid"] else f", thread {process['tid']}"
    place = f"pid {process['pid']}{thread}"
    return f"{process['comm']} ({place})" if process["comm"] else place


def _listed(label: str, lines: Iterable[str]) -> Iterable[_Hanging]:
    for line in lines:
        yield _entry(label, Text(line, "dim"))
        label = ""


class _Hanging:
    """Text wrapped to the console's width, with one prefix for the first line and another for the rest."""

    def __init__(self, first: str, rest: str, text: Text) -> None:
        self._first, self._rest = first, rest
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(20, options.max_width - len(self._rest))
        lines = [self._text] if self._text.no_wrap else self._text.wrap(console, width)
        before = self._first
        for line in lines:
            line.rstrip()
            yield Text.assemble((before, "dim"), line, no_wrap=True, overflow="ignore")
            before = self._rest


def _entry(label: str, text: Text) -> _Hanging:
    """Text with a label on its left."""
    return _Hanging(f"  {label:<9}", " " * 11, text)
