# SPDX-License-Identifier: Apache-2.0
"""agent.serve.daemon: reloads; tests/live/test_agent.py runs the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from agent.serve import daemon
from agent.settings import agentfile
from agent.settings.agentfile import Config, ConfigError


class _Agent:
    """Stands for daemon._Agent, and for its metrics."""

    def __init__(self, failure: Optional[Exception] = None) -> None:
        self._failure = failure
        self.metrics = self
        self.configured: list[Config] = []
        self.reloaded: list[bool] = []

    def configure(self, config: Config) -> None:
        if self._failure is not None:
            raise self._failure
        self.configured.append(config)

    def set_reloaded(self, success: bool) -> None:
        self.reloaded.append(success)


def test_a_valid_configuration_is_applied(caplog: pytest.LogCaptureFixture) -> None:
    agent = _Agent()
    with caplog.at_level("INFO"):
        daemon._reload(agent, Config)  # type: ignore[arg-type]
    assert (agent.configured, agent.reloaded) == ([Config()], [True])
    assert "the configuration was reloaded" in caplog.text


@pytest.mark.parametrize(
    "failure",
    [
        ConfigError("a: b: expected c"),
        TypeError("issubclass() arg 1 must be a class"),
        RecursionError("x\ny"),
    ],
)
@pytest.mark.parametrize("in_reading", [True, False])
def test_whatever_goes_wrong_the_running_configuration_stays(
    failure: Exception, in_reading: bool, caplog: pytest.LogCaptureFixture
) -> None:
    agent = _Agent(None if in_reading else failure)

    def reread() -> Config:
        if in_reading:
            raise failure
        return Config()

    daemon._reload(agent, reread)  # type: ignore[arg-type]
    assert (agent.configured, agent.reloaded) == ([], [False])
    [record] = caplog.records
    assert "the running one stays: " in record.message
    assert "\n" not in record.message


def test_a_typo_in_a_rule_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("labels: {rules: [{match: x, nam: y, name: z}]}")
    daemon._reload(_Agent(), lambda: agentfile.load(file))  # type: ignore[arg-type]
    [record] = caplog.records
    assert f"{file}: labels.rules.0.nam: unknown key; did you mean 'name'?" in record.message
