# SPDX-License-Identifier: Apache-2.0
"""agent.shape: what each type accepts, and the message for everything else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal, Optional, TypedDict, Union

import pytest

from agent.shape import Check, Length, Pattern, Range, Tag, shape_of, validate


class Color(str, Enum):
    RED = "red"
    BLUE = "blue"


def _is_even(number: int) -> None:
    if number % 2:
        raise ValueError("expected an even number")


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 7
    tags: list[str] = field(default_factory=list)


class Later(TypedDict, total=False):
    z: int


class Cat(Later):
    type: Literal["cat"]
    name: Annotated[str, Length(3)]


class Dog(TypedDict):
    type: Literal["dog"]


ANIMAL = Annotated[Union[Cat, Dog], Tag("type")]
CAT = {"type": "cat", "name": "Tom"}


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (Any, {"a": [1]}, {"a": [1]}),
        (bool, False, False),
        (int, 1 << 80, 1 << 80),
        (Annotated[int, Range(1, 3)], 3, 3),
        (float, 1.5, 1.5),
        (str, "", ""),
        (Annotated[str, Length(3, least=1)], "abc", "abc"),
        (Annotated[str, Pattern("[a-z]+")], "abc", "abc"),
        (Literal["a", "b"], "b", "b"),
        (Color, "blue", Color.BLUE),
        (Optional[int], None, None),
        (Optional[int], 5, 5),
        (Union[Color, Literal["green"], None], "green", "green"),
        (Union[Color, Literal["green"], None], "red", Color.RED),
        (list[int], [1, 2], [1, 2]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Point, {"x": 1}, Point(1)),
        (Point, {"x": 1, "y": 2, "tags": ["t"]}, Point(1, 2, ["t"])),
        (ANIMAL, {**CAT, "later": None}, {**CAT, "later": None}),
        (Annotated[int, Check(_is_even)], 4, 4),
    ],
)
def test_values_that_fit(hint: Any, value: Any, expected: Any) -> None:
    found, problems = validate(shape_of(hint), value)
    assert problems == []
    assert (type(found), found) == (type(expected), expected)


def test_an_integer_is_a_number() -> None:
    found, problems = validate(shape_of(float), 2)
    assert (type(found), found, problems) == (float, 2.0, [])


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (bool, 0, "0: expected true or false"),
        (int, True, "True: expected an integer"),
        (int, "5", "'5': expected an integer"),
        (int, 5.0, "5.0: expected an integer"),
        (Annotated[int, Range(1, 3)], 4, "4: expected an integer from 1 to 3"),
        (float, True, "True: expected a number"),
        (float, math.nan, "nan: expected a number"),
        (float, -math.inf, "-inf: expected a number"),
        (float, 10**400, "1" + "0" * 56 + "...: expected a number"),
        (str, b"x", "b'x': expected a string"),
        (str, None, "None: expected a string"),
        (Annotated[str, Length(3, least=1)], "", "'': expected a string of 1 to 3 characters"),
        (Annotated[str, Length(3)], "abcd", "'abcd': expected a string of at most 3 characters"),
        (Annotated[str, Pattern("[a-z]+")], "abc\n", "'abc\\n': expected a string that matches [a-z]+"),
        (Literal["a", "b"], "c", "'c': expected 'a' or 'b'"),
        (Literal["a"], ["a"], "['a']: expected 'a'"),
        (Color, "green", "'green': expected 'red' or 'blue'"),
        (Optional[int], "x", "'x': expected an integer"),
        (Union[Color, Literal["green"]], 5, "5: expected 'green'"),
        (list[int], (1,), "(1,): expected a list"),
        (list[int], [1, "2"], "1: '2': expected an integer"),
        (Annotated[list[int], Length(2, least=1)], [], "[]: expected a list of 1 to 2 items"),
        (dict[str, int], [], "[]: expected keys and values"),
        (dict[str, int], {5: 1}, "5: 5: expected a string"),
        (dict[str, int], {"a": "b"}, "a: 'b': expected an integer"),
        (
            Annotated[dict[str, int], Length(0)],
            {"a": 1},
            "{'a': 1}: expected keys and values, at most 0 of them",
        ),
        (Point, 5, "5: expected keys: x, y, tags"),
        (Point, {}, "x: missing: expected an integer"),
        (Point, {"x": 1, "tag": 2}, "tag: unknown key; did you mean 'tags'?"),
        (Point, {"x": 1, 5: 2}, "5: unknown key; expected one of x, y, tags"),
        (ANIMAL, {"type": "cow"}, "{'type': 'cow'}: expected an object with type cat, dog"),
        (ANIMAL, {"type": ["cat"]}, "{'type': ['cat']}: expected an object with type cat, dog"),
        (ANIMAL, [], "[]: expected an object with type cat, dog"),
        (ANIMAL, {"type": "cat"}, "name: missing: expected a string of at most 3 characters"),
        (ANIMAL, {**CAT, "z": "x"}, "z: 'x': expected an integer"),
        (Annotated[int, Check(_is_even)], 3, "3: expected an even number"),
        (Annotated[int, Check(_is_even)], "3", "'3': expected an integer"),
    ],
)
def test_values_that_do_not_fit(hint: Any, value: Any, message: str) -> None:
    _, problems = validate(shape_of(hint), value)
    assert list(map(str, problems)) == [message]


def test_all_problems_are_found() -> None:
    _, problems = validate(shape_of(list[Point]), [{"x": "a"}, {}, {"y": 1, "z": 2}])
    assert [one.at for one in problems] == [(0, "x"), (1, "x"), (2, "x"), (2, "z")]


@pytest.mark.parametrize(
    "hint",
    [
        bytes,
        Union[int, str],
        tuple[int],
        Annotated[int, Length(3)],
        list[set[int]],
        Annotated[str, Range(1, 2)],
    ],
)
def test_types_without_a_shape(hint: Any) -> None:
    with pytest.raises(TypeError):
        shape_of(hint)
