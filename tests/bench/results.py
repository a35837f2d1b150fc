# SPDX-License-Identifier: Apache-2.0
"""Recorded results: files that say what was measured, when, where and how; documents show their tables.

    .venv/bin/python -m tests.bench.results

rewrites each table that stands in a document between these two lines:

    <!-- table: FILE: TITLE -->
    <!-- end -->
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import targets

__all__ = ["BLOCK", "FOLDER", "Result", "Table", "documents", "read", "tracked", "up_to_date", "write"]

_ROOT = Path(__file__).resolve().parents[2]
FOLDER = "tests/bench/recorded"
BLOCK = re.compile(r"(?ms)^<!-- table: (?P<file>\S+): (?P<title>[^\n]+) -->\n.*?^<!-- end -->$")
_TARGETS = "Targets"


@dataclass(frozen=True)
class Table:
    """The cells are texts, as the documents show them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def cell(self, row: str, column: str) -> str:
        """Return the cell at the row that begins so, and below this header."""
        [found] = [cells for cells in self.rows if cells[0] == row]
        return found[list(self.header).index(column)]

    def column(self, name: str) -> list[str]:
        """Return the cells below this header."""
        place = list(self.header).index(name)
        return [cells[place] for cells in self.rows]

    def markdown(self) -> str:
        """Return the table as lines of Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True)
class Result:
    """A measurement.

    how: the command that repeats it, or what was done; tables: by title; figures: by their name in
    targets.py.
    """

    date: str
    kernel: str
    machine: str
    how: str
    tables: Mapping[str, Table]
    figures: Mapping[str, float] = field(default_factory=dict)


def read(file: str) -> Result:
    """Return the result in a file, by its path in the project."""
    content: dict[str, Any] = json.loads((_ROOT / file).read_text())
    tables = {title: Table(**table) for title, table in content.pop("tables").items()}
    return Result(tables=tables, **content)


def write(file: str, result: Result) -> None:
    """Replace a file, by its path in the project; each row of a table is a line."""
    text = json.dumps(asdict(result), indent=1, ensure_ascii=False)
    (_ROOT / file).write_text(re.sub(r"\n {5}|\n {4}(?=\])", " ", text) + "\n")


def documents() -> list[str]:
    """Return the paths of the Markdown files that git tracks."""
    return tracked("*.md")


def tracked(*paths: str) -> list[str]:
    """Return the paths of the files that git tracks: in these folders, or like these patterns."""
    command = ["git", "ls-files", *paths]
    listed = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return listed.stdout.splitlines()


def up_to_date(text: str) -> str:
    """Return a document with each of its tables as the results are now."""
    return BLOCK.sub(lambda found: _block(found["file"], found["title"]), text)


def _block(file: str, title: str) -> str:
    shown = _targets() if title == _TARGETS else _titled(read(file), title)
    return f"<!-- table: {file}: {title} -->\n{shown}\n<!-- end -->"


def _titled(result: Result, title: str) -> str:
    where = f"{result.date}, Linux {result.kernel}, {result.machine}; {result.how}"
    return f"{title} ({where}):\n\n{result.tables[title].markdown()}"


def _targets() -> str:
    figures: dict[str, float] = {}
    for path in sorted((_ROOT / FOLDER).glob("*.json")):
        figures.update(read(f"{FOLDER}/{path.name}").figures)
    return Table(targets.HEADER, targets.rows(figures)).markdown()


if __name__ == "__main__":
    for document in map(_ROOT.joinpath, documents()):
        document.write_text(up_to_date(document.read_text()))
