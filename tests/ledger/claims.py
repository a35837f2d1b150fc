# SPDX-License-Identifier: Apache-2.0
"""The numbers in a document that need a source.

These need none, because they are not our claims:

* indented and fenced blocks: the output of examples (tests/examples generates it), the commands and outputs
  of runbooks (tests/live/test_runbooks.py), and commands (tests/unit/project/test_names.py: their names);
* tables from recorded results (tests/unit/project/test_results.py compares them);
* text in backquotes, targets of links, dates, and the numbers of a list.

A number is written in digits, as versions are, or is a measure in words: a time ("five minutes"), a share
("a fifth of a core"), a bound ("at most four"), a factor ("ten times"), or a round number ("a thousand").
Other words need no source: "two ways:" counts what follows it, "thousands of spawns" only says many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.bench.results import BLOCK

__all__ = ["Number", "passages", "unaccounted"]

_NO_CLAIMS = re.compile(
    "|".join(
        (
            r"``?[^`]+``?",  # in backquotes
            r"\]\([^)]*\)|https?://\S+",  # targets of links
            r"\b\d{4}-\d\d-\d\d\b",  # dates
            r"^\d+\. ",  # the number of an item
        )
    )
)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:[num]?s|[mhd]|[KMG]i?B)?(?!\w)")
_COUNT = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty"
_IN_WORDS = re.compile(
    "|".join(
        rf"\b(?i:{words})\b"
        for words in (
            rf"(?:half )?(?:an?|one|{_COUNT}) (?:milliseconds?|minutes?|hours?|days?|weeks?|bytes?)",
            rf"(?:half a|one|{_COUNT}) (?:seconds?|cores?)",
            "(?:about|for|lasted|lasts|of|once|than|within) a second",  # "a second run" is not a time
            "(?:last|each|every) (?:second|minute|hour|day)",
            "half of|(?:about|at least|at most|more than|less than) half",
            "a (?:quarter|third|fifth|tenth|twentieth|hundredth|thousandth)",
            rf"(?:at most|at least|up to|more than|less than|fewer than|about|the latest) (?:{_COUNT})",
            rf"(?:{_COUNT}) times|twice (?:as|the)",
            rf"(?:an?|one|{_COUNT}) (?:dozen|hundred|thousand|million|billion)",
        )
    )
)
_FENCED = re.compile(r"(?ms)^```.*?^```$")
_ITEM = re.compile(r"\n(?=\s*(?:[*|]|\d+\. ))")


class Number(NamedTuple):
    """A number, and the paragraph, list item or row in which it stands."""

    number: str
    passage: str


def passages(text: str) -> Iterator[str]:
    """Return each paragraph, list item and row of a document on one line.

    Blocks and generated tables are left out.
    """
    for paragraph in re.split(r"\n\s*\n", _FENCED.sub("", BLOCK.sub("", text))):
        lines = [line for line in paragraph.split("\n") if not line.startswith("    ")]
        for passage in _ITEM.split("\n".join(lines)):
            yield " ".join(passage.split())


def unaccounted(text: str, sentences: Iterable[str]) -> Iterator[Number]:
    """Return the numbers of a document that lie in none of these sentences, or parts of sentences."""
    known = [re.compile(rf"(?<![\w.,]){re.escape(sentence)}(?!\w)") for sentence in sentences]
    for passage in passages(text):
        rest = passage
        for pattern in known:
            for found in pattern.finditer(passage):  # they may overlap
                rest = rest[: found.start()] + " " * len(found[0]) + rest[found.end() :]
        rest = _NO_CLAIMS.sub(" ", rest)
        for number in (*_NUMBER.findall(rest), *_IN_WORDS.findall(rest)):
            yield Number(number, passage)
