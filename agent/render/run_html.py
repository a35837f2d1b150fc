# SPDX-License-Identifier: Apache-2.0
"""A run of trace-popen as one self-contained HTML page without scripts.

Its size is bounded, and it states how many stalls it omits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from agent import __version__
from agent.model import Cause
from agent.render.markup import moment, part, render, source_hash
from agent.render.overview import overview
from agent.render.stall_html import child_name, holder_name, stall_span, stall_view
from agent.render.wait_html import wait_views
from agent.render.words import count, duration
from agent.reports.collection import Collection
from agent.reports.losses import loss_lines
from agent.reports.types import StallObject, SummaryHolderObject, SummaryObject

__all__ = ["html_report"]

_MAX_DETAILS = 100
_MAX_ROWS = 2000
_MAX_CULPRITS = 20
_OPEN = 3  # number of details that are open initially


def html_report(collection: Collection) -> str:
    """The page: the summary, the longest stalls in detail, and a table of the stalls."""
    stalls = collection.stalls
    longest = sorted(stalls, key=_length, reverse=True)
    detailed = longest[:_MAX_DETAILS]
    links = {id(stall): f"stall-{number}" for number, stall in enumerate(detailed, 1)}
    listed = sorted(longest[:_MAX_ROWS], key=lambda stall: str(stall["time"]))
    number = len(stalls) + collection.stalls_left_out
    style = part("stall_html.css") + part("timeline.css") + part("run_html.css")
    first_day = min((str(stall["time"]) for stall in detailed), default="")[:10]
    return render(
        "run_html.html",
        policy=(
            f"default-src 'none'; style-src {source_hash(style)}; img-src data:; base-uri 'none';"
            " form-action 'none'"
        ),
        title=f"{count(number, 'stall')} seen by trace-popen",
        style=style,
        script="",
        span=_span_of_time(stalls),
        **_summary(collection, number),
        overview=overview((f"#{links.get(id(stall), 'all')}", stall) for stall in listed),
        number=number,
        detailed=[
            stall_view(stall, links[id(stall)], first_day, place < _OPEN)
            for place, stall in enumerate(detailed)
        ],
        listed=[_row(stall, links.get(id(stall)), str(listed[0]["time"])[:10]) for stall in listed],
        waits=wait_views(collection.waits, collection.waits_left_out),
        version=__version__,
    )


def _length(stall: StallObject) -> float:
    seconds = stall["stall_seconds"]
    return math.inf if seconds is None else float(seconds)


# -- the parts --


def _span_of_time(stalls: Sequence[StallObject]) -> str:
    times = sorted(str(stall["time"]) for stall in stalls)
    if not times:
        return ""
    if moment(times[0]) == moment(times[-1]):
        return moment(times[0])
    return f"{moment(times[0])} to {moment(times[-1])}"


def _summary(collection: Collection, number: int) -> dict[str, Any]:
    summary, stalls = collection.summary, collection.stalls
    known = [stall["stall_seconds"] for stall in stalls if stall["stall_seconds"] is not None]
    ongoing = sum(stall["state"] == "ongoing" for stall in stalls)
    notes = []
    facts = [("stalls", f"{number:,}", "bad" if number else "good")]
    if summary is None:
        notes.append("The report has no summary: the figures are computed from the stalls in it.")
        facts += [("total stall time", _span(sum(known)), "")]
        culprits = _culprits(stalls)
    else:
        facts += [
            ("total stall time", _span(summary["stalled_seconds"]), ""),
            ("spawns", f"{summary['spawns']:,}", ""),
            ("failed execs", f"{summary['exec_failures']:,}", ""),
            ("lost records", f"{summary['lost_records']:,}", "bad" if summary["lost_records"] else ""),
            ("traced for", _span(summary["seconds"]), ""),
        ]
        culprits = summary["holders"]
        if summary["lost_records"]:
            notes.append("Records were lost: stalls may be missing from this report.")
        notes += [
            f"Not followed: {line}."
            for line in loss_lines(summary.get("not_followed", {}), besides="records_lost")
        ]
        if collection.summaries > 1:
            notes.append(f"The report contains {collection.summaries} runs; the figures are of the last one.")
    if ongoing:
        notes.append(f"{count(ongoing, 'stall')} still in progress at the end of the report.")
    return {
        "facts": facts,
        "notes": notes,
        "culprits": culprits[:_MAX_CULPRITS],
        "more_culprits": len(culprits[_MAX_CULPRITS:]),
        "most": max((culprit["seconds"] for culprit in culprits), default=0.0) or 1.0,
        "quantiles": _quantiles(summary),
    }


def _culprits(stalls: Iterable[StallObject]) -> list[SummaryHolderObject]:
    """Holders as in a summary: by comm and cause, the longest stall time first."""
    found: dict[tuple[Optional[str], Cause], list[float]] = defaultdict(list)
    for stall in stalls:
        culprit = stall["holders"][0]
        found[culprit["comm"], culprit["cause"]].append(stall["stall_seconds"] or 0.0)
    worst = sorted(found.items(), key=lambda item: sum(item[1]), reverse=True)
    return [
        {"comm": comm, "cause": cause, "stalls": len(spans), "seconds": sum(spans)}
        for (comm, cause), spans in worst
    ]


def _quantiles(summary: Optional[SummaryObject]) -> Sequence[tuple[str, str]]:
    if summary is None or summary["spawn_seconds"]["max"] is None:
        return ()
    found = summary["spawn_seconds"]
    return [
        (name, _span(value or 0.0))
        for name, value in (
            ("p50", found["p50"]),
            ("p95", found["p95"]),
            ("p99", found["p99"]),
            ("max", found["max"]),
        )
    ]


def _row(stall: StallObject, link: Optional[str], today: str) -> dict[str, Any]:
    time = str(stall["time"])
    return {
        "state": stall["state"],
        "link": link,
        "when": time[11:23] if time.startswith(today) else f"{time[:10]} {time[11:23]}",
        "span": stall_span(stall) + (", in progress" if stall["state"] == "ongoing" else ""),
        "parent": stall["parent"],
        "child": child_name(stall),
        "child_pid": None if stall["child"] is None else stall["child"]["pid"],
        "holder": holder_name(stall["holders"][0]),
        "holder_pid": stall["holders"][0]["pid"],
        "more": len(stall["holders"]) - 1,
        "cause": Cause(stall["holders"][0]["cause"]).value,
    }


def _span(seconds: float) -> str:
    return duration(seconds * 1e9)
