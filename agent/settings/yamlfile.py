# SPDX-License-Identifier: Apache-2.0
"""Validate YAML files; each error names file, key, value and expectation.

A file that other users can change is used, with a warning.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, cast

import yaml

from agent.errors import UserError
from agent.escape import printable
from agent.shape import key_name, shape_of, shown, truncated, validate

__all__ = ["ConfigError", "check", "parse", "read"]

_log = logging.getLogger(__name__)
_MAX_LINES = 20
_MAX_LINE = 1000
_Model = TypeVar("_Model")


class ConfigError(UserError):
    """A configuration is invalid; each line names file, key, value and expectation.

    Lines are made printable and bounded here, because names and values can be anything.
    """

    def __init__(self, *lines: str) -> None:
        shown_lines = [printable(line.encode(errors="backslashreplace")) for line in lines[:_MAX_LINES]]
        if len(lines) > _MAX_LINES:
            shown_lines.append(f"and {len(lines) - _MAX_LINES} more errors")
        super().__init__("\n".join(truncated(line, _MAX_LINE) for line in shown_lines))


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


def read(path: Path, model: type) -> dict[str, Any]:
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
        key = dataclasses.fields(model)[0].name
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
    """Validate a document and make the dataclass ``model`` of it.  Raises ConfigError with all errors.

    sources: by key (as in key_name, two levels deep), the origin of a value that is not from the file.
    """
    found, problems = validate(shape_of(model), document)
    if problems:
        raise ConfigError(*(f"{sources.get(key_name(one.at[:2]), path)}: {one}" for one in problems))
    return cast(_Model, found)
