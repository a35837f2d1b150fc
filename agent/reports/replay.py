# SPDX-License-Identifier: Apache-2.0
"""Reads a report: the JSON lines written by ``trace-popen --json``, on any machine.

Every object is validated against its type (``types.py``), so that renderers can rely on its keys.  Unknown
keys, which a later version can write, are kept and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from agent.errors import UserError
from agent.escape import printable
from agent.reports.types import ReportObject
from agent.settings.yamlfile import key_name, shown

__all__ = ["ReplayError", "read_report"]

_MAX_LINE_BYTES = 16 << 20  # a stall with 20,000 holders


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
                    report = _OBJECT.validate_json(line, strict=True, extra="allow")
                except ValidationError as error:
                    item = error.errors(include_url=False)[0]
                    if found and not whole and item["type"] == "json_invalid":
                        warn(f"{where}: the last line is truncated: skipped 1 object of {len(line):,} bytes")
                        return
                    raise ReplayError(f"{where}: {_problem(item)}") from error
                found += 1
                yield cast(ReportObject, _printable(report))
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    if not found:
        raise ReplayError(f"{path}: file is empty: expected a report written by 'trace-popen --json'")


def _printable(value: Any) -> Any:
    """Escape every text in a value as our own reports do: the file can come from anybody."""
    if isinstance(value, str):
        return value if value.isprintable() else printable(value.encode(errors="backslashreplace"))
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _problem(item: Any) -> str:
    if item["type"] == "json_invalid":
        problem = re.sub(r" at line \d+ column", " at column", item["ctx"]["error"])
        return f"not JSON: {problem}: expected one object per line, as written by 'trace-popen --json'"
    if not item["loc"]:
        if item["type"].startswith("union_tag"):
            return f"expected an object with type {', '.join(_TYPES)}"
        return f"{shown(item['input'])}: expected an object"
    kind, *location = item["loc"]
    if not location:
        return f"{shown(item['input'])}: expected the keys of a {kind}"
    key = key_name(location)
    if item["type"] == "missing":
        return f"{key}: missing key of a {kind}"
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{key}: {shown(item['input'])}: {message}"


_OBJECT: TypeAdapter[ReportObject] = TypeAdapter(ReportObject)
_TYPES = [get_args(get_type_hints(each)["type"])[0] for each in get_args(get_args(ReportObject)[0])]
