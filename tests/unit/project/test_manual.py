# SPDX-License-Identifier: Apache-2.0
"""config/make-manual.py: the man page and the completions that are kept are those of today's arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.cli.arguments import trace_parser


def test_what_is_kept_is_current(repo_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repo_root / "config" / "make-manual.py"), str(tmp_path)]
    subprocess.run(command, cwd=repo_root, check=True)
    kept = repo_root / "config" / "manual"
    names = {path.name for path in tmp_path.iterdir()}
    assert (
        names
        == {path.name for path in kept.iterdir()}
        == {"trace-popen.1", "trace-popen.bash", "_trace-popen"}
    )
    for name in names:
        assert (kept / name).read_text() == (tmp_path / name).read_text(), "make manual writes them anew"


def test_every_option_is_in_each(repo_root: Path) -> None:
    for path in (repo_root / "config" / "manual").iterdir():
        text = path.read_text().replace("\\-", "-").replace("\\f", " \\f")  # roff: dashes, fonts
        for action in trace_parser()._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert option in text, path.name


def test_bash_completes(repo_root: Path) -> None:
    script = repo_root / "config" / "manual" / "trace-popen.bash"
    code = (
        f"source {script}; COMP_WORDS=(trace-popen --fail); COMP_CWORD=1;"
        ' _shtab_trace_popen; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--fail-on-stall"]
