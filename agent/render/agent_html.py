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

from agent.render.markup import moment, part, render, source_hash
from agent.render.stall_html import stall_view
from agent.render.wait_html import wait_views
from agent.render.words import count
from agent.reports.types import AgentObject, ProbeObject, StallObject, StatusObject

__all__ = ["NEWS", "content_security_policy", "news", "page"]

NEWS = "news"
"""The query string that requests the page without the ended stalls."""

_MAX_STALLS = 100


def _style() -> str:
    return part("stall_html.css") + part("timeline.css") + part("agent_html.css")


@functools.cache
def content_security_policy() -> str:
    """The page's Content-Security-Policy: its own style and script, and nothing else."""
    return (
        "default-src 'none'; "
        f"script-src {source_hash(part('agent_html.js'))}; style-src {source_hash(_style())}; "
        "connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(status: StatusObject) -> str:
    """The whole page, from the object of /api/stalls."""
    return render(
        "agent_html.html",
        title=f"spawnstall on {status['agent']['host']}",
        style=_style(),
        script=part("agent_html.js"),
        **_values(status, is_news=False),
    )


def news(status: StatusObject) -> str:
    """The parts of the page that change all the time: everything but the ended stalls."""
    return render("agent_parts.html", **_values(status, is_news=True))


def _values(status: StatusObject, is_news: bool) -> dict[str, Any]:
    """What ``agent_parts.html`` shows."""
    agent = status["agent"]
    today = agent["time"][:10]
    ended = [] if is_news else status["ended"][:_MAX_STALLS]
    ongoing = [_stall(stall, today, True) for stall in status["ongoing"][:_MAX_STALLS]]
    up = agent["uptime_seconds"]
    return {
        "is_news": is_news,
        "agent": agent,
        "generation": _generation(agent),
        "verdict": _verdict(status),
        "ongoing": ongoing,
        "more_ongoing": len(status["ongoing"]) - len(ongoing),
        "waits": wait_views(status["waits"]),
        "ended": [_stall(stall, today, False) for stall in ended],
        "which": _which(status),
        "uptime": _long(up),
        "cpu_percent": agent["cpu_seconds"] / up * 100 if up > 0 else 0.0,
        "losses": [*_losses(agent)],
        "missing": [name for name, probe in agent["probes"].items() if not probe["attached"]],
        "run_time": _run_time(agent["probes"]),
    }


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
    """Which of the ended stalls are shown, or why there are none."""
    agent = status["agent"]
    total, since = agent["stalls_ended"], moment(agent["started"])
    shown = len(status["ended"][:_MAX_STALLS])
    if shown:
        which = f"the last {shown} of {total:,}, newest first" if shown < total else "newest first"
        return f"{which}, times in UTC"
    if total:
        return f"{count(total, 'stall')} ended since {since}; none are kept (web.history)."
    return f"No stall {'has ended' if status['ongoing'] else 'seen'} since {since}."


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
