# SPDX-License-Identifier: Apache-2.0
"""Validate YAML files with pydantic models; each error names file, key, value and expectation.

A file that other users can change is used, with a warning.
"""

from __future__ import annotations

import difflib
import logging
import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from agent.errors import UserError
from agent.escape import printable

__all__ = ["ConfigError", "Section", "check", "key_name", "read", "shown", "unknown_key"]

_log = logging.getLogger(__name__)
_MAX_LINES = 20
_MAX_LINE = 1000
_Model = TypeVar("_Model", bound="Section")


class ConfigError(UserError):
    """A configuration is invalid; each line names file, key, value and expectation.

    Lines are made printable and bounded here, because names and values can be anything.
    """

    def __init__(self, *lines: str) -> None:
        shown_lines = [printable(line.encode(errors="backslashreplace")) for line in lines[:_MAX_LINES]]
        if len(lines) > _MAX_LINES:
            shown_lines.append(f"and {len(lines) - _MAX_LINES} more errors")
        super().__init__("\n".join(_truncate(line, _MAX_LINE) for line in shown_lines))


class Section(BaseModel):
    """Keys with values; unknown keys are errors, and types are strict: ``min_ms: true`` is not a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# What PyYAML raises for values that do not match their syntax or tag, and for deep nesting.
_VALUE_ERRORS = (ValueError, LookupError, AttributeError, ArithmeticError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """Reject duplicate keys, which YAML forbids, and aliases: a few can expand to billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                problem=f"aliases such as {shown('*' + event.anchor)} are not supported: repeat the value",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _value in node.value:
            key = key_node.value
            if isinstance(key_node, yaml.ScalarNode) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"duplicate key {shown(key)}", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def parse(text: str, source: Union[Path, str]) -> Any:
    """Parse a YAML text; raises ConfigError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{source}{where}: invalid YAML: {problem}") from error
    except _VALUE_ERRORS as error:
        raise ConfigError(f"{source}: unusable YAML value: {error}") from error


def read(path: Path, model: type[Section]) -> dict[str, Any]:
    """The keys and values of a file, not yet validated; model: for error messages.  Raises ConfigError."""
    try:
        with path.open(encoding="utf-8") as file:
            _warn_if_others_can_write(path, os.fstat(file.fileno()))
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except ValueError as error:  # a path with a NUL
        raise ConfigError(f"{path}: {error}") from error
    document = parse(text, path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        key = next(iter(model.model_fields))
        raise ConfigError(f"{path}: expected keys such as '{key}:', found {shown(document)}")
    # A section whose keys are all commented out is empty.
    return {key: {} if value is None else value for key, value in document.items()}


def _warn_if_others_can_write(path: Path, status: os.stat_result) -> None:
    foreign = status.st_uid not in (0, os.geteuid())
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISREG(status.st_mode) or not (foreign or writable):
        return
    name = shlex.quote(str(path))
    commands = [f"chown root {name}"] * foreign + [f"chmod go-w {name}"] * bool(writable)
    _log.warning(
        "%s: other users can change it: it has the mode %04o and the owner uid %d; run: %s",
        path,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        " && ".join(commands),
    )


def check(
    document: Mapping[str, Any],
    model: type[_Model],
    path: Union[Path, str],
    sources: Mapping[str, str] = {},
) -> _Model:
    """Validate a document; validators get the file's directory as their context.  Raises ConfigError.

    sources: by key (as in key_name, two levels deep), the origin of a value that is not from the file.
    """
    try:
        return model.model_validate(document, context=Path(path).parent)
    except ValidationError as error:
        lines = [
            _line(sources.get(key_name(item["loc"][:2]), str(path)), item, model) for item in error.errors()
        ]
        raise ConfigError(*lines) from error


def key_name(location: Sequence[Union[str, int]]) -> str:
    """The name of a key in messages, such as ``stalls.min_ms``."""
    return ".".join(shown(part).strip("'") for part in location)


def unknown_key(location: Sequence[Union[str, int]], model: type[Section]) -> str:
    """The message for a key that the model does not have."""
    known = _keys_beside(location, model)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}"
    return f"{key_name(location)}: unknown key; {hint}"


def shown(value: Any) -> str:
    """A value for a message, truncated."""
    return _truncate(repr(value), 60)


def _truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _line(source: str, item: Any, model: type[Section]) -> str:
    if item["type"] == "extra_forbidden":
        return f"{source}: {unknown_key(item['loc'], model)}"
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if item["type"] == "model_type":
        message = f"expected keys: {', '.join(_keys_beside((*item['loc'], ''), model))}"
    return f"{source}: {key_name(item['loc'])}: {shown(item['input'])}: {message}"


def _keys_beside(location: Sequence[Union[str, int]], model: type[Section]) -> list[str]:
    section: type[BaseModel] = model
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation: Any = section.model_fields[part].annotation
        section = annotation if isinstance(annotation, type) else annotation.__args__[0]
    return list(section.model_fields)
