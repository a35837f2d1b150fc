# SPDX-License-Identifier: Apache-2.0
"""Reads a report: the JSON lines written by ``trace-popen --json``, on any machine.

Every object is validated against its type (``types.py``), so that renderers can rely on its keys.  Unknown
keys, which a later version can write, are kept and ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from agent.errors import UserError
from agent.escape import printable
from agent.reports.types import ReportObject
from agent.shape import shape_of, validate

__all__ = ["ReplayError", "read_report"]

_MAX_LINE_BYTES = 16 << 20  # a stall with 20,000 holders
_MAX_DEPTH = 100  # of values within each other; ours have 6
_SHAPE = shape_of(ReportObject)


class ReplayError(UserError):
    """A file is not a report; one line that names file, line, key and value, and what is expected."""


def read_report(path: Path, warn: Callable[[str], None]) -> Iterator[ReportObject]:
    """Yield the objects of a report in file order, unchanged except for escapes; the file is read lazily.

    Unprintable characters are escaped.  A truncated last line (the disk was full, the writer was killed) is
    skipped, and warn is called with one line.  Raises ReplayError.
    """
    found = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE_BYTES), b""), 1):
                where = f"{path}:{number}"
                whole = line.endswith(b"\n")
                if not whole and len(line) == _MAX_LINE_BYTES:
                    raise ReplayError(f"{where}: line exceeds {_MAX_LINE_BYTES:,} bytes: expected one object")
                if not line.strip():
                    continue
                try:
                    report, problems = validate(_SHAPE, json.loads(line.decode()))
                    report = _printable(report, _MAX_DEPTH)
                except (ValueError, RecursionError) as error:
                    if found and not whole and isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
                        warn(f"{where}: the last line is truncated: skipped 1 object of {len(line):,} bytes")
                        return
                    raise ReplayError(f"{where}: {_not_json(error)}") from error
                if problems:
                    raise ReplayError(_printable(f"{where}: {problems[0]}", 0))
                found += 1
                yield cast(ReportObject, report)
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    if not found:
        raise ReplayError(f"{path}: file is empty: expected a report written by 'trace-popen --json'")


def _printable(value: Any, depth: int) -> Any:
    """Escape every text in a value as our own reports do: the file can come from anybody.

    depth: of values within each other; RecursionError if there are more.
    """
    if isinstance(value, str):
        return value if value.isprintable() else printable(value.encode())
    if not isinstance(value, (list, dict)):
        return value
    if not depth:
        raise RecursionError
    if isinstance(value, list):
        return [_printable(item, depth - 1) for item in value]
    return {_printable(key, 0): _printable(item, depth - 1) for key, item in value.items()}


def _not_json(error: Exception) -> str:
    problem = str(error)
    if isinstance(error, json.JSONDecodeError):
        problem = f"{error.msg} at column {error.colno}"
    elif isinstance(error, RecursionError):
        problem = "values are nested too deeply"
    return f"not JSON: {problem}: expected one object per line, as written by 'trace-popen --json'"
