# SPDX-License-Identifier: Apache-2.0
"""config/make-manual.py: the man pages and the completions are those of today's options and keys."""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.cli.arguments import agent_parser, trace_parser
from agent.settings.agentfile import Config

_PAGES = ("trace-popen.1", "trace-popen-agent.1", "trace-popen-agent.yaml.5")
_COMPLETIONS = ("trace-popen.bash", "_trace-popen")


def _text(path: Path) -> str:
    """Without the escapes of roff: dashes, fonts."""
    return path.read_text().replace("\\-", "-").replace("\\f", " \\f")


def test_what_is_kept_is_current(repo_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repo_root / "config" / "make-manual.py"), str(tmp_path)]
    variables = {"PYTHONPATH": str(repo_root), "COLUMNS": "40"}
    subprocess.run(command, cwd=repo_root, env={**os.environ, **variables}, check=True)
    kept = repo_root / "config" / "manual"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in kept.iterdir()} == {*_PAGES, *_COMPLETIONS}
    for name in names:
        assert (kept / name).read_text() == (tmp_path / name).read_text(), "make manual writes them anew"


@pytest.mark.parametrize("name", ["trace-popen.1", "trace-popen-agent.1", *_COMPLETIONS])
def test_every_option_is_in_each(name: str, repo_root: Path) -> None:
    text = _text(repo_root / "config" / "manual" / name)
    parsers = {"trace-popen.1": [trace_parser()], "trace-popen-agent.1": [agent_parser()]}
    for parser in parsers.get(name, [trace_parser(), agent_parser()]):
        for action in parser._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert option in text


def test_the_page_of_the_configuration_has_every_key_in_order(repo_root: Path) -> None:
    text = _text(repo_root / "config" / "manual" / "trace-popen-agent.yaml.5")
    keys = [
        f"{section.name}.{key.name}"
        for section in dataclasses.fields(Config)
        for key in dataclasses.fields(getattr(Config(), section.name))
    ]
    assert re.findall(r"^\.B (\w+\.\w+)$", text, re.MULTILINE) == keys
    assert text.count("\nExpected: ") == len(keys)
    assert "Shorter stalls are neither logged nor counted" in text
    assert "Expected: a number from 1 to 3600000. Default: 10\n" in text


@pytest.mark.skipif(
    shutil.which("groff") is None, reason="groff is not installed: make setup-e2e installs it"
)
@pytest.mark.parametrize("name", _PAGES)
def test_man_shows_each_page_without_a_warning(name: str, repo_root: Path) -> None:
    command = ["groff", "-man", "-ww", "-Tascii", "-P-cbou", str(repo_root / "config" / "manual" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "SEE ALSO" in done.stdout


# -- completions --

_SETUP = {
    "bash": "bind 'set bell-style none'; source '{folder}/trace-popen.bash'",
    "zsh": "fpath=('{folder}' $fpath); autoload -U compinit; compinit -u -D",
}
_START = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}


_COMPLETED = {
    "--snap": "--snapshot",
    "--pid 1 --snap": "--pid 1 --snapshot",
    "--replay rep": "--replay report.json",
    "ag": "agent",
    "agent --ch": "agent --check",
    "agent --config rep": "agent --config report.json",
}


@pytest.mark.parametrize("shell", _START)
def test_a_shell_completes(shell: str, repo_root: Path, tmp_path: Path) -> None:
    """Typed with a tab in a terminal of that shell."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: make setup-e2e installs it")
    (tmp_path / "report.json").touch()
    setup = _SETUP[shell].format(folder=repo_root / "config" / "manual")
    with _Terminal(_START[shell], tmp_path) as terminal:
        terminal.type(f"{setup}; trace-popen() {{ echo \"[$*]\"; }}; echo rea''dy\n")
        terminal.read_until("ready")
        for typed, completed in _COMPLETED.items():
            terminal.type(f"trace-popen {typed}\t\n")
            assert terminal.read_until("]").rpartition("[")[2] == f"{completed}]"


class _Terminal:
    """A shell on a terminal of its own, without the user's configuration."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._fd, shell = pty.openpty()
        variables = {"TERM": "dumb", "HOME": str(folder), "PS1": "$ ", "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            command,
            stdin=shell,
            stdout=shell,
            stderr=shell,
            cwd=folder,
            env=variables,
            start_new_session=True,
        )
        os.close(shell)

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_until(self, word: str) -> str:
        """The output up to and including a word."""
        shown, deadline = "", time.monotonic() + 30
        while word not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([self._fd], [], [], 0.1)[0]:
                shown += os.read(self._fd, 4096).decode()
        return shown.partition(word)[0] + word
