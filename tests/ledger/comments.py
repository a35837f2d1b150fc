# SPDX-License-Identifier: Apache-2.0
"""The measures in comments and docstrings, such as 20 ms, which need a source, too.

Other numbers there are values of the code beside them.  Text in double backquotes is an example.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Measure", "measures"]

_MEASURE = re.compile(r"(?<![\w.])\d[\d.,]* ?(?:ns|us|ms|s|seconds|minutes|KiB|MiB|kB|MB|GB|%)(?!\w)")
_EXAMPLE = re.compile(r"``[^`]*``")


class Measure(NamedTuple):
    """A number with its unit, and the comment, on one line, in which it stands."""

    text: str
    comment: str


def measures(path: str, text: str) -> Iterator[Measure]:
    """Return those in a file of Python, C or configuration."""
    if not _MEASURE.search(text):
        return
    for comment in _comments(path, text):
        line = " ".join(_EXAMPLE.sub("", comment).split())
        for found in _MEASURE.findall(line):
            yield Measure(found, line)


def _comments(path: str, text: str) -> Iterator[str]:
    if path.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT or (
                token.type == tokenize.STRING and token.string.lstrip("r").startswith('"""')
            ):
                yield token.string
    elif path.endswith((".c", ".h")):
        yield from (re.sub(r"\n \*", "\n", found) for found in re.findall(r"(?s)/\*.*?\*/", text))
    else:
        yield from re.findall(r"(?m)#.*$", text)
