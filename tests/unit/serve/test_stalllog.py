# SPDX-License-Identifier: Apache-2.0
"""agent.serve.stalllog: the limit of lines per minute, and the count of the rest."""

from __future__ import annotations

import time

import pytest

from agent.serve.stalllog import StallLog


def test_lines_beyond_the_limit_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    left_out: list[int] = []
    log = StallLog(2, lambda: left_out.append(1))
    for number in range(5):
        log.add({"line": number}.copy)
    assert capsys.readouterr().err == '{"line": 0}\n{"line": 1}\n'
    assert len(left_out) == 3
    now += 59
    log.poll()
    assert not caplog.records
    now += 1
    log.poll()
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("3 more stalls")
    assert message.endswith("log.stalls_per_minute is 2")
    log.add({"line": 5}.copy)
    assert capsys.readouterr().err == '{"line": 5}\n'
    log.close()
    assert len(caplog.records) == 1


def test_closing_logs_the_count_once(caplog: pytest.LogCaptureFixture) -> None:
    log = StallLog(1, lambda: None)
    log.add({"line": 1}.copy)
    log.add({"line": 2}.copy)
    log.close()
    log.close()
    assert len(caplog.records) == 1
