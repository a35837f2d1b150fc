# SPDX-License-Identifier: Apache-2.0
"""agent.render.github: workflow commands, read back as GitHub's runner reads them."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from agent.model import Cause
from agent.render.github import workflow_commands
from agent.reports.gate import Gate
from tests.unit.gatesamples import gate, run, stall

_DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
_PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))


class Command(NamedTuple):
    level: str
    properties: dict[str, str]
    message: str


def commands(made: Gate, is_error: bool = True) -> list[Command]:
    """Parse as ActionCommand.TryParseV2 of actions/runner: the first ``::`` ends the properties."""
    parsed = []
    for line in workflow_commands(made, is_error):
        assert line.isprintable()  # one line
        found = re.fullmatch("::([a-z]+)(?: (.*?))?::(.*)", line)
        assert found
        pairs = (pair.split("=", 1) for pair in found[2].split(","))
        parsed.append(
            Command(
                found[1],
                {name: _unescaped(value, _PROPERTY) for name, value in pairs},
                _unescaped(found[3], _DATA),
            )
        )
    return parsed


def _unescaped(text: str, escapes: tuple[tuple[str, str], ...]) -> str:
    for escape, character in escapes:
        text = text.replace(escape, character)
    return text


@pytest.mark.parametrize("comm", ["app", "a,b=c:d", "::error::x", "100%", "%0A", "a%3Ab", "a\nb\r::x"])
def test_names_do_not_break_a_command(comm: str) -> None:
    [command] = commands(gate(run((comm, Cause.FORKED, 2))))
    assert command.level == "error"
    assert command.properties == {"title": f"spawnstall: {comm}: forked"}
    assert command.message.startswith(f"2 exposures of {comm}, cause forked. ")


def test_what_is_tolerated_is_not_annotated() -> None:
    assert commands(gate(stall(Cause.LATE_EXEC, 0.5), run(("app", Cause.LATE_EXEC, 9)))) == []


def test_without_the_gate_all_are_warnings() -> None:
    made = gate(stall(Cause.FORKED, 0.5), run(lost=1, slots_overflowed=3))
    assert [command.level for command in commands(made)] == ["error", "error", "warning"]
    assert [command.level for command in commands(made, is_error=False)] == ["warning"] * 3
    assert "1 lost record" in commands(made)[1].message
    assert "slots_overflowed" in commands(made)[2].message


def test_number_is_limited() -> None:
    made = commands(gate(run(*((f"p{number}", Cause.FORKED, 1) for number in range(12)))))
    assert len(made) == 9
    assert made[-1].message.startswith("4 more kinds")
