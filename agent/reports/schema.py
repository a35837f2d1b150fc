# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema (draft 2020-12) of the JSON objects, generated from ``types.py``.

``python -m agent.reports.schema`` rewrites ``schema.json``.  Its root is one line of a report, its
``$defs/StatusObject`` the answer of ``/api/stalls``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.reports.types import ReportObject, StatusObject
from agent.shape import shape_of

__all__ = ["PATH", "schema_text"]

_ID = "https://raw.githubusercontent.com/spawnstall/spawnstall/main/agent/reports/schema.json"

PATH = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Generate the text of ``schema.json``."""
    definitions: dict[str, Any] = {}
    root = shape_of(ReportObject).schema(definitions)
    shape_of(StatusObject).schema(definitions)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _ID,
        "title": "One line of trace-popen --json",
        "description": "JSON.md explains the objects. $defs/StatusObject is the answer of /api/stalls.",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema_text(), encoding="utf-8")
