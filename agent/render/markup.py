"""What all of our HTML pages are made of: the files beside the code, their hashes, small pieces of text."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["moment", "part", "source_hash", "table"]


@functools.cache
def part(name: str) -> str:
    """A file beside this one, such as ``agent_html.css``."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def source_hash(text: str) -> str:
    """An inline style or script as a Content-Security-Policy names it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Keys and values, both HTML already."""
    return "<table>" + "".join(f"<tr><td>{key}</td><td>{value}</td></tr>" for key, value in rows) + "</table>"


def moment(rfc3339: str) -> str:
    """A time of a JSON object for a person, to the second."""
    return f"{rfc3339[:10]} {rfc3339[11:19]} UTC"
