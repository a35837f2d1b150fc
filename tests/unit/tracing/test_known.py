# SPDX-License-Identifier: Apache-2.0
"""agent.tracing.known: identities are looked up once, for processes that run and for those that are gone."""

from __future__ import annotations

from typing import Optional

import pytest

from agent.model import Identity
from agent.tracing import known
from agent.tracing.known import Known, KnownSpawns

_PID = 4242
_WEB = Identity("/usr/bin/web", 0, None)


@pytest.fixture()
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times for which the pid was looked up; its process has exited."""
    found: list[int] = []

    def identify(_pid: int, seen: int) -> Optional[Identity]:
        found.append(seen)
        return None

    monkeypatch.setattr(known, "identify", identify)
    return found


def test_a_process_that_is_gone_is_looked_up_once(looked_up: list[int]) -> None:
    spawns = KnownSpawns(10)
    for seen in (2000, 1500, 2000):
        assert spawns.who(Known(), _PID, seen) is None
    assert looked_up == [2000]


def test_a_process_that_got_the_pid_later_is_looked_up(
    looked_up: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spawns = KnownSpawns(10)
    assert spawns.who(Known(), _PID, 2000) is None
    monkeypatch.setattr(known, "identify", lambda *_: _WEB)
    assert spawns.who(Known(), _PID, 2000) is None
    assert spawns.who(Known(), _PID, 2001) == _WEB
    assert looked_up == [2000]


def test_a_running_process_is_looked_up_again_for_a_time_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have had the pid then."""
    spawns = KnownSpawns(10)
    monkeypatch.setattr(known, "identify", lambda *_: _WEB)
    assert spawns.who(Known(), _PID, 2000) == _WEB
    monkeypatch.setattr(known, "identify", lambda *_: None)
    assert spawns.who(Known(), _PID, 3000) == _WEB
    assert spawns.who(Known(), _PID, 1000) is None


def test_the_identities_are_bounded(looked_up: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_REMEMBERED_PROCESSES", 2)
    spawns = KnownSpawns(10)
    for pid in (1, 2, 3, 1):
        spawns.who(Known(), pid, 2000)
    assert len(looked_up) == 4
