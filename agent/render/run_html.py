# SPDX-License-Identifier: Apache-2.0
"""A run of trace-popen as one self-contained HTML page, which is complete without its script.

Its size is bounded, and it states how many stalls it omits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Optional

from agent import __version__
from agent.model import Cause
from agent.render.kind_html import groups_view, histogram_view, kind_id, kinds_view
from agent.render.markup import moment, part, render, source_hash
from agent.render.stall_html import child_name, holder_name, stall_span, stall_view
from agent.render.wait_html import wait_views
from agent.render.words import count, duration, run_words
from agent.reports.collection import Collection
from agent.reports.kinds import KindName, histogram, kind_name
from agent.reports.losses import loss_lines
from agent.reports.types import KindsObject, StallObject

__all__ = ["html_report"]

_MAX_DETAILS = 100
_MAX_ROWS = 2000


def html_report(collection: Collection) -> str:
    """The page: the figures, a row for each kind of stall, and the stalls of each kind."""
    stalls = collection.stalls
    kinds = collection.kinds.object()
    number = len(stalls) + collection.stalls_left_out
    detailed = _of_each_kind(stalls)
    links = {id(stall): f"stall-{place}" for place, stall in enumerate(detailed, 1)}
    listed = sorted(
        sorted(stalls, key=_length, reverse=True)[:_MAX_ROWS], key=lambda stall: str(stall["time"])
    )
    today = min((str(stall["time"]) for stall in stalls), default="")[:10]
    views: dict[KindName, list[dict[str, Any]]] = defaultdict(list)
    for place, stall in enumerate(detailed):
        views[kind_name(stall)].append(stall_view(stall, links[id(stall)], today, place == 0))
    style = part("stall_html.css") + part("timeline.css") + part("kind_html.css") + part("run_html.css")
    script = part("tables.js")
    return render(
        "run_html.html",
        policy=(
            f"default-src 'none'; script-src {source_hash(script)}; style-src {source_hash(style)};"
            " img-src data:; base-uri 'none'; form-action 'none'"
        ),
        title=f"{count(number, 'stall')} seen by trace-popen",
        style=style,
        script=script,
        span=_span_of_time(stalls),
        facts=_facts(collection, kinds, number),
        notes=_notes(collection),
        charts=[
            histogram_view("Stalls by duration", "stall", kinds["histogram"]),
            histogram_view("Spawns by duration", "spawn", _spawns(collection)),
        ],
        kinds=kinds_view(kinds, today, {name: kind_id(name) for name in views}, _all_ended(collection)),
        exposures=() if collection.summary is None else collection.summary.get("exposures") or (),
        groups=groups_view(views, kinds, "the longest"),
        which="longest first" if len(detailed) == number else f"{len(detailed)} of {number:,} in detail",
        detailed=len(detailed),
        listed=[_row(stall, links.get(id(stall)), today) for stall in listed],
        listed_note=""
        if len(listed) == number
        else f"the longest {len(listed):,}; {number - len(listed):,} shorter ones omitted",
        waits=wait_views(collection.waits, collection.waits_left_out),
        origin=_origin(collection),
        version=__version__,
    )


def _length(stall: StallObject) -> float:
    seconds = stall["stall_seconds"]
    return math.inf if seconds is None else float(seconds)


def _of_each_kind(stalls: Sequence[StallObject]) -> list[StallObject]:
    """The stalls shown in detail: the longest of each kind, then the second longest of each, and so on."""
    seen: dict[KindName, int] = defaultdict(int)
    ranks = {}
    longest = sorted(stalls, key=_length, reverse=True)
    for stall in longest:
        ranks[id(stall)] = seen[kind_name(stall)]
        seen[kind_name(stall)] += 1
    chosen = sorted(longest, key=lambda stall: ranks[id(stall)])[:_MAX_DETAILS]
    return sorted(chosen, key=_length, reverse=True)


# -- the parts --


def _origin(collection: Collection) -> str:
    """Where the report comes from; empty if it does not say so."""
    run, summary = collection.run, collection.summary
    return "" if run is None else run_words(run, None if summary is None else summary.get("time"))


def _span_of_time(stalls: Sequence[StallObject]) -> str:
    times = sorted(str(stall["time"]) for stall in stalls)
    if not times:
        return ""
    if moment(times[0]) == moment(times[-1]):
        return moment(times[0])
    return f"{moment(times[0])} to {moment(times[-1])}"


def _facts(collection: Collection, kinds: KindsObject, number: int) -> list[tuple[str, str, str]]:
    """What people look for first, and the other figures: name, value, and good, bad or nothing."""
    summary = collection.summary
    stalled = sum(kind["seconds"] for kind in kinds["kinds"])
    if summary is not None:
        stalled = summary.get("stall_total_seconds") or stalled or summary["stalled_seconds"]
    lost = ("time lost to stalls", _span(stalled) if stalled else "none", "")
    stalls = ("stalls", f"{number:,}", "bad" if number else "good")
    if summary is None:
        return [lost, stalls]
    at_most = "at most " if summary["lost_records"] else ""
    p99 = summary.get("spawn_p99_seconds", summary["spawn_seconds"]["p99"])
    return [
        ("p99 of a spawn", "unknown" if p99 is None else at_most + _span(p99), ""),
        lost,
        stalls,
        ("spawns", f"{summary['spawns']:,}", ""),
        ("failed execs", f"{summary['exec_failures']:,}", ""),
        ("lost records", f"{summary['lost_records']:,}", "bad" if summary["lost_records"] else ""),
        ("traced for", _span(summary["seconds"]), ""),
    ]


def _notes(collection: Collection) -> list[tuple[str, str]]:
    """Sentences, each with ``bad`` if something is wrong."""
    summary = collection.summary
    notes = []
    if summary is None:
        notes.append(("The report has no summary: the figures are computed from the stalls in it.", ""))
    else:
        if summary["lost_records"]:
            notes.append(("Records were lost: stalls may be missing from this report.", "bad"))
        notes += [
            (f"Not followed: {line}.", "bad")
            for line in loss_lines(summary.get("not_followed", {}), besides="records_lost")
        ]
        if collection.summaries > 1:
            notes.append(
                (f"The report contains {collection.summaries} runs; the figures are of the last one.", "")
            )
    ongoing = sum(stall["state"] == "ongoing" for stall in collection.stalls)
    if ongoing and not _all_ended(collection):
        notes.append((f"{count(ongoing, 'stall')} still in progress at the end of the report.", "bad"))
    return notes


def _all_ended(collection: Collection) -> bool:
    """Whether nothing was in progress at the end, even if the end of a stall was not reported."""
    return collection.summary is not None and not collection.summary["ongoing"]


def _spawns(collection: Collection) -> Any:
    """A histogram of all spawns, empty if the report does not have each of them (``--all``)."""
    if collection.spawns_left_out:
        return []
    return histogram(
        spawn["spawn_seconds"] for spawn in collection.spawns if spawn["spawn_seconds"] is not None
    )


def _row(stall: StallObject, link: Optional[str], today: str) -> dict[str, Any]:
    time = str(stall["time"])
    return {
        "state": stall["state"],
        "link": link,
        "time": time,
        "when": time[11:23] if time.startswith(today) else f"{time[:10]} {time[11:23]}",
        "seconds": "" if stall["stall_seconds"] is None else stall["stall_seconds"],
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
