# SPDX-License-Identifier: Apache-2.0
"""The documents: links and paths lead somewhere, and what they list is what the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Clock
from agent.model import Cause
from agent.render.words import what_happened
from agent.reports.objects import stall_object
from tests.bench.fleet.hosts import series_by_part
from tests.examples.examples import EXAMPLES, Example, current, shown
from tests.unit.reportsamples import ended, found, plain_spawn, run, summary
from tests.unit.samples import stall, with_stacks
from tests.unit.serve.test_metrics import FakeSource

_ROOT = Path(__file__).resolve().parents[3]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_IN_PROJECT = re.compile(r"`((?:agent|config|dashboards|probes|tests)/[\w./-]+)`")
_README_LINES = 150


def _documents() -> list[Path]:
    found = [*_ROOT.glob("*.md"), *(_ROOT / ".github").glob("*.md")]
    for folder in ("agent", "config", "dashboards", "probes", "tests"):
        found += (_ROOT / folder).rglob("*.md")
    return sorted(path for path in found if "node_modules" not in path.parts)


each_document = pytest.mark.parametrize(
    "document", _documents(), ids=lambda path: str(path.relative_to(_ROOT))
)


def _prose(document: Path) -> Iterator[str]:
    """The lines of a document without its code blocks."""
    for line in document.read_text().splitlines():
        if not line.startswith("    "):
            yield line


def _anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = [line.lstrip("#").strip() for line in _prose(document) if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall("\n".join(_prose(document))):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = document.parent / file if file else document
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), target


@each_document
def test_paths_are_there(document: Path) -> None:
    for path in _IN_PROJECT.findall("\n".join(_prose(document))):
        assert (_ROOT / path).exists(), path


def test_the_readme_is_short_and_names_every_document() -> None:
    text = (_ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= _README_LINES
    for document in _documents():
        name = str(document.relative_to(_ROOT))
        if document.name != "README.md" and "runbooks" not in name:
            assert f"({name})" in text, name


def test_the_readme_has_every_cause() -> None:
    text = (_ROOT / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [cause.value for cause in Cause]


def test_the_page_of_trace_popen_has_every_option() -> None:
    from agent.cli.arguments import trace_parser

    text = (_ROOT / "agent" / "cli" / "TRACE-POPEN.md").read_text()
    documented = {
        word.split()[0]
        for row in re.findall(r"^\| (`-[^|]+) \|", text, re.MULTILINE)
        for word in re.findall(r"`([^`]+)`", row)
    }
    options = {option for action in trace_parser()._actions for option in action.option_strings}
    assert documented == options - {"-h", "--help"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.report.stem)
def test_examples_are_todays_output(example: Example) -> None:
    """``.venv/bin/python -m tests.examples`` writes them."""
    assert shown(example) == current(example)


# -- JSON --


def _json_section(title: str) -> str:
    text = (_ROOT / "agent" / "reports" / "JSON.md").read_text()
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _keys_of_rows(section: str) -> set[str]:
    """The keys in the first column of its tables."""
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    keys = {key for row in rows for key in re.findall(r"`([^`]+)`", row)}
    return _innermost(keys)


def _innermost(keys: set[str]) -> set[str]:
    """Without ``holders`` where ``holders[].pid`` is there."""
    return {key for key in keys if not any(other.startswith((f"{key}.", f"{key}[")) for other in keys)}


def _keys(value: Mapping[str, Any]) -> set[str]:
    """Those of an object and of the objects in it."""
    found = set()
    for key, inner in value.items():
        objects = inner if isinstance(inner, list) else [inner]
        prefix = f"{key}[]." if isinstance(inner, list) else f"{key}."
        if objects and isinstance(objects[0], dict):
            found |= {prefix + name for name in objects[0]}
        else:
            found.add(key)
    return found


def test_the_page_of_json_has_every_key_of_a_stall() -> None:
    identity = {"exe", "uid", "container"}
    documented = _keys_of_rows(_json_section("stall"))
    assert identity <= documented
    made = (ended(), found(), stall_object(with_stacks(stall()), Clock()))
    assert documented - identity == _innermost({key for each in made for key in _keys(each)})


def test_the_page_of_json_has_every_key_of_a_run() -> None:
    made = run("make")
    documented = _keys_of_rows(_json_section("run"))
    assert documented == _innermost({*made, *(f"command.{key}" for key in made["command"])})


def test_the_page_of_json_has_every_key_of_a_spawn_and_a_summary() -> None:
    words = set(re.findall(r"`([^`]+)`", _json_section("spawn")))
    assert plain_spawn().keys() <= words
    assert summary().keys() == _keys_of_rows(_json_section("summary"))


def test_the_page_of_json_has_steps_that_there_are() -> None:
    [sentence] = re.findall(r"^`what` is one of (.*?)\n\n", _json_section("stall"), re.MULTILINE | re.DOTALL)
    steps = re.findall(r"`(\w+)`", sentence)
    assert len(steps) == 14
    for step in steps:
        assert what_happened(step, 5, 6, 7) != step


# -- sizing --


def test_the_page_of_sizing_has_the_series_of_todays_metrics() -> None:
    text = " ".join((_ROOT / "config" / "SIZING.md").read_text().split())
    parts = series_by_part(FakeSource())
    comm, triple = parts["comm"], parts["comm, holder, cause"]
    assert f"{comm} for each comm that spawns, and {triple} for each (comm, holder, cause)" in text
    quiet, busy, worst = map(
        int, re.findall(r"[\d]+", re.findall(r"\| series \| (.*?) \|\s*#", text)[0].replace(",", ""))
    )
    host = quiet - 4 * comm
    assert busy == host + 20 * comm + 10 * triple + 4
    assert worst == host + 100 * comm + 500 * triple + 102
