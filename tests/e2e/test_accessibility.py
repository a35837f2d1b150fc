# SPDX-License-Identifier: Apache-2.0
"""axe-core finds nothing on the agent's page and on the pages of reports, whatever is on them.

https://github.com/dequelabs/axe-core: rules for WCAG 2 and best practices, run in the browser.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.render import agent_html
from agent.render.run_html import html_report
from agent.reports.collection import Collection
from agent.reports.kinds import Kinds
from agent.serve.history import History
from agent.serve.stallkinds import StallKinds
from agent.serve.status import Status
from tests.e2e.browser import Browser, Page
from tests.unit.render.test_waits import _wait
from tests.unit.reports.test_objects import CLOCK
from tests.unit.reportsamples import ended, found, ongoing, plain_spawn, summary
from tests.unit.serve.test_metrics import FakeSource

_AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
_RUN = """axe.run(document, {{resultTypes: ["violations"], {}}}).then(result => result.violations.map(rule =>
  rule.id + ": " + rule.nodes.slice(0, 3).map(node => node.html + " " + node.failureSummary).join(" | ")))"""
_ALL = _RUN.format("")
_CONTRAST = _RUN.format('runOnly: ["color-contrast"]')
"""All that differs between light and dark."""


@pytest.fixture(scope="module")
def axe() -> str:
    if not _AXE.exists():
        pytest.skip("not installed: axe-core; make setup-e2e")
    return _AXE.read_text()


def _stalls(number: int) -> Iterator[Any]:
    """Ended stalls of seven kinds and lengths."""
    causes = ("forked", "leaked", "late_exec", "own_descendant", "passed", "unknown", "forked")
    plain = ended()
    for place in range(number):
        made = copy.deepcopy(plain)
        kind = place % 7
        made["id"] = f"{place:016x}"
        made["time"] = f"2026-11-24T10:{place // 60 % 60:02}:{place % 60:02}.000000Z"
        made["stall_seconds"] = 0.01 * (1 + place % 97) ** 2
        made["parent"]["comm"] = f"program-{kind}"
        made["holders"][0]["cause"] = causes[kind]
        yield made


_LOST = {"lost_records": 4, "not_followed": {"records_lost": 4, "slots_overflowed": 12}}
_REPORTS = {
    "empty": [summary()],
    "exposures": [{**summary(), "exposures": [{"comm": "web-app", "cause": "forked", "count": 12}]}],
    "losses": [{**summary(), **_LOST}, summary()],
    "one": [ended(), plain_spawn(), summary()],
    "many": [*_stalls(2000), summary()],
    "waits": [_wait(), _wait(normal=True), summary()],
    "in progress": [ended(), ongoing(2, 9.0), found(), {**summary(), "ongoing": 2}],
}


def _status(ended_ones: list[Any], ongoing_ones: list[Any], waits: list[Any], failure: str = "") -> Any:
    source = FakeSource(self_test_failure=failure or None)
    counts = (5, 90, 5)
    status: Any = Status(
        source, History(1), StallKinds(CLOCK), lambda: counts, CLOCK, lambda: True, "0.26.0"
    ).read()
    kinds = Kinds()
    for one in (*ended_ones, *ongoing_ones):
        kinds.add(one)
    status.update(kinds=kinds.object(), ongoing=ongoing_ones, waits=waits, ended=ended_ones[:100])
    status["agent"]["stalls_ended"] = len(ended_ones)
    return status


_STATUSES = {
    "agent: empty": _status([], [], []),
    "agent: one": _status([ended()], [], []),
    "agent: many": _status([*_stalls(2000)], [ongoing(number) for number in range(3000, 3009)], [_wait()]),
    "agent: in progress": _status([ended()], [ongoing(2)], [_wait()]),
    "agent: failed": _status([], [], [], "read fd 3, not 4"),
}


def _page(name: str) -> str:
    if name in _STATUSES:
        return agent_html.page(_STATUSES[name])
    return html_report(Collection(_REPORTS[name]))


def _open(browser: Browser, folder: Path, name: str, width: int = 1100, dark: bool = False) -> Page:
    file = folder / "page.html"
    file.write_text(_page(name), encoding="utf-8")
    return browser.open(file.as_uri(), width, dark=dark)


@pytest.mark.parametrize("name", [*_REPORTS, *_STATUSES])
def test_axe_finds_nothing(name: str, axe: str, browser: Browser, tmp_path: Path) -> None:
    looks = ((1100, False, _ALL), (1100, True, _CONTRAST), (400, False, _ALL))
    # What is folded is hundreds of times the same, and thousands of rows take a minute.
    has_many = name.endswith("many")
    for width, dark, run in looks[:2] if has_many else looks:
        page = _open(browser, tmp_path, name, width, dark)
        page.evaluate(f"{axe}; void 0")
        assert page.evaluate(run) == []
        if not has_many:
            page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
            assert page.evaluate(run) == []


def test_axe_finds_something(axe: str, browser: Browser, tmp_path: Path) -> None:
    """Verify the test above."""
    page = _open(browser, tmp_path, "one")
    page.evaluate(
        "document.documentElement.removeAttribute('lang');"
        "document.querySelector('main').append(document.createElement('h5'));"
        "document.querySelector('h5').textContent = 'x';"
        "document.querySelector('.facts dt').setAttribute('id', 'faint');"
        "document.styleSheets[0].insertRule('#faint { color: #999; }');"
    )
    page.evaluate(f"{axe}; void 0")
    rules = {line.split(":")[0] for line in page.evaluate(_ALL)}
    assert {"html-has-lang", "heading-order", "color-contrast"} <= rules


@pytest.mark.parametrize("name", ["many", "agent: many"])
def test_few_tab_stops(name: str, browser: Browser, tmp_path: Path) -> None:
    """However many stalls there are; once what folds them is open too."""
    page = _open(browser, tmp_path, name)
    stops = (
        "[...document.querySelectorAll('a, button, input, summary, [tabindex]')]"
        ".filter(each => each.tabIndex >= 0 && each.checkVisibility()).length"
    )
    assert page.evaluate(stops) < 50
    page.evaluate("document.querySelectorAll('details.list').forEach(each => { each.open = true; })")
    assert page.evaluate(stops) < 60


def test_nothing_moves() -> None:
    """There is nothing that prefers-reduced-motion would have to turn off."""
    folder = Path(agent_html.__file__).parent
    for style in folder.glob("*.css"):
        text = style.read_text()
        assert not [word for word in ("transition", "animation", "scroll-behavior") if word in text]
    assert "smooth" not in "".join(script.read_text() for script in folder.glob("*.js"))
