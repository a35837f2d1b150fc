"""A holder is blamed for as long as it had a copy: the rest is the guilty one's, or unknown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.lab import TOLERANCE_SECONDS, Object
from tests.live.sidebyside import SideBySide, play

_ALL_SECONDS = 2.8
_SLACK_SECONDS = 5 * TOLERANCE_SECONDS
_OWN_SECONDS = {"briefly": 0.6, "until-it-is-told": 1.6}
"""How long the innocent one holds. A stall in progress is told from one second on."""

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
    """One trace of all of them."""
    program = compiled("blame")
    cases = {name: [program, how, str(own), str(_ALL_SECONDS)] for name, (how, own) in _CASES.items()}
    return play(repo_root, tmp_path_factory.mktemp("blame"), cases, _AT_ONCE)


def _spawn(played: SideBySide, name: str) -> Object:
    """What really was; the program played what its name says."""
    assert played.case(name)["status"] == 0
    [spawn] = played.said(name)
    assert spawn["own_seconds"] < _CASES[name][1] + _SLACK_SECONDS < _ALL_SECONDS < spawn["seconds"] + 0.1
    return spawn


def _blamed_seconds(stall: Object) -> float:
    """How much of the wait is said to be the first holder's.

    Today that is all of it. Where a report tells the late wake-up apart, its seconds are to be taken
    off here.
    """
    return float(stall["stall_seconds"])


@pytest.mark.parametrize("name", _CASES)
def test_innocent_holder_gets_its_own_time(played: SideBySide, name: str) -> None:
    """In progress and at the end: it is the first holder only if no more than that is said."""
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
def test_guilty_one_or_unknown_gets_the_rest(played: SideBySide, name: str) -> None:
    """The whole wait is told, once; a copy in flight has no process."""
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
def test_stopped_reader_is_nobodys_stall(played: SideBySide, name: str) -> None:
    """The innocent one is told, for what it did; nobody is blamed after its release."""
    spawn = _spawn(played, name)
    [ended] = [stall for stall in played.of(name, "stall") if stall["state"] == "ended"]
    assert spawn["innocent"] in [holder["pid"] for holder in ended["holders"]]
    assert spawn["guilty"] not in [holder["pid"] for holder in ended["holders"]]
    assert ended["holders"][0]["pid"] in (spawn["innocent"], None)


def test_nothing_else_is_told(played: SideBySide) -> None:
    assert played.of_nobody("stall") == []
    known = {spawn["child"] for spawn in played.traced.spawns()}
    assert {stall["child"]["pid"] for stall in played.traced.of("stall")} <= known
    assert played.traced.summary["lost_records"] == 0
