"""agent.serve.stalllog: so many lines a minute, and the truth about the rest."""

from __future__ import annotations

import time

import pytest

from agent.serve.stalllog import StallLog


def test_so_many_a_minute_and_the_rest_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    left_out: list[int] = []
    log = StallLog(2, lambda: left_out.append(1))
    for number in range(5):
        log.add(f"line {number}")
    assert capsys.readouterr().err == "line 0\nline 1\n"
    assert len(left_out) == 3
    now += 59
    log.poll()
    assert not caplog.records
    now += 1
    log.poll()
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == "3 more stalls of the last minute are only in the metrics: log.stalls_per_minute is 2"
    log.add("line 5")
    assert capsys.readouterr().err == "line 5\n"
    log.close()
    assert len(caplog.records) == 1


def test_the_rest_is_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    log = StallLog(1, lambda: None)
    log.add("one")
    log.add("two")
    log.close()
    log.close()
    assert len(caplog.records) == 1
