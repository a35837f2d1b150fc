# SPDX-License-Identifier: Apache-2.0
"""A run of trace-popen as one self-contained HTML page without scripts.

Its size is bounded, and it states how many stalls it omits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from string import Template
from typing import Optional

from agent import __version__
from agent.model import Cause
from agent.render.markup import moment, part, source_hash
from agent.render.overview import overview
from agent.render.stall_html import child_name, holder_name, stall_details, stall_span
from agent.render.wait_html import wait_section
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
    return Template(part("run_html.html")).substitute(
        policy=escape(
            f"default-src 'none'; style-src {source_hash(style)}; base-uri 'none'; form-action 'none'"
        ),
        title=escape(f"{count(number, 'stall')} seen by trace-popen"),
        style=style,
        parts="\n".join(
            (
                _header(stalls),
                _summary(collection, number),
                _when(listed, links),
                _details(detailed, links, number),
                _table(listed, links, number),
                wait_section(collection.waits, collection.waits_left_out),
                f"<footer>trace-popen {escape(__version__)}. Times are UTC.</footer>",
            )
        ),
    )


def _length(stall: StallObject) -> float:
    seconds = stall["stall_seconds"]
    return math.inf if seconds is None else float(seconds)


# -- the parts --


def _header(stalls: Sequence[StallObject]) -> str:
    times = sorted(str(stall["time"]) for stall in stalls)
    if not times:
        span = ""
    elif moment(times[0]) == moment(times[-1]):
        span = moment(times[0])
    else:
        span = f"{moment(times[0])} to {moment(times[-1])}"
    return f"<header><h1>trace-popen <small>{escape(span)}</small></h1></header>"


def _summary(collection: Collection, number: int) -> str:
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
    tiles = "".join(
        f'<div><dt>{what}</dt><dd class="{kind}">{escape(value)}</dd></div>' for what, value, kind in facts
    )
    note_lines = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        f'<section id="summary"><dl class="facts">{tiles}</dl>{note_lines}'
        f'<div class="panels">{_worst(culprits)}{_quantiles(summary)}</div></section>'
    )


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


def _worst(culprits: Sequence[SummaryHolderObject]) -> str:
    if not culprits:
        return ""
    most = max(culprit["seconds"] for culprit in culprits) or 1.0
    rows = "".join(
        f"<tr><td>{escape(culprit['comm'] or 'unknown')}</td>"
        f'<td><span class="chip">{escape(culprit["cause"])}</span></td>'
        f"<td>{count(culprit['stalls'], 'stall')}</td><td>{_span(culprit['seconds'])}</td>"
        f'<td><svg width="100%" height="8" aria-hidden="true"><rect rx="2" height="8"'
        f' width="{culprit["seconds"] / most * 100:.1f}%"/></svg></td></tr>'
        for culprit in culprits[:_MAX_CULPRITS]
    )
    more = len(culprits) - _MAX_CULPRITS
    if more > 0:
        rows += f'<tr><td colspan="5">and {more:,} more</td></tr>'
    return f'<section class="worst"><h3>Held by</h3><table>{rows}</table></section>'


def _quantiles(summary: Optional[SummaryObject]) -> str:
    if summary is None or summary["spawn_seconds"]["max"] is None:
        return ""
    rows = "".join(
        f"<tr><td>{name}</td><td>{_span(summary['spawn_seconds'][name] or 0.0)}</td></tr>"
        for name in ("p50", "p95", "p99", "max")
    )
    return f'<section class="took"><h3>Spawn time</h3><table>{rows}</table></section>'


def _when(listed: Sequence[StallObject], links: Mapping[int, str]) -> str:
    drawn = overview((f"#{links.get(id(stall), 'all')}", stall) for stall in listed)
    return f'<section id="when"><h2>Timeline</h2><figure>{drawn}</figure></section>' if drawn else ""


def _details(detailed: Sequence[StallObject], links: Mapping[int, str], number: int) -> str:
    if not detailed:
        return '<main><p class="empty">No stall seen.</p></main>'
    today = min(str(stall["time"]) for stall in detailed)[:10]
    which = f"the longest {len(detailed)} of {number:,}" if len(detailed) < number else "longest first"
    shown = "\n".join(
        stall_details(stall, links[id(stall)], today, place < _OPEN) for place, stall in enumerate(detailed)
    )
    return f"<main><h2>Stalls <small>{which}</small></h2>\n{shown}\n</main>"


def _table(listed: Sequence[StallObject], links: Mapping[int, str], number: int) -> str:
    if not listed:
        return ""
    left_out = number - len(listed)
    which = "in order of time"
    if left_out:
        which = f"the longest {len(listed):,}, in order of time; {left_out:,} shorter ones omitted"
    today = str(listed[0]["time"])[:10]
    rows = "\n".join(_row(stall, links.get(id(stall)), today) for stall in listed)
    return (
        f'<section id="all"><h2>All stalls <small>{which}</small></h2><table class="all"><thead><tr>'
        "<th>created</th><th>duration</th><th>parent</th><th>child</th><th>holder</th><th>cause</th>"
        f"</tr></thead><tbody>\n{rows}\n</tbody></table></section>"
    )


def _row(stall: StallObject, link: Optional[str], today: str) -> str:
    parent, culprit = stall["parent"], stall["holders"][0]
    time = str(stall["time"])
    when = escape(time[11:23] if time.startswith(today) else f"{time[:10]} {time[11:23]}")
    child = "" if stall["child"] is None else _pid(stall["child"]["pid"])
    more = len(stall["holders"]) - 1
    span = stall_span(stall) + (", in progress" if stall["state"] == "ongoing" else "")
    if link:
        when = f'<a href="#{link}">{when}</a>'
    return (
        f'<tr class="{stall["state"]}"><td>{when}</td><td>{span}</td>'
        f"<td>{escape(parent['comm'])}{_pid(parent['pid'])}</td><td>{escape(child_name(stall))}{child}</td>"
        f"<td>{escape(holder_name(culprit))}{_pid(culprit['pid'])}{f' and {more} more' if more else ''}</td>"
        f"<td>{escape(culprit['cause'])}</td></tr>"
    )


def _pid(pid: Optional[int]) -> str:
    return "" if pid is None else f" <small>{pid}</small>"


def _span(seconds: float) -> str:
    return duration(seconds * 1e9)
