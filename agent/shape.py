# SPDX-License-Identifier: Apache-2.0
"""Validates data from JSON or YAML against Python types, and writes the types as JSON Schema.

``shape_of`` takes a TypedDict, a dataclass, ``str``, ``int``, ``float``, ``bool``, ``Any``, a ``Literal`` or
``Enum`` of strings, ``list``, ``dict``, ``Optional``, and ``Annotated`` with the limits below; any other type
is a TypeError.  Nothing is guessed: ``true`` and ``"5"`` are not integers, and ``nan`` is not a float.  A
dataclass rejects unknown keys; a TypedDict keeps them.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union, get_args, get_origin, get_type_hints

__all__ = [
    "Check",
    "Keywords",
    "Length",
    "Pattern",
    "Problem",
    "Range",
    "Shape",
    "Tag",
    "key_name",
    "shape_of",
    "shown",
    "truncated",
    "unknown_key",
    "validate",
]

Location = tuple[Union[str, int], ...]
"""Keys and indexes on the way to a value."""
Definitions = dict[str, Any]
"""The "$defs" of a JSON Schema."""


# -- limits: what Annotated can say of a value --


@dataclass(frozen=True)
class Range:
    """The smallest and the greatest number."""

    least: float
    most: float


@dataclass(frozen=True)
class Length:
    """The number of characters, items or keys."""

    most: int
    least: int = 0

    def __str__(self) -> str:
        return f"{self.least} to {self.most}" if self.least else f"at most {self.most}"


@dataclass(frozen=True)
class Pattern:
    """A regular expression that matches the string as a whole."""

    regex: str


@dataclass(frozen=True)
class Check:
    """A function that raises ValueError for a value of the right type; its text says what is expected."""

    function: Callable[[Any], object]


@dataclass(frozen=True)
class Tag:
    """The key whose value tells the TypedDicts of a Union apart."""

    key: str


class Keywords:
    """More keywords for the JSON Schema; validation ignores them."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords


# -- messages --


class Problem(NamedTuple):
    """A value that does not have its shape."""

    at: Location
    message: str

    def __str__(self) -> str:
        return f"{key_name(self.at)}: {self.message}" if self.at else self.message


def key_name(location: Iterable[Union[str, int]]) -> str:
    """The name of a key in messages, such as ``stalls.min_ms``."""
    return ".".join(shown(part).strip("'") for part in location)


def unknown_key(key: object, known: Iterable[str]) -> str:
    """The message for a key that is not known."""
    near = difflib.get_close_matches(str(key), known, n=1)
    return "unknown key; " + (f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}")


def shown(value: object) -> str:
    """A value for a message, truncated."""
    try:
        return truncated(repr(value), 60)
    except (ValueError, RecursionError):  # an integer of too many digits, or lists within lists
        return f"a very long {type(value).__name__}"


