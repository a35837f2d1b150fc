# SPDX-License-Identifier: Apache-2.0
"""What the HTML pages share: Jinja2 templates, style and script files, their hashes."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.render.words import count, duration

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["moment", "part", "render", "source_hash"]

_FOLDER = Path(__file__).parent


@functools.cache
def part(name: str) -> str:
    """The text of a file in this folder, such as ``agent_html.css``."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def render(template: str, **values: object) -> str:
    """A page or a part of one, from a template in this folder, such as ``agent_html.html``.

    All values are escaped, unless the template marks them as safe.
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    # Imported for the first page: Jinja2 takes memory, and more time to import than the rest of the agent.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(str(_FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(counted=count, moment=moment, part=part, span=_span)
    return made


def source_hash(text: str) -> str:
    """The source expression that allows an inline style or script in a Content-Security-Policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def moment(rfc3339: str) -> str:
    """A time from a JSON object in readable form, to the second."""
    return f"{rfc3339[:10]} {rfc3339[11:19]} UTC"


def _span(seconds: float) -> str:
    return duration(seconds * 1e9)
