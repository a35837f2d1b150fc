# SPDX-License-Identifier: Apache-2.0
"""The agent's page, made from the object of /api/stalls.

Style and script are inline, and the Content-Security-Policy allows them by their hashes, so nothing else
runs, whatever name a process gives itself.  The script fetches ``?news`` (everything but the ended stalls)
and, once another stall has ended, the whole page; it replaces only the parts that differ.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from agent.render.kind_html import groups_view, histogram_view, kind_id, kinds_view
from agent.render.markup import moment, part, render, source_hash
from agent.render.stall_html import stall_view
from agent.render.wait_html import wait_views
from agent.render.words import count, duration
from agent.reports.kinds import KindName, kind_name
from agent.reports.types import AgentObject, ProbeObject, StallObject, StatusObject

__all__ = ["NEWS", "content_security_policy", "news", "page"]

NEWS = "news"
"""The query string that requests the page without the ended stalls."""

_MAX_STALLS = 100
_MAX_OPEN = 3  # of the stalls in progress


def _style() -> str:
    return part("stall_html.css") + part("timeline.css") + part("kind_html.css") + part("agent_html.css")


def _script() -> str:
    return part("tables.js") + part("agent_html.js")


@functools.cache
def content_security_policy() -> str:
    """The page's Content-Security-Policy: its own style and script, and nothing else."""
    return (
        "default-src 'none'; "
        f"script-src {source_hash(_script())}; style-src {source_hash(_style())}; "
        "connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(status: StatusObject) -> str:
    """The whole page, from the object of /api/stalls."""
    return render(
        "agent_html.html",
        title=f"spawnstall on {status['agent']['host']}",
        style=_style(),
        script=_script(),
        **_values(status, is_news=False),
    )


def news(status: StatusObject) -> str:
    """The parts of the page that change all the time: everything but the ended stalls."""
    return render("agent_parts.html", **_values(status, is_news=True))


def _values(status: StatusObject, is_news: bool) -> dict[str, Any]:
    """What ``agent_parts.html`` shows."""
    agent, kinds = status["agent"], status["kinds"]
    today = agent["time"][:10]
    # News have no ended stalls, but rows that link to them.
    ended = status["ended"][:_MAX_STALLS]
    groups = {} if is_news else _groups(ended, today)
    few = len(status["ongoing"]) <= _MAX_OPEN
    ongoing = [_stall(stall, today, few) for stall in status["ongoing"][:_MAX_STALLS]]
    up = agent["uptime_seconds"]
    return {
        "is_news": is_news,
        "agent": agent,
        "generation": _generation(agent),
        "verdict": _verdict(status),
        "facts": _facts(status),
        "charts": [
            histogram_view("Stalls by duration", "stall", kinds["histogram"]),
            histogram_view("Spawns by duration", "spawn", status["spawns"]["histogram"]),
        ],
        "kinds": kinds_view(kinds, today, _links(status["ongoing"][:_MAX_STALLS], ended)),
        "nothing": f"No stall seen since {moment(agent['started'])}.",
        "ongoing": ongoing,
        "more_ongoing": len(status["ongoing"]) - len(ongoing),
        "waits": wait_views(status["waits"]),
        "groups": groups_view(groups, kinds, "the last"),
        "which": _which(status),
        "uptime": _long(up),
        "cpu_percent": agent["cpu_seconds"] / up * 100 if up > 0 else 0.0,
        "losses": [*_losses(agent)],
        "missing": [name for name, probe in agent["probes"].items() if not probe["attached"]],
        "run_time": _run_time(agent["probes"]),
    }


def _facts(status: StatusObject) -> list[tuple[str, str, str]]:
    """What people look for first: name, value, and good, bad or nothing."""
    spawns, kinds = status["spawns"], status["kinds"]["kinds"]
    p99 = spawns["p99_seconds"]
    if not spawns["count"]:
        took = "no spawn"
    elif p99 is None:
        took = f"more than {duration(spawns['histogram'][-1]['above'] * 1e9)}"
    else:
        took = f"at most {duration(p99 * 1e9)}"
    stalls = sum(kind["stalls"] for kind in kinds)
    lost = sum(kind["seconds"] for kind in kinds)
    return [
        ("p99 of a spawn", took, ""),
        ("time lost to stalls", duration(lost * 1e9) if lost else "none", ""),
        ("stalls", f"{stalls:,}", "bad" if stalls else "good"),
        ("spawns", f"{spawns['count']:,}", ""),
    ]


def _links(ongoing: Iterable[StallObject], ended: Iterable[StallObject]) -> dict[KindName, str]:
    """The id of what shows stalls of a kind: the oldest one in progress, or else those that ended."""
    links = {kind_name(stall): kind_id(kind_name(stall)) for stall in ended}
    found: dict[KindName, str] = {}
    for stall in ongoing:
        found.setdefault(kind_name(stall), f"stall-{stall['id']}")
    return {**links, **found}


def _groups(ended: Iterable[StallObject], today: str) -> dict[KindName, list[dict[str, Any]]]:
    groups: dict[KindName, list[dict[str, Any]]] = {}
    for stall in ended:
        groups.setdefault(kind_name(stall), []).append(_stall(stall, today, False))
    return groups


def _verdict(status: StatusObject) -> dict[str, str]:
    agent = status["agent"]
    number = len(status["ongoing"])
    now = f"{count(number, 'stall')} in progress" if number else "No stall in progress."
    if not agent["healthy"]:
        return {"kind": "bad", "words": "Not tracing", "more": ""}
    if agent["self_test_failure"] is not None:
        more = f"The data shown here cannot be trusted. {now}"
        return {"kind": "bad", "words": "The self-test failed", "more": more}
    if number:
        return {"kind": "bad", "words": now, "more": ""}
    return {"kind": "good", "words": "Tracing", "more": now}


def _which(status: StatusObject) -> str:
    """Which of the ended stalls are shown, or why none is; nothing if there was none."""
    agent = status["agent"]
    total = agent["stalls_ended"]
    shown = len(status["ended"][:_MAX_STALLS])
    if shown:
        which = f"the last {shown} of {total:,}, newest first" if shown < total else "newest first"
        return f"{which}, times in UTC"
    if total:
        since = moment(agent["started"])
        return f"{count(total, 'stall')} ended since {since}; none are kept (web.history)."
    return ""


def _stall(stall: StallObject, today: str, is_open: bool) -> dict[str, Any]:
    return stall_view(stall, f"stall-{stall['id']}", today, is_open)


def _losses(agent: AgentObject) -> Iterable[tuple[str, int]]:
    for name, number in agent["losses"].items():
        yield name.replace("_", " "), number
    for name, found in agent["maps"].items():
        if found["evictions"] is not None:
            yield f"evicted from {name}", found["evictions"]


def _run_time(probes: Mapping[str, ProbeObject]) -> str:
    counted = [probe["run_seconds"] for probe in probes.values() if probe["run_seconds"] is not None]
    return f"{sum(counted):,.2f} s" if counted else "not measured"


def _generation(agent: AgentObject) -> str:
    """A string that changes whenever the ended stalls do."""
    return f"{agent['started']} {agent['stalls_ended']}"


def _long(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days {minutes // 60 % 24} h"
