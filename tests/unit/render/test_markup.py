# SPDX-License-Identifier: Apache-2.0
"""agent.render.markup: templates, and what they cost while no page is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.render.markup import render

_RENDER = Path(__file__).parents[3] / "agent" / "render"


@pytest.mark.parametrize("modules", ["agent.serve.web", "agent.cli.main, agent.cli.outputs"])
def test_jinja_is_not_imported_before_a_page_is_asked_for(modules: str) -> None:
    """It takes memory that an agent whose page nobody opens does not need."""
    program = f"import {modules}, sys; sys.exit('jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_all_values_are_escaped() -> None:
    hostile = "</title><script>"
    source = render("page.html", title=hostile, style="", script="")
    assert hostile not in source
    assert "&lt;/title&gt;&lt;script&gt;" in source


def test_only_our_own_files_and_pictures_are_not_escaped() -> None:
    unescaped = {
        line.split("|")[0].strip()
        for template in _RENDER.glob("*.html")
        for line in template.read_text().split("{{")[1:]
        if "| safe" in line.split("}}")[0]
    }
    assert unescaped == {"style", "script", "stall.timeline"}
