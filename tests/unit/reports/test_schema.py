# SPDX-License-Identifier: Apache-2.0
"""agent.reports.schema: the types, the schema, the documentation and what is written agree."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]

from agent.cli.outputs import Reports
from agent.model import Cause, Outcome, StepKind
from agent.reports import schema
from agent.reports.objects import stall_object
from agent.reports.types import ReportObject
from agent.serve.history import History
from agent.serve.stallkinds import StallKinds
from agent.serve.status import Status
from agent.shape import shape_of, validate
from tests import contract
from tests.unit.reports.test_objects import CLOCK
from tests.unit.reportsamples import ended, found, objects, ongoing, places, plain_spawn, run, summary
from tests.unit.samples import UNSEEN, spawn, stall, waiting, with_stacks
from tests.unit.serve.test_metrics import FakeSource

_SCHEMA: dict[str, Any] = json.loads(schema.PATH.read_text())

_SAMPLES = {
    "ended": ended(),
    "ongoing": ongoing(),
    "found": found(),
    "found with all": found(child=7, write_fd=4, seconds=2.0, state="ended"),
    "unseen": stall_object(stall(UNSEEN), CLOCK),
    "stacks": stall_object(with_stacks(stall()), CLOCK),
    "spawn": plain_spawn(),
    "run": run("make", "test", with_arguments=True),
    "run on the host": run(),
    "summary": summary(),
}


def _json(value: Any) -> Any:
    """A value as a reader of a report gets it."""
    return json.loads(json.dumps(value))


def test_the_schema_is_up_to_date() -> None:
    assert schema.PATH.read_text() == schema.schema_text(), "run python -m agent.reports.schema"


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(_SCHEMA)


@pytest.mark.parametrize("name", _SAMPLES)
def test_objects_have_the_keys_of_the_schema_and_no_others(name: str) -> None:
    contract.checked(_json(_SAMPLES[name]))


@given(reports=objects)
def test_whatever_replay_accepts_is_valid(reports: list[Any]) -> None:
    for one in reports:
        Draft202012Validator(_SCHEMA).validate(_json(one))


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "over"},
        {"holders": []},
        {"stall_seconds": "1"},
        {"parent": {"pid": 1, "tid": 1}},
        {"type": "other"},
        {"errpipe": {"read_fd": 5, "write_fd": -2}},
    ],
)
def test_invalid_objects(changes: dict[str, Any]) -> None:
    assert not Draft202012Validator(_SCHEMA).is_valid(_json({**ended(), **changes}))


_NO_TIME, _NO_COMM = "expected a time such as 2026-11-24T09:00:00.000000Z", "expected a comm beside the pid"
_VALUES = st.sampled_from(
    [
        *(None, True, -1, 5, 1.5, 1 << 70, -1e11, 1e300, "", "x", "x" * 300, "x" * 70_000, "A b", "ended"),
        *("2026-11-24T09:00:00.000000Z", [], [3], ["x"], {}, {"pid": 1}, {"A b": 1}, {"a_b": -1}),
    ]
)


@given(data=st.data())
def test_validation_and_schema_agree(data: st.DataObject) -> None:
    """On objects with one value of another kind, or without one key."""
    sample = data.draw(st.sampled_from(list(_SAMPLES.values())))
    changed = copy.deepcopy(sample)
    *path, last = data.draw(st.sampled_from([path for path in places(sample) if path]))
    within = changed
    for key in path:
        within = within[key]
    if isinstance(within, dict) and data.draw(st.booleans()):
        del within[last]
    else:
        within[last] = data.draw(_VALUES)
    _, problems = validate(shape_of(ReportObject), _json(changed))
    # A schema does not say which times are valid, nor that a pid needs a comm.
    in_both = [one for one in problems if not one.message.endswith((_NO_TIME, _NO_COMM))]
    assert Draft202012Validator(_SCHEMA).is_valid(_json(changed)) == (not in_both)


def test_tests_fail_at_objects_that_are_not_published() -> None:
    """tests/unit/conftest.py and tests/live/lab.py hold what they get to the schema by it."""
    more: Any = {**run(), "news": 1}
    for wrong in (more, {**ended(), "state": "over"}):
        with pytest.raises(ValidationError):
            contract.checked(_json(wrong))
    reports = Reports([], make_run=lambda: more)
    with pytest.raises(ValidationError):
        reports.begin()


def test_the_answer_of_api_stalls() -> None:
    history = History(5)
    history.add(stall(of=spawn(id=1)))
    source = FakeSource(ongoing=(stall(ended=None, of=waiting(id=3)),))
    status = Status(
        source, history, StallKinds(CLOCK), lambda: (1, 0, 99, 0), CLOCK, lambda: True, "0.26.0"
    ).read()
    contract.checked_status(_json(status))


def test_step_kinds_match_the_pattern_of_what() -> None:
    step = Draft202012Validator({**_SCHEMA, "oneOf": [{"$ref": "#/$defs/StepObject"}]})
    for kind in StepKind:
        step.validate({"seconds": 0.0, "pid": 1, "tid": None, "what": kind})


# -- the documentation --

_UNDOCUMENTED = {"AgentObject", "MapObject", "ProbeObject", "StatusObject"}
"""Of /api/stalls."""


def _documentation(repo_root: Path) -> str:
    return (repo_root / "agent" / "reports" / "JSON.md").read_text()


def _keys_in(text: str) -> set[str]:
    """Keys in quotes or backticks; of a path such as ``holders[].fds`` each part."""
    quoted = re.findall(r"""[`"]([a-z0-9_.\[\]]+)[`"]""", text)
    return {part for path in quoted for part in path.replace("[]", "").split(".")}


def _keys() -> set[str]:
    return {
        key
        for name, one in _SCHEMA["$defs"].items()
        for key in one.get("properties", ())
        if name not in _UNDOCUMENTED
    }


def test_every_key_is_documented(repo_root: Path) -> None:
    assert _keys() - _keys_in(_documentation(repo_root)) == set()


@pytest.mark.parametrize("words", [Cause, Outcome, StepKind])
def test_every_word_is_documented(words: Iterable[str], repo_root: Path) -> None:
    text = _documentation(repo_root)
    assert [word for word in words if f"`{word}`" not in text] == []


def test_every_key_in_the_tables_exists(repo_root: Path) -> None:
    rows = re.findall(r"^\| (`.*?) \|", _documentation(repo_root), re.MULTILINE)
    assert {key for row in rows for key in _keys_in(row)} - _keys() == set()
