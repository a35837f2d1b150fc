# SPDX-License-Identifier: Apache-2.0
"""A holder is blamed only for the time it had a copy: the rest is the other holder's, or unknown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.lab import TOLERANCE_SECONDS, Object
from tests.live.sidebyside import SideBySide, play

_ALL_SECONDS = 2.8
_SLACK_SECONDS = 5 * TOLERANCE_SECONDS
_OWN_SECONDS = {"briefly": 0.6, "until-it-is-reported": 1.6}
"""How long the innocent holder has its copy. A stall in progress is reported after one second."""

_TAKES = (
    "reopen",
    "getfd",
    "socket",
    "in-flight",
    "late-reopen",
    "late-getfd",
    "late-socket",
    "late-in-flight",
)
_HOW = (*_TAKES, "int80", "stop")
_CASES = {
    f"{how}-{own}": (how, seconds) for how, (own, seconds) in itertools.product(_HOW, _OWN_SECONDS.items())
}
_AT_ONCE = 10


@pytest.fixture(scope="module")
def played(
    repo_root: Path, tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., str]
) -> SideBySide:
    """Trace all cases at once."""
    program = compiled("blame")
    cases = {name: [program, how, str(own), str(_ALL_SECONDS)] for name, (how, own) in _CASES.items()}
    return play(repo_root, tmp_path_factory.mktemp("blame"), cases, _AT_ONCE)


def _spawn(played: SideBySide, name: str) -> Object:
    """Return the facts as the program printed them."""
    assert played.case(name)["status"] == 0
    [spawn] = played.printed(name)
    assert spawn["own_seconds"] < _CASES[name][1] + _SLACK_SECONDS < _ALL_SECONDS < spawn["seconds"] + 0.1
    return spawn


def _blamed_seconds(stall: Object) -> float:
    """Return the seconds of the wait that the report attributes to its first holder.

    The report attributes all of it. Subtract the late wake-up here once a report separates it.
    """
    return float(stall["stall_seconds"])


@pytest.mark.parametrize("name", _CASES)
def test_innocent_holder_is_blamed_for_its_own_time_only(played: SideBySide, name: str) -> None:
    """In progress and at the end: it is the first holder only if no more is attributed to it."""
    spawn = _spawn(played, name)
    for stall in played.of(name, "stall"):
        first = stall["holders"][0]
        if first["pid"] == spawn["innocent"]:
            assert _blamed_seconds(stall) <= spawn["own_seconds"] + _SLACK_SECONDS
        for holder in stall["holders"]:
            if holder["pid"] == spawn["innocent"] and holder["released_seconds"] is not None:
                kept = holder["released_seconds"] - stall["began_seconds"]
                assert kept <= spawn["own_seconds"] + _SLACK_SECONDS


@pytest.mark.parametrize("name", [name for name in _CASES if not name.startswith("stop")])
def test_rest_is_the_guilty_holders_or_unknown(played: SideBySide, name: str) -> None:
    """The whole wait is reported once; a copy in flight has no process."""
    spawn = _spawn(played, name)
    [ended] = [stall for stall in played.of(name, "stall") if stall["state"] == "ended"]
    assert ended["stall_seconds"] == pytest.approx(spawn["seconds"], abs=_SLACK_SECONDS)
    first = ended["holders"][0]
    assert (first["pid"], first["cause"]) in (
        (spawn["guilty"], "passed"),
        (None, "unknown"),
        (None, "passed"),
    )
    assert ended["parent"]["pid"] == spawn["pid"]
    assert ended["child"]["pid"] == spawn["child"]


@pytest.mark.parametrize("name", [name for name in _CASES if name.startswith("stop")])
def test_time_of_a_stopped_reader_is_no_stall(played: SideBySide, name: str) -> None:
    """The innocent holder is reported for its own time; no process is blamed after its release."""
    spawn = _spawn(played, name)
    [ended] = [stall for stall in played.of(name, "stall") if stall["state"] == "ended"]
    assert spawn["innocent"] in [holder["pid"] for holder in ended["holders"]]
    assert spawn["guilty"] not in [holder["pid"] for holder in ended["holders"]]
    assert ended["holders"][0]["pid"] in (spawn["innocent"], None)


def test_nothing_else_is_reported(played: SideBySide) -> None:
    assert played.of_no_case("stall") == []
    known = {spawn["child"] for spawn in played.traced.spawns()}
    assert {stall["child"]["pid"] for stall in played.traced.of("stall")} <= known
    assert played.traced.summary["lost_records"] == 0
