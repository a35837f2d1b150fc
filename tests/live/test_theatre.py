# SPDX-License-Identifier: Apache-2.0
"""A few random plays (see tests/theatre): no process is named for a time at which it had no copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.model import Cause, Holder, Stall
from tests.theatre.check import check
from tests.theatre.generator import make_play
from tests.theatre.play import parse
from tests.theatre.troupe import Reports, Seen, Troupe
from tests.theatre.truth import Truth

_SEED = 1
_PLAYS = 60
_STAGES = 6
_LONG_NS = 10_000_000_000
"""Longer than a play."""

# Plays with a fault in the past.
_ONCE_WRONG = {
    "the reader's restarted read counted the copies again, when the last was gone": """
        role 0: 10 pipe 0, 30 fork 4, 30 close 0, 30 read 0
        role 4: 30 exec, 31 end
        stranger 15: 25 getfd 0 0, 900 end
        director: 35 stop, 46 kill 15, 90 continue
        """,
    "a copy that was passed on was taken for that of an exiting process": """
        role 0: 10 pipe 0, 30 fork 4, 30 close 0, 30 read 0
        role 2: 20 fork 5, 21 fork 6
        role 4: 30 exec, 31 end
        role 5: 50 end
        role 6: 70 close 0, 72 end
        stranger 15: 25 getfd 0 0, 140 end
        director: 100 stop, 230 continue
        """,
    "a process that had exited before the stall was blamed for a copy that was passed on": """
        role 0: 10 pipe 0, 30 fork 4, 30 close 0, 30 read 0
        role 2: 20 fork 5
        role 4: 30 exec, 31 end
        role 5: 22 end
        stranger 15: 24 getfd 0 0, 49 end
        """,
    "a stall was in progress although nobody had a copy: the reader was frozen": """
        role 0: 10 pipe 0, 30 fork 4, 30 close 0, 30 read 0
        role 2: 20 fork 5
        role 4: 30 exec, 31 end
        role 5: 900 end
        director: 60 freeze, 80 kill 5, 800 thaw
        """,
    "a child was a holder of a pipe that was made during its fork": """
        role 0: 15 pipe 0, 30 fork 4, 30 close 0, 30 read 0
        role 2: 14 slow fork 5
        role 3: 22 fork 6
        role 4: 30 exec, 31 end
        role 5: 40 exec, 41 end
        role 6: 60 end
        """,
}

_Performed = tuple[list[Truth], Reports]


@pytest.fixture(scope="module")
def troupe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troupe]:
    """Load the probes once."""
    with Troupe(tmp_path_factory.mktemp("theatre"), _STAGES) as troupe:
        yield troupe


@pytest.fixture(scope="module")
def performed(troupe: Troupe) -> _Performed:
    """The truth and the reports of random plays."""
    return troupe.perform([make_play(_SEED, number) for number in range(_PLAYS)])


def test_random_plays(performed: _Performed) -> None:
    result = check(*performed)
    assert not result.faults, result.faults
    assert result.counts["stalls ended"] > _PLAYS / 6, result.counts


def test_plays_with_a_fault_in_the_past(troupe: Troupe) -> None:
    plays = [parse(text) for text in _ONCE_WRONG.values()]
    for number, play in enumerate(plays):
        play.number = number
    result = check(*troupe.perform(plays))
    assert not result.faults, result.faults


# -- the comparison itself: a report that is changed in one way has a fault --


def _first(**changes: Any) -> Callable[[Stall], Stall]:
    """Change the first holder."""
    return lambda stall: dataclasses.replace(
        stall, holders=(stall.culprit._replace(**changes), *stall.holders[1:])
    )


def _released_later(stall: Stall) -> Stall:
    return _first(released=(stall.culprit.released or 0) + _LONG_NS)(stall)


def _released_earlier(stall: Stall) -> Stall:
    return _first(released=stall.spawn.created - _LONG_NS)(stall)


def _exits_later(stall: Stall) -> Stall:
    return _first(released=None, released_by=None, seen=None, exiting=(stall.ended or 0) + _LONG_NS)(stall)


def _blamed_longer(stall: Stall) -> Stall:
    return dataclasses.replace(stall, ended=(stall.ended or 0) + _LONG_NS)


def _also_by_the_parent(stall: Stall) -> Stall:
    other = Holder(stall.spawn.pid, b"x", (), Cause.FORKED, None, stall.ended)
    return dataclasses.replace(stall, holders=(*stall.holders, other))


def _is_certain(stall: Stall) -> bool:
    """Whether its first holder is known, and for certain."""
    return stall.ended is not None and stall.culprit.released is not None and not stall.spawn.copy_lost


_CHANGES: dict[str, Callable[[Stall], Stall]] = {
    "released later": _released_later,
    "released before it had a copy": _released_earlier,
    "exits later": _exits_later,
    "blamed longer": _blamed_longer,
    "never had a copy": _also_by_the_parent,
    "another cause": lambda stall: _first(
        # Of the others, two can be right at a time: a copy can be released while its process calls exec.
        cause=Cause.OWN_DESCENDANT if stall.culprit.cause is not Cause.OWN_DESCENDANT else Cause.FORKED
    )(stall),
    "forked later": lambda stall: _first(acquired=stall.spawn.created + _LONG_NS)(stall),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_a_wrong_report_has_a_fault(change: Callable[[Stall], Stall], performed: _Performed) -> None:
    truths, reports = performed
    right = [seen for seen in reports.stalls if _is_certain(seen.stall)]
    assert right
    for seen in right:
        wrong = dataclasses.replace(reports, stalls=[Seen(change(seen.stall), seen.turn)])
        assert any(
            str(seen.stall.culprit.pid) in fault or "parent" in fault for fault in _faults(truths, wrong)
        )


def test_a_missing_stall_is_a_fault(performed: _Performed) -> None:
    truths, reports = performed
    missing = check(truths, dataclasses.replace(reports, stalls=[]))
    assert missing.counts["certain stalls"] > 0
    assert sum(len(faults) for faults in missing.faults.values()) == missing.counts["certain stalls"]


def _faults(truths: list[Truth], reports: Reports) -> list[str]:
    return [fault for faults in check(truths, reports).faults.values() for fault in faults]
