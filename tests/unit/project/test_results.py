# SPDX-License-Identifier: Apache-2.0
"""Recorded results: the documents show them as they are, and a run can record new ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench import results, targets
from tests.bench.results import BLOCK, FOLDER, Result, Table, documents, read, up_to_date
from tests.kernels.__main__ import merge

_ROOT = Path(__file__).resolve().parents[3]
_FILES = sorted(f"{FOLDER}/{path.name}" for path in (_ROOT / FOLDER).iterdir())


@pytest.mark.parametrize("document", documents())
def test_documents_show_the_results_as_they_are(document: str) -> None:
    """``.venv/bin/python -m tests.bench.results`` writes them."""
    text = (_ROOT / document).read_text()
    assert text == up_to_date(text)


@pytest.mark.parametrize("file", _FILES)
def test_a_result_says_when_where_and_how(file: str) -> None:
    result = read(file)
    assert re.match(r"\d{4}-\d\d-\d\d", result.date)
    assert result.kernel and result.machine and result.how and result.tables
    for table in result.tables.values():
        assert {len(row) for row in table.rows} == {len(table.header)}
    assert set(result.figures) <= {target.figure for target in targets.TARGETS}


def test_every_result_is_shown() -> None:
    """Else it is of no use to a reader."""
    shown = {
        found["file"] for document in documents() for found in BLOCK.finditer((_ROOT / document).read_text())
    }
    assert set(_FILES) <= shown


def test_a_file_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_ROOT", tmp_path)
    table = Table(["", "ns"], [['a "call", \u00b5s', "[1]"], ["b", ""]])
    result = Result("2026-11-26", "6.18", "a machine", "by hand", {"A title": table}, {"RSS": 1.5})
    results.write("a.json", result)
    assert read("a.json") == result
    assert '[ "b", "" ]' in (tmp_path / "a.json").read_text()


def test_a_table_in_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_ROOT", tmp_path)
    results.write(
        "a.json", Result("2026-11-26", "6.18", "a machine", "`make`", {"T": Table(["", "ns"], [["a", "1"]])})
    )
    before = "Text.\n\n<!-- table: a.json: T -->\nold\n<!-- end -->\n\nMore.\n"
    assert up_to_date(before) == (
        "Text.\n\n<!-- table: a.json: T -->\nT (2026-11-26, Linux 6.18, a machine; `make`):\n\n"
        "|  | ns |\n| --- | --- |\n| a | 1 |\n<!-- end -->\n\nMore.\n"
    )


def test_a_run_replaces_the_columns_of_its_kernels() -> None:
    old = Table(
        ["", "6.1 (Debian 12)", "6.12 (Debian 13)"],
        [
            ["run on", "2026-11-24", "2026-11-24"],
            ["self-test", "passed", "failed"],
            ["dup2", "passed", "passed"],
        ],
    )
    ran = {"6.12.57+deb13-amd64": {"self-test": "passed"}, "7.2-amd64": {"self-test": "passed"}}
    assert merge(old, "amd64", "2026-11-26", ran) == Table(
        ["", "6.1 (Debian 12)", "6.12 (Debian 13)", "7.2"],
        [
            ["run on", "2026-11-24", "2026-11-26", "2026-11-26"],
            ["self-test", "passed", "passed", "passed"],
            ["dup2", "passed", "not run", "not run"],
        ],
    )


def test_kernels_of_another_architecture_have_columns_of_their_own() -> None:
    old = Table(["", "6.1 (Debian 12)"], [["run on", "2026-11-24"]])
    merged = merge(old, "arm64", "2026-11-26", {"6.1.0-42-arm64": {}})
    assert merged.header == ["", "6.1 (Debian 12)", "6.1-arm64"]
