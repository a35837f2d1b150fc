# SPDX-License-Identifier: Apache-2.0
"""The agent's page, made from the object of /api/stalls.

Style and script are inline, and the Content-Security-Policy allows them by their hashes, so nothing else
runs, whatever name a process gives itself.  The script fetches ``?news`` (everything but the ended stalls)
and, once another stall has ended, the whole page; it replaces only the parts that differ.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from html import escape
from string import Template

from agent.render.markup import moment, part, source_hash, table
from agent.render.stall_html import stall_details
from agent.render.wait_html import wait_section
from agent.render.words import count
from agent.reports.types import AgentObject, ProbeObject, StallObject, StatusObject

__all__ = ["NEWS", "content_security_policy", "news", "page"]

NEWS = "news"
"""The query string that requests the page without the ended stalls."""

_MAX_STALLS = 100
_NEARLY_FULL = 0.8


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
    return Template(part("agent_html.html")).substitute(
        title=escape(f"spawnstall on {status['agent']['host']}"),
        style=_style(),
        script=part("agent_html.js"),
        parts="\n".join((_state(status), _ongoing(status), _ended(status), _health(status["agent"]))),
    )


def news(status: StatusObject) -> str:
    """The parts of the page that change all the time: everything but the ended stalls."""
    return "\n".join((_state(status), _ongoing(status), _health(status["agent"])))


# -- the parts --


def _state(status: StatusObject) -> str:
    agent = status["agent"]
    number = len(status["ongoing"])
    now = f"{count(number, 'stall')} in progress" if number else "No stall in progress."
    if not agent["healthy"]:
        kind, verdict, more = "bad", "Not tracing", ""
    elif agent["self_test_failure"] is not None:
        kind, verdict, more = "bad", "The self-test failed", f"The data shown here cannot be trusted. {now}"
    elif number:
        kind, verdict, more = "bad", now, ""
    else:
        kind, verdict, more = "good", "Tracing", now
    return (
        f'<header id="state" data-part data-ended="{escape(_generation(agent))}">'
        f"<h1>spawnstall <small>{escape(agent['host'])}</small></h1>"
        '<nav><a href="./api/stalls">JSON</a> <a href="./metrics">Metrics</a>'
        ' <a href="./healthz">Health</a></nav>'
        f'<p class="state {kind}"><b>{verdict}</b> <span>{more}</span></p></header>'
    )


def _ongoing(status: StatusObject) -> str:
    stalls = status["ongoing"]
    waits = wait_section(status["waits"], title="Own children that have not called exec")
    if not stalls:
        return f'<main id="ongoing" data-part>{waits}</main>'
    today = status["agent"]["time"][:10]
    shown = "\n".join(_stall(stall, today, True) for stall in stalls[:_MAX_STALLS])
    more = f" <small>the oldest {_MAX_STALLS} of {len(stalls)}</small>" if len(stalls) > _MAX_STALLS else ""
    return f'<main id="ongoing" data-part><h2>In progress{more}</h2>\n{shown}\n{waits}</main>'


def _ended(status: StatusObject) -> str:
    stalls, agent = status["ended"], status["agent"]
    total = agent["stalls_ended"]
    if not stalls:
        since = moment(agent["started"])
        if total:
            note = f"{count(total, 'stall')} ended since {since}; none are kept (web.history)."
        elif status["ongoing"]:
            note = f"No stall has ended since {since}."
        else:
            note = f"No stall seen since {since}."
        return f'<section id="ended" data-part><h2>Ended</h2><p class="empty">{note}</p></section>'
    shown = stalls[:_MAX_STALLS]
    which = f"the last {len(shown)} of {total}, newest first" if len(shown) < total else "newest first"
    which += ", times in UTC"
    listed = "\n".join(_stall(stall, agent["time"][:10], False) for stall in shown)
    return f'<section id="ended" data-part><h2>Ended <small>{which}</small></h2>\n{listed}\n</section>'


def _stall(stall: StallObject, today: str, is_open: bool) -> str:
    return stall_details(stall, f"stall-{stall['id']}", today, is_open)


def _health(agent: AgentObject) -> str:
    failure = agent["self_test_failure"]
    up = agent["uptime_seconds"]
    share = agent["cpu_seconds"] / up * 100 if up > 0 else 0.0
    facts = (
        ("Tracing", _verdict(agent["healthy"], "yes", "no")),
        ("Self-test", _verdict(failure is None, "passed", "failed")),
        ("Uptime", escape(_long(up))),
        ("CPU", f"{share:.2f} % of one core"),
        ("Version", escape(agent["version"])),
        ("Kernel", escape(agent["kernel"])),
        ("bcc", escape(agent["bcc"])),
    )
    losses = [(escape(_words(name)), _loss(number)) for name, number in agent["losses"].items()]
    losses += [
        (escape(f"evicted from {name}"), _loss(found["evictions"]))
        for name, found in agent["maps"].items()
        if found["evictions"] is not None
    ]
    maps = [
        (
            escape(name),
            f"{found['entries']:,} of {found['max_entries']:,}"
            f'<meter min="0" max="{found["max_entries"]}" value="{found["entries"]}"'
            f' high="{int(found["max_entries"] * _NEARLY_FULL)}" optimum="0"></meter>',
        )
        for name, found in agent["maps"].items()
    ]
    confirmations = [(escape(result), f"{number:,}") for result, number in agent["confirmations"].items()]
    error = "" if failure is None else f'<p class="wrong">{escape(failure)}</p>'
    return (
        '<section id="health" data-part><h2>Agent</h2><div class="health">'
        f"<section><h3>Status</h3>{table(facts)}{error}</section>"
        f"<section><h3>Losses</h3>{table(losses)}</section>"
        f"<section><h3>Kernel maps</h3>{table(maps)}<h3>Probes</h3>{table(_probes(agent['probes']))}"
        f"<h3>Holder confirmations</h3>{table(confirmations)}</section>"
        "</div></section>"
    )


def _probes(probes: Mapping[str, ProbeObject]) -> Iterable[tuple[str, str]]:
    missing = [name for name, probe in probes.items() if not probe["attached"]]
    yield "attached", f"{len(probes) - len(missing)} of {len(probes)}"
    for name in missing:
        yield escape(name), '<span class="bad">not attached</span>'
    counted = [probe["run_seconds"] for probe in probes.values() if probe["run_seconds"] is not None]
    yield "run time", f"{sum(counted):,.2f} s" if counted else "not measured"


# -- pieces --


def _generation(agent: AgentObject) -> str:
    """A string that changes whenever the ended stalls do."""
    return f"{agent['started']} {agent['stalls_ended']}"


def _verdict(good: bool, yes: str, no: str) -> str:
    return f'<span class="{"good" if good else "bad"}">{yes if good else no}</span>'


def _loss(number: int) -> str:
    return f'<span class="bad">{number:,}</span>' if number else "0"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _long(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days {minutes // 60 % 24} h"