def truncated(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


# -- shapes --


class Shape:
    """Reads values of one type; this one, of any type.

    expected: completes the sentence "expected ...".
    """

    expected = "a value"

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        """The value as its type says; what is wrong with it is appended to problems."""
        return value

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        """Its JSON Schema; named types are added to the definitions."""
        return {}

    def _refuse(self, value: Any, at: Location, problems: list[Problem]) -> None:
        problems.append(Problem(at, f"{shown(value)}: expected {self.expected}"))


class _Bool(Shape):
    expected = "true or false"

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        return value if isinstance(value, bool) else self._refuse(value, at, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "boolean"}


class _Number(Shape):
    def __init__(self, kind: type, limits: Optional[Range]) -> None:
        self._types = (int,) if kind is int else (int, float)
        self._convert = kind
        self._least, self._most = -sys.float_info.max, sys.float_info.max  # neither infinite nor nan
        self._limits = limits
        self.expected = "an integer" if kind is int else "a number"
        if limits is not None:
            self._least, self._most = limits.least, limits.most
            self.expected += f" from {limits.least} to {limits.most}"

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        if type(value) in self._types and self._least <= value <= self._most:
            return self._convert(value)
        return self._refuse(value, at, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        bounds = {} if self._limits is None else {"maximum": self._most, "minimum": self._least}
        return {**bounds, "type": "integer" if self._convert is int else "number"}


class _String(Shape):
    def __init__(self, length: Optional[Length], pattern: Optional[Pattern]) -> None:
        self._length = length
        self._pattern = None if pattern is None else re.compile(pattern.regex)
        self.expected = "a string"
        if length is not None:
            self.expected += f" of {length} characters"
        if pattern is not None:
            self.expected += f" that matches {pattern.regex}"

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        if (
            not isinstance(value, str)
            or not _fits(value, self._length)
            or (self._pattern is not None and not self._pattern.fullmatch(value))
        ):
            self._refuse(value, at, problems)
        return value

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        pattern = {} if self._pattern is None else {"pattern": f"^{self._pattern.pattern}$"}
        return {**_bounds(self._length, "Length"), **pattern, "type": "string"}


class _Words(Shape):
    """The strings of a Literal, or the members of an Enum by their values."""

    def __init__(self, kind: Any) -> None:
        self._enum: Optional[type[Enum]] = kind if isinstance(kind, type) else None
        self.words = (
            {word.value: word for word in kind} if self._enum else {word: word for word in get_args(kind)}
        )
        *some, last = map(repr, self.words)
        self.expected = f"{', '.join(some)} or {last}" if some else last

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        if isinstance(value, str) and value in self.words:
            return self.words[value]
        return self._refuse(value, at, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        words = list(self.words)
        found = {"const": words[0]} if len(words) == 1 and self._enum is None else {"enum": words}
        return _named(self._enum, {**found, "type": "string"}, definitions)


class _List(Shape):
    def __init__(self, item: Shape, length: Optional[Length]) -> None:
        self._item, self._length = item, length
        self.expected = "a list" + (f" of {length} items" if length else "")

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        if not isinstance(value, list) or not _fits(value, self._length):
            return self._refuse(value, at, problems)
        read = self._item.read
        return [read(item, (*at, number), problems) for number, item in enumerate(value)]

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"items": self._item.schema(definitions), **_bounds(self._length, "Items"), "type": "array"}


class _Map(Shape):
    def __init__(self, key: Shape, value: Shape, length: Optional[Length]) -> None:
        self._key, self._value, self._length = key, value, length
        self.expected = "keys and values" + (f", {length} of them" if length else "")

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        if not isinstance(value, dict) or not _fits(value, self._length):
            return self._refuse(value, at, problems)
        return {
            self._key.read(key, (*at, key), problems): self._value.read(inner, (*at, key), problems)
            for key, inner in value.items()
        }

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        pattern = self._key.schema(definitions).get("pattern")
        value = self._value.schema(definitions)
        values = {"patternProperties": {pattern: value}} if pattern else {"additionalProperties": value}
        return {**values, **_bounds(self._length, "Properties"), "type": "object"}


class _Either(Shape):
    """Null or one other shape, or several kinds of words."""

    def __init__(self, options: list[Shape], null: bool) -> None:
        if len(options) > 1 and not all(isinstance(option, _Words) for option in options):
            raise TypeError("a Union is Optional, or of words, or has a Tag")
        self._options, self._null = options, null
        self.expected = ", or ".join([option.expected for option in options] + ["null"] * null)

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        if value is None and self._null:
            return None
        for option in self._options[:-1]:
            tried: list[Problem] = []
            found = option.read(value, at, tried)
            if not tried:
                return found
        return self._options[-1].read(value, at, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        null = [{"type": "null"}] * self._null
        return {"anyOf": [option.schema(definitions) for option in self._options] + null}


class _Object(Shape):
    """A TypedDict or a dataclass."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._is_dataclass = dataclasses.is_dataclass(kind)
        hints = get_type_hints(kind, include_extras=True)
        self.keys = {key: shape_of(hint) for key, hint in hints.items()}
        if self._is_dataclass:
            self._required = [field.name for field in dataclasses.fields(kind) if _has_no_default(field)]
        else:
            self._required = [key for key in hints if key in kind.__required_keys__]
        self.expected = f"keys: {', '.join(self.keys)}" if self._is_dataclass else "an object"

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        if not isinstance(value, dict):
            return self._refuse(value, at, problems)
        for key in self._required:
            if key not in value:
                problems.append(Problem((*at, key), f"missing: expected {self.keys[key].expected}"))
        found = {}
        for key, inner in value.items():
            shape = self.keys.get(key)
            if shape is not None:
                found[key] = shape.read(inner, (*at, key), problems)
            elif self._is_dataclass:
                problems.append(Problem((*at, key), unknown_key(key, self.keys)))
            else:
                found[key] = inner
        return self._kind(**found) if self._is_dataclass and not problems else found

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        properties = {key: shape.schema(definitions) for key, shape in self.keys.items()}
        found: dict[str, Any] = {"properties": properties, "required": self._required, "type": "object"}
        if self._is_dataclass:
            found["additionalProperties"] = False
        return _named(self._kind, found, definitions)


class _Tagged(Shape):
    """Objects that one key tells apart."""

    def __init__(self, tag: Tag, kinds: Iterable[Any]) -> None:
        self._key = tag.key
        self._kinds: dict[str, _Object] = {}
        for kind in kinds:
            shape = _object(kind)
            [word] = shape.keys[tag.key].words  # type: ignore[attr-defined]
            self._kinds[word] = shape
        self.expected = f"an object with {tag.key} {', '.join(self._kinds)}"

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        word = value.get(self._key) if isinstance(value, dict) else None
        if not isinstance(word, str) or word not in self._kinds:
            return self._refuse(value, at, problems)
        return self._kinds[word].read(value, at, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"oneOf": [shape.schema(definitions) for shape in self._kinds.values()]}


class _Checked(Shape):
    def __init__(self, shape: Shape, check: Check) -> None:
        self._shape, self._check = shape, check.function
        self.expected = shape.expected

    def read(self, value: Any, at: Location, problems: list[Problem]) -> Any:
        before = len(problems)
        found = self._shape.read(value, at, problems)
        if len(problems) == before:
            try:
                self._check(found)
            except ValueError as error:
                problems.append(Problem(at, f"{shown(value)}: {error}"))
        return found

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return self._shape.schema(definitions)


class _Described(Shape):
    def __init__(self, shape: Shape, keywords: Keywords) -> None:
        self._shape, self._keywords = shape, keywords.keywords
        self.read = shape.read  # type: ignore[method-assign]
        self.expected = shape.expected

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {**self._keywords, **self._shape.schema(definitions)}


def shape_of(hint: Any) -> Shape:
    """The shape of a type; raises TypeError for one that it does not know."""
    limits: dict[type, Any] = {}
    if get_origin(hint) is Annotated:
        hint, *given = get_args(hint)
        limits = {type(limit): limit for limit in given}
    check, keywords = limits.pop(Check, None), limits.pop(Keywords, None)
    shape = _shape(hint, limits)
    if limits:
        raise TypeError(f"{hint} cannot have {', '.join(map(str, limits.values()))}")
    if check is not None:
        shape = _Checked(shape, check)
    return shape if keywords is None else _Described(shape, keywords)


def validate(shape: Shape, value: Any) -> tuple[Any, list[Problem]]:
    """The value as its type says, to be used only if there are no problems."""
    problems: list[Problem] = []
    return shape.read(value, (), problems), problems


def _shape(hint: Any, limits: dict[type, Any]) -> Shape:
    """The shape of a type; takes the limits that it understands out of limits."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return Shape()
    if hint is bool:
        return _Bool()
    if hint in (int, float):
        return _Number(hint, limits.pop(Range, None))
    if hint is str:
        return _String(limits.pop(Length, None), limits.pop(Pattern, None))
    if origin is list:
        return _List(shape_of(inner[0]), limits.pop(Length, None))
    if origin is dict:
        return _Map(shape_of(inner[0]), shape_of(inner[1]), limits.pop(Length, None))
    if origin is Union and Tag in limits:
        return _Tagged(limits.pop(Tag), inner)
    if origin is Union:
        none = type(None)
        return _Either([shape_of(option) for option in inner if option is not none], none in inner)
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        return _Words(hint)
    if dataclasses.is_dataclass(hint) or hasattr(hint, "__required_keys__"):
        return _object(hint)
    raise TypeError(f"no shape for {hint}")


@cache
def _object(kind: Any) -> _Object:
    return _Object(kind)


def _has_no_default(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _fits(value: Any, length: Optional[Length]) -> bool:
    return length is None or length.least <= len(value) <= length.most


def _bounds(length: Optional[Length], of: str) -> dict[str, int]:
    """The keywords of a length, such as maxItems."""
    if length is None:
        return {}
    return {f"max{of}": length.most, **({f"min{of}": length.least} if length.least else {})}


def _named(kind: Any, schema: dict[str, Any], definitions: Definitions) -> dict[str, Any]:
    """A reference to the schema of a class, which is added to the definitions; None: the schema."""
    if kind is None:
        return schema
    description = {"description": inspect.getdoc(kind)} if kind.__doc__ else {}
    definitions[kind.__name__] = {**description, **schema, "title": kind.__name__}
    return {"$ref": f"#/$defs/{kind.__name__}"}
