# SPDX-License-Identifier: Apache-2.0
"""Holds the JSON objects that tests produce to the published JSON Schema, without any other keys."""

from __future__ import annotations

import functools
import json
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from agent.reports import schema

__all__ = ["checked", "checked_status", "strict_schema"]


@functools.cache
def strict_schema() -> dict[str, Any]:
    """The schema in which each object has no other keys than the documented ones."""
    strict: dict[str, Any] = json.loads(schema.PATH.read_text())
    for definition in strict["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return strict


def checked(report: dict[str, Any]) -> dict[str, Any]:
    """An object of a report, if it is valid; else raises jsonschema.ValidationError."""
    _validator(f"{report['type'].capitalize()}Object").validate(report)
    return report


def checked_status(status: dict[str, Any]) -> dict[str, Any]:
    """An answer of /api/stalls, if it is valid; else raises jsonschema.ValidationError."""
    _validator("StatusObject").validate(status)
    return status


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    definitions = strict_schema()["$defs"]
    return Draft202012Validator(_without_references(definitions[name], definitions))


def _without_references(schema: Any, definitions: dict[str, Any]) -> Any:
    """The same schema with each definition in place of its references, which are slow to follow."""
    if isinstance(schema, list):
        return [_without_references(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _without_references(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _without_references(value, definitions) for key, value in schema.items()}
