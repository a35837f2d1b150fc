# SPDX-License-Identifier: Apache-2.0
"""Building blocks that the HTML pages share: style and script files, their hashes, small pieces of HTML."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["moment", "part", "source_hash", "table"]


@functools.cache
def part(name: str) -> str:
    """The text of a file in this folder, such as ``agent_html.css``."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def source_hash(text: str) -> str:
    """The source expression that allows an inline style or script in a Content-Security-Policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of keys and values, both already HTML."""
    return "<table>" + "".join(f"<tr><td>{key}</td><td>{value}</td></tr>" for key, value in rows) + "</table>"


def moment(rfc3339: str) -> str:
    """A time from a JSON object in readable form, to the second."""
    return f"{rfc3339[:10]} {rfc3339[11:19]} UTC"
