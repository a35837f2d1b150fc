"""The agent's page, made from the object of /api/stalls.

It needs no other file: style and script are in it, and the Content-Security-Policy names their hashes, so
that nothing else runs, whatever a process calls itself.  The script fetches ``?news`` (all but the ended
stalls) and, when another stall has ended, the whole page; it swaps only what differs.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from agent.model import Cause
from agent.timeline import CAPTION, timeline
from agent.words import WHY, count, duration, stack_lines, what_happened

__all__ = ["NEWS", "content_security_policy", "news", "page"]

NEWS = "news"
"""The query for the page without its ended stalls."""

_SHOWN = 100
_MOST_HOLDERS = 12
_MOST_STEPS = 60
_NEARLY_FULL = 0.8


@functools.cache
def _part(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _style() -> str:
    return _part("page.css") + _part("timeline.css")


def content_security_policy() -> str:
    """Allows what is in the page, and nothing else."""
    return (
        "default-src 'none'; "
        f"script-src '{_hash(_part('page.js'))}'; style-src '{_hash(_style())}'; "
        "connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page(status: Mapping[str, Any]) -> str:
    """The whole page, from the object of /api/stalls."""
    return Template(_part("page.html")).substitute(
        title=escape(f"spawnstall on {status['agent']['host']}"),
        style=_style(),
        script=_part("page.js"),
        parts="\n".join((_state(status), _ongoing(status), _ended(status), _health(status["agent"]))),
    )


def news(status: Mapping[str, Any]) -> str:
    """The parts of the page that change all the time."""
    return "\n".join((_state(status), _ongoing(status), _health(status["agent"])))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# -- the parts --


def _state(status: Mapping[str, Any]) -> str:
    agent = status["agent"]
    number = len(status["ongoing"])
    now = f"{count(number, 'stall')} going on" if number else "Nobody is stalled now."
    if not agent["healthy"]:
        kind, said, more = "bad", "Not tracing", ""
    elif agent["self_test_failure"] is not None:
        kind, said, more = "bad", "The self-test failed", f"What is shown cannot be trusted. {now}"
    elif number:
        kind, said, more = "bad", now, ""
    else:
        kind, said, more = "good", "Tracing", now
    return (
        f'<header id="state" data-part data-ended="{escape(_generation(agent))}">'
        f"<h1>spawnstall <small>{escape(agent['host'])}</small></h1>"
        '<nav><a href="./api/stalls">JSON</a> <a href="./metrics">Metrics</a>'
        ' <a href="./healthz">Health</a></nav>'
        f'<p class="state {kind}"><b>{said}</b> <span>{more}</span></p></header>'
    )


def _ongoing(status: Mapping[str, Any]) -> str:
    stalls = status["ongoing"]
    if not stalls:
        return '<main id="ongoing" data-part></main>'
    today = status["agent"]["time"][:10]
    shown = "\n".join(_stall(stall, today) for stall in stalls[:_SHOWN])
    more = f" <small>the oldest {_SHOWN} of {len(stalls)}</small>" if len(stalls) > _SHOWN else ""
    return f'<main id="ongoing" data-part><h2>Going on now{more}</h2>\n{shown}\n</main>'


def _ended(status: Mapping[str, Any]) -> str:
    stalls, agent = status["ended"], status["agent"]
    total = agent["stalls_ended"]
    if not stalls:
        since = _moment(agent["started"])
        if total:
            said = f"{count(total, 'stall')} ended since {since}; none is kept (web.history)."
        elif status["ongoing"]:
            said = f"No stall has ended since {since}."
        else:
            said = f"No stall seen since {since}. Every spawn on this host went through."
        return f'<section id="ended" data-part><h2>Ended</h2><p class="empty">{said}</p></section>'
    shown = stalls[:_SHOWN]
    which = f"the last {len(shown)} of {total}, newest first" if len(shown) < total else "newest first"
    which += ", times in UTC"
    listed = "\n".join(_stall(stall, agent["time"][:10]) for stall in shown)
    return f'<section id="ended" data-part><h2>Ended <small>{which}</small></h2>\n{listed}\n</section>'


def _stall(stall: Mapping[str, Any], today: str) -> str:
    ongoing = stall["state"] == "ongoing"
    parent, child = stall["parent"], stall["child"]
    culprit = stall["holders"][0]
    verb = "waits to start" if ongoing else "waited to start"
    more = len(stall["holders"]) - 1
    others = f" and {more} more" if more else ""
    day = "" if stall["time"].startswith(today) else f"{escape(stall['time'][:10])} "
    return (
        f'<details class="stall {stall["state"]}" id="stall-{escape(stall["id"])}"'
        f' data-state="{stall["state"]}" data-parent="{parent["pid"]}"{" open" if ongoing else ""}>'
        f'<summary><time datetime="{escape(stall["time"])}" title="{escape(_moment(stall["time"]))}">'
        f"{day}{escape(stall['time'][11:19])}</time>"
        f'<span class="story"><b>{escape(parent["comm"])}</b> {verb} <b>{escape(child["comm"])}</b>,'
        f' <span class="by">held by <b>{escape(_who(culprit))}</b>{others}</span>'
        f' <span class="chip">{escape(culprit["cause"])}</span></span>'
        f'<span class="span">{duration(stall["stall_seconds"] * 1e9)}</span></summary>'
        f'<div class="body"><p class="advice">{escape(stall["advice"])}</p>'
        f'<ul class="holders"><li><b>{escape(parent["comm"])}</b> {escape("; ".join(_parent(parent)))}</li>'
        f"{''.join(_holders(stall['holders']))}</ul>{_stacks(stall)}"
        f"<figure>{timeline(stall)}<figcaption>{escape(CAPTION)}</figcaption></figure>"
        f'<table class="steps">{"".join(_steps(stall))}</table></div></details>'
    )


def _holders(holders: list[Mapping[str, Any]]) -> Iterable[str]:
    for holder in holders[:_MOST_HOLDERS]:
        if holder["pid"] is None:
            yield "<li><b>somebody</b> whose copy was not seen</li>"
            continue
        said = [f"pid {holder['pid']}: {WHY[Cause(holder['cause'])]}", *_identity(holder)]
        if holder["fds"]:
            said.append("fd " + ", ".join(str(fd) for fd in holder["fds"][:_MOST_HOLDERS]))
        if holder["confirmed"]:
            said.append("seen in /proc")
        yield f"<li><b>{escape(_who(holder))}</b> {escape('; '.join(said))}</li>"
    more = len(holders) - _MOST_HOLDERS
    if more > 0:
        yield f"<li>and {more} more</li>"


def _stacks(stall: Mapping[str, Any]) -> str:
    if "stacks" not in stall:
        return ""
    return (
        f'<details class="stacks" id="stacks-{escape(stall["id"])}" data-state="{stall["state"]}">'
        f"<summary>Where in the code</summary><pre>{escape(chr(10).join(stack_lines(stall['stacks'])))}</pre>"
        "</details>"
    )


def _parent(parent: Mapping[str, Any]) -> list[str]:
    thread = "" if parent["tid"] == parent["pid"] else f", thread {parent['tid']}"
    return [f"pid {parent['pid']}{thread}: waits for its child's exec", *_identity(parent)]


def _identity(process: Mapping[str, Any]) -> Iterable[str]:
    if process["exe"] is not None:
        yield f"{process['exe']}, uid {process['uid']}"
    container = process["container"]
    if container is not None:
        runtime = f" ({container['runtime']})" if container["runtime"] else ""
        pod = f", pod {container['pod_uid']}" if container["pod_uid"] else ""
        yield f"container {container['id'][:12]}{runtime}{pod}"


def _steps(stall: Mapping[str, Any]) -> Iterable[str]:
    errpipe, child, steps = stall["errpipe"], stall["child"], stall["steps"]
    names = {stall["parent"]["pid"]: stall["parent"]["comm"], child["pid"]: child["comm"]}
    names.update((holder["pid"], holder["comm"]) for holder in stall["holders"])
    for number, step in enumerate(steps[:_MOST_STEPS], 1):
        what = what_happened(step["what"], errpipe["read_fd"], errpipe["write_fd"], child["pid"])
        yield (
            f"<tr><td>{number}</td><td>{step['seconds'] * 1e3:,.3f} ms</td>"
            f"<td>{escape(names.get(step['pid'], ''))} {step['pid']}</td><td>{escape(what)}</td></tr>"
        )
    if len(steps) > _MOST_STEPS:
        yield f"<tr><td></td><td></td><td></td><td>and {len(steps) - _MOST_STEPS} more</td></tr>"


def _health(agent: Mapping[str, Any]) -> str:
    failure = agent["self_test_failure"]
    up = agent["uptime_seconds"]
    share = agent["cpu_seconds"] / up * 100 if up > 0 else 0.0
    facts = (
        ("Tracing", _verdict(agent["healthy"], "yes", "no")),
        ("Self-test", _verdict(failure is None, "passed", "failed")),
        ("Up", escape(_long(up))),
        ("CPU", f"{share:.2f} % of one"),
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
    looked_up = [(escape(result), f"{number:,}") for result, number in agent["confirmations"].items()]
    wrong = "" if failure is None else f'<p class="wrong">{escape(failure)}</p>'
    return (
        '<section id="health" data-part><h2>Agent</h2><div class="health">'
        f"<section><h3>Itself</h3>{_table(facts)}{wrong}</section>"
        f"<section><h3>Losses</h3>{_table(losses)}</section>"
        f"<section><h3>Kernel maps</h3>{_table(maps)}<h3>Probes</h3>{_table(_probes(agent['probes']))}"
        f"<h3>Holders looked up in /proc</h3>{_table(looked_up)}</section>"
        "</div></section>"
    )


def _probes(probes: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    missing = [name for name, probe in probes.items() if not probe["attached"]]
    yield "attached", f"{len(probes) - len(missing)} of {len(probes)}"
    for name in missing:
        yield escape(name), '<span class="bad">not attached</span>'
    counted = [probe["run_seconds"] for probe in probes.values() if probe["run_seconds"] is not None]
    yield "run time", f"{sum(counted):,.2f} s" if counted else "not counted"


# -- pieces --


def _generation(agent: Mapping[str, Any]) -> str:
    """Differs when the ended stalls do."""
    return f"{agent['started']} {agent['stalls_ended']}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><td>{key}</td><td>{value}</td></tr>" for key, value in rows) + "</table>"


def _verdict(good: bool, yes: str, no: str) -> str:
    return f'<span class="{"good" if good else "bad"}">{yes if good else no}</span>'


def _loss(number: int) -> str:
    return f'<span class="bad">{number:,}</span>' if number else "0"


def _who(holder: Mapping[str, Any]) -> str:
    return "somebody unknown" if holder["pid"] is None else str(holder["comm"])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _moment(rfc3339: str) -> str:
    return f"{rfc3339[:10]} {rfc3339[11:19]} UTC"


def _long(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days {minutes // 60 % 24} h"
