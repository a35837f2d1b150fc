# SPDX-License-Identifier: Apache-2.0
"""agent.settings.yamlfile: files that other users can change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.settings import agentfile, webfile


@pytest.fixture(params=["agent.yaml", "web.yml"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A configuration file in a folder that needs quotes in a shell."""
    path = tmp_path / "a folder" / str(request.param)
    path.parent.mkdir()
    path.write_text("{}")
    return path


def _warnings(file: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    load = agentfile.load if file.name == "agent.yaml" else webfile.load
    load(file)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755])
def test_no_warning_if_only_the_owner_can_write(
    mode: int, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.chmod(mode)
    assert _warnings(file, caplog) == []


@pytest.mark.parametrize("mode", [0o620, 0o664, 0o602, 0o666])
def test_a_file_that_a_group_or_all_can_write(
    mode: int, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.chmod(mode)
    (line,) = _warnings(file, caplog)
    assert line.startswith(f"{file}: ")
    assert f"mode {mode:04o} " in line
    assert line.endswith(f"; run: chmod go-w '{file}'")


def test_a_file_of_another_user(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65532)
    if os.getuid() == 0:  # root's files are trusted whoever runs the agent
        assert _warnings(file, caplog) == []
        os.chown(file, 1000, -1)
    (line,) = _warnings(file, caplog)
    assert f"uid {file.stat().st_uid};" in line
    assert line.endswith(f"; run: chown root '{file}'")


def test_a_symbolic_link_is_judged_by_its_target(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.chmod(0o666)
    link = file.parent.parent / file.name
    link.symlink_to(file)
    assert len(_warnings(link, caplog)) == 1


def test_a_pipe_has_no_other_writers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in --config <(...); the mode of a terminal has the bit of its group."""
    read, write = os.pipe()
    os.fchmod(write, 0o622)
    os.write(write, b"{}")
    os.close(write)
    try:
        agentfile.load(Path(f"/dev/fd/{read}"))
    finally:
        os.close(read)
    assert caplog.records == []
