"""YAML files checked against pydantic models: what is wrong is said with file, key, value and expectation."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from agent.escape import printable

__all__ = ["ConfigError", "Section", "check", "key_name", "read", "shown", "unknown_key"]

_MOST_LINES = 20
_LONGEST_LINE = 1000
_Model = TypeVar("_Model", bound="Section")


class ConfigError(Exception):
    """A configuration cannot be used; each line names file, key, value and what is expected.

    Lines are made printable and bounded here, whatever names and values are in them.
    """

    def __init__(self, *lines: str) -> None:
        told = [printable(line.encode(errors="backslashreplace")) for line in lines[:_MOST_LINES]]
        if len(lines) > _MOST_LINES:
            told.append(f"and {len(lines) - _MOST_LINES} more like these")
        super().__init__("\n".join(_cut(line, _LONGEST_LINE) for line in told))


class Section(BaseModel):
    """Keys with values; any other key is an error. Strict: `min_ms: true` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# What PyYAML raises for values that are not what they look like, or not what their tag says; and for depth.
_UNUSABLE = (ValueError, LookupError, AttributeError, ArithmeticError, TypeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, which YAML forbids, and aliases: a few make billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                problem=f"aliases such as {shown('*' + event.anchor)} are not followed: write it out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _value in node.value:
            key = key_node.value
            if isinstance(key_node, yaml.ScalarNode) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {shown(key)} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def parse(text: str, source: Union[Path, str]) -> Any:
    """The value that a text in YAML stands for; raises ConfigError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{source}{where}: not YAML: {problem}") from error
    except _UNUSABLE as error:
        raise ConfigError(f"{source}: not YAML that can be used: {error}") from error


def read(path: Path, model: type[Section]) -> dict[str, Any]:
    """The keys and values of a file, not yet checked; the model is for saying what is expected.

    Raises ConfigError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except ValueError as error:  # a name with a NUL
        raise ConfigError(f"{path}: {error}") from error
    document = parse(text, path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        key = next(iter(model.model_fields))
        raise ConfigError(f"{path}: expected keys such as '{key}:', found {shown(document)}")
    # A section of which every key is commented out is an empty one.
    return {key: {} if value is None else value for key, value in document.items()}


def check(
    document: Mapping[str, Any],
    model: type[_Model],
    path: Union[Path, str],
    sources: Mapping[str, str] = {},
) -> _Model:
    """The document as the model has it; the context of its validators is the file's folder.

    sources: where the value of a key (as key_name gives it, two levels deep) came from, if not from the file.
    Raises ConfigError.
    """
    try:
        return model.model_validate(document, context=Path(path).parent)
    except ValidationError as error:
        lines = [
            _line(sources.get(key_name(item["loc"][:2]), str(path)), item, model) for item in error.errors()
        ]
        raise ConfigError(*lines) from error


def key_name(location: Sequence[Union[str, int]]) -> str:
    """A key as it is shown, such as ``stalls.min_ms``."""
    return ".".join(shown(part).strip("'") for part in location)


def unknown_key(location: Sequence[Union[str, int]], model: type[Section]) -> str:
    """What is to be said of a key that the model does not have."""
    known = _keys_beside(location, model)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}"
    return f"{key_name(location)}: unknown key; {hint}"


def shown(value: Any) -> str:
    """A value as it was given, bounded."""
    return _cut(repr(value), 60)


def _cut(text: str, length: int) -> str:
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
