# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema (draft 2020-12) of the JSON objects, generated from ``types.py``.

``python -m agent.reports.schema`` rewrites ``schema.json``.  Its root is one line of a report, its
``$defs/StatusObject`` the answer of ``/api/stalls``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from agent.reports.types import ReportObject, StatusObject

__all__ = ["PATH", "schema_text"]

PATH = Path(__file__).with_name("schema.json")


class _WithoutTitles(GenerateJsonSchema):
    """Pydantic derives a title from each key, which says nothing more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_text() -> str:
    """Generate the text of ``schema.json``."""
    report: TypeAdapter[Any] = TypeAdapter(ReportObject)
    status: TypeAdapter[Any] = TypeAdapter(StatusObject)
    roots, shared = TypeAdapter.json_schemas(
        [("report", "validation", report), ("status", "validation", status)],
        schema_generator=_WithoutTitles,
    )
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of trace-popen --json",
        "oneOf": roots["report", "validation"]["oneOf"],
        "$defs": shared["$defs"],
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema_text(), encoding="utf-8")
