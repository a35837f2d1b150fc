# SPDX-License-Identifier: Apache-2.0
"""Every number in a document is a constant of the code, a recorded result, or a known fact from elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import tomllib

from agent.cli.arguments import trace_parser
from agent.reports.gate import DEFAULT_MAX_STALL_MS, DEFAULT_STATUS
from agent.tracing import tracer
from tests.bench.results import documents, tracked
from tests.ledger.claims import Number, passages, unaccounted
from tests.ledger.comments import measures
from tests.ledger.external import EXTERNAL, External
from tests.ledger.facts import c_constant, comments, facts
from tests.ledger.measured import measured

_ROOT = Path(__file__).resolve().parents[3]
_HISTORY = "CHANGELOG.md"
_DOCUMENTS = [document for document in documents() if document != _HISTORY]
_FACTS = [*facts(), *measured(), *((each.document, part) for each in EXTERNAL for part in each.sentences)]

each_document = pytest.mark.parametrize("document", _DOCUMENTS)


def _read(document: str) -> str:
    return (_ROOT / document).read_text()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sentences(document: str) -> Iterable[str]:
    return [sentence for where, sentence in _FACTS if where == document]


# -- the ledger --


@pytest.mark.parametrize(("document", "sentence"), _FACTS)
def test_a_document_has_the_number_of_the_code(document: str, sentence: str) -> None:
    text = _read(document)
    assert any(sentence in each for each in passages(text)) or sentence in _one_line(text), (
        f"{document} does not contain: {sentence}\n"
        "Correct the document; if its sentence was reworded, correct tests/ledger."
    )


@each_document
def test_every_number_is_accounted_for(document: str) -> None:
    found = [
        f"{document}: {each.number} in: {each.passage}"
        for each in unaccounted(_read(document), _sentences(document))
    ]
    assert not found, "\n".join(
        [*found, "Leave the number out, or say in tests/ledger where it comes from: see its README."]
    )


@each_document
def test_a_new_number_is_found(document: str) -> None:
    """Wherever it is added: as a paragraph, an item or a row."""
    for number, new in (
        ("7,654", "It takes 7,654 ms."),
        ("7,654", "* At most 7,654 of them."),
        ("7,654", "| a row | 7,654 |"),
        ("eleven minutes", "It takes eleven minutes."),
        ("a fifth", "* It takes a fifth of a core."),
        ("At most eleven", "| At most eleven | a row |"),
    ):
        found = list(unaccounted(f"{_read(document)}\n\n{new}\n", _sentences(document)))
        assert found == [Number(number, new)]


@pytest.mark.parametrize("external", EXTERNAL)
def test_the_sources_of_external_facts_exist(external: External) -> None:
    for path in re.findall(r"(?:agent|probes|tests)/[\w/]+\.py\b", external.source):
        assert (_ROOT / path).exists()
    tests = re.findall(r"(tests/[\w/]+\.py)::(\w+)", external.source)
    text = "\n".join(_function(path, name) for path, name in tests)
    for sentence in external.sentences if tests else ():
        for each in unaccounted(sentence, []):
            assert re.search(rf"(?<!\d){each.number}(?!\d)", text), f"no {each.number} in these tests"


def _function(path: str, name: str) -> str:
    """The text of a test, with its parameters."""
    text = _read(path)
    [found] = [
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    begin = min([found.lineno, *(each.lineno for each in found.decorator_list)])
    return "\n".join(text.splitlines()[begin - 1 : found.end_lineno])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It takes 20 ms.", ["20"]),
        ("It takes 20ms, or 1.5 to 2,000 times that (3 %).", ["20ms", "1.5", "2,000", "3"]),
        ("Use pipe2, p99 or x86_64.", []),
        ("Since `a 5` and [6](7.md), see https://8.example/9", ["6"]),
        ("On 2026-11-26, with Linux 5.8, Python 3.9 to 3.14.", ["5.8", "3.9", "3.14"]),
        ("Debian 12 and 13, 20 ms", ["12", "13", "20"]),
        ("1. The first step\n2. takes 3 s", ["3"]),
        ("Five minutes, half a second or half an hour", ["Five minutes", "half a second", "half an hour"]),
        ("within a second, once a second, each minute", ["within a second", "once a second", "each minute"]),
        ("A second run, 50 a second, for a few seconds", ["50"]),
        ("a fifth of a core, about half; the third way", ["a fifth", "about half"]),
        ("at most four, up to five, the latest four", ["at most four", "up to five", "the latest four"]),
        ("Ten times that, twice as long; built twice", ["Ten times", "twice as"]),
        ("a thousand hosts, two million; thousands of spawns", ["a thousand", "two million"]),
        ("Two ways: one for all, the other two for one.", []),
        ("A block:\n\n    sleep 5\n", []),
        ("```\nsleep 5\n```\n", []),
        ("| a | 1 |\n| b | 2 |", ["1", "2"]),
        ("<!-- table: FILE: TITLE -->\n| a | 1 |\n<!-- end -->\n", []),
    ],
)
def test_what_a_number_is(text: str, numbers: list[str]) -> None:
    assert [found.number for found in unaccounted(text, [])] == numbers


@pytest.mark.parametrize(
    ("text", "numbers"), [("at most 5 s", []), ("at most 5 stalls", ["5"]), ("at most 1.5 s", ["1.5"])]
)
def test_a_sentence_accounts_for_whole_words(text: str, numbers: list[str]) -> None:
    assert [found.number for found in unaccounted(text, ["5 s"])] == numbers


def test_sentences_may_overlap() -> None:
    assert list(unaccounted("At most 5 wait, and 6 get nothing.", ["5 wait, and", "wait, and 6 get"])) == []


# -- numbers beside the documents --


def test_defaults_in_the_help() -> None:
    stated = {
        action.dest: re.findall(r"\(default: ([\d.]+)\)", action.help or "")
        for action in trace_parser()._actions
    }
    actions = {action.dest: action for action in trace_parser()._actions}
    found = {dest: float(values[0]) for dest, values in stated.items() if values}
    gate = {"max_stall_ms": DEFAULT_MAX_STALL_MS, "exit_code": DEFAULT_STATUS}  # they need --fail-on-stall
    assert found == {dest: gate.get(dest, actions[dest].default) for dest in found} and len(found) == 4


@pytest.mark.parametrize(("file", "part"), comments())
def test_a_comment_has_the_number_of_the_code(file: str, part: str) -> None:
    assert any(part in measure.comment for measure in measures(file, _read(file)))


def test_every_measure_in_a_comment_is_accounted_for() -> None:
    known = comments()
    for file in _code():
        parts = [part for where, part in known if where == file]
        for measure in measures(file, _read(file)):
            accounted = [part for part in parts if part in measure.comment and measure.text in part]
            assert accounted, f"{file}: {measure.text} in: {measure.comment}\nSee tests/ledger/README.md."


def _code() -> list[str]:
    kinds = (".py", ".c", ".h", ".service", "config/agent.yaml")
    files = tracked("agent", "config", "dashboards", "probes")
    return [file for file in files if file.endswith(kinds) and not file.startswith("config/snapshot/")]


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("a.py", "x = 5  # 20 ms, or 3\n", ["20 ms"]),
        ("a.py", 'x = "20 ms"\n', []),
        ("a.py", 'def f():\n    """As in ``3 s``: at most 2 MB."""\n', ["2 MB"]),
        ("a.c", "int x; /* 1 s\n * and 50 us */\n", ["1 s", "50 us"]),
        ("a.service", "# every 15 s\nRestartSec=5 s\n", ["15 s"]),
    ],
)
def test_what_a_measure_is(file: str, text: str, found: list[str]) -> None:
    assert [measure.text for measure in measures(file, text)] == found


def test_the_version_in_the_installation() -> None:
    version = tomllib.loads(_read("pyproject.toml"))["project"]["version"]
    assert set(re.findall(r"spawnstall:(\d[\d.]*\d)", _read("config/INSTALL.md"))) == {version}


def test_both_sides_agree_on_the_time_between_two_notices() -> None:
    assert c_constant("errpipe.bpf.c", "NOTICE_NS") == tracer._SOONEST_NS
