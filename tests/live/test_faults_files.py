# SPDX-License-Identifier: Apache-2.0
"""Outputs on a full disk: one line that names the file, status 2, and no partial file that looks complete."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.live.lab import Lab, json_lines

_NO_SPACE = "No space left on device"
_NOT_ALL = f"{_NO_SPACE}: the reports in it are incomplete"
_NOT_WRITTEN = f"{_NO_SPACE}: the reports cannot be written"
_MESSAGES = {"-o": _NOT_ALL, "--report": _NOT_ALL, "--html": _NOT_WRITTEN, "--trace": _NOT_WRITTEN}
# A separate disk in a mount namespace; its files are copied before it disappears.
_ON_A_DISK = 'mount -t tmpfs -o size=$1 none "$2" && shift 3 && "$@"; status=$?; cp {0}/* {1}; exit $status'


def _run(lab: Lab, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=lab.root, capture_output=True, text=True, check=False, timeout=120)


def _run_on_a_disk(lab: Lab, size: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run trace-popen where lab.folder/small is a disk of that size; return a copy of small/file too."""
    small, kept = lab.folder / "small", lab.folder / "kept"
    small.mkdir()
    kept.mkdir()
    script = _ON_A_DISK.format(small, kept)
    done = _run(
        lab,
        ["unshare", "-m", "sh", "-c", script, "sh", size, str(small), "--", *lab.trace_popen, *arguments],
    )
    return done, kept / "file"


def _many(lab: Lab) -> list[str]:
    """Return a command that prints little and causes many reports."""
    many = " ".join(lab.program("many_popen.py", "--count", "200"))
    return ["/bin/sh", "-c", f"{many} >/dev/null; echo done"]


@pytest.mark.parametrize("option", _MESSAGES)
def test_full_device(lab: Lab, option: str) -> None:
    """The command runs to its end nevertheless."""
    done = _run(lab, [*lab.trace_popen, "--all", option, "/dev/full", "--", *_many(lab)])
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: /dev/full: {_MESSAGES[option]}\n"
    assert "done\n" in done.stdout


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_full_standard_output(lab: Lab, options: list[str]) -> None:
    command = [*lab.trace_popen, *options, "--all", "--", *_many(lab)]
    done = _run(lab, ["/bin/sh", "-c", 'exec "$@" >/dev/full', "sh", *command[:-1], "true"])
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: <stdout>: {_NOT_ALL}\n"


@pytest.mark.parametrize(("option", "size"), [("--report", "64k"), ("--html", "8k"), ("--trace", "64k")])
def test_disk_that_fills_up(lab: Lab, option: str, size: str) -> None:
    path = str(lab.folder / "small" / "file")
    done, file = _run_on_a_disk(lab, size, "--all", option, path, "--", *_many(lab))
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: {path}: {_MESSAGES[option]}\n"
    if option != "--report":
        assert file.read_bytes() == b""  # a partial page would look complete
        return
    assert file.stat().st_size == 65536
    replayed = _run(lab, [*lab.trace_popen, "--json", "--replay", str(file)])
    assert replayed.returncode == 0
    assert "the last line" in replayed.stderr
    whole = file.read_text().count("\n")
    assert len(json_lines(replayed.stdout)) == whole > 10


@pytest.mark.parametrize("option", ["--html", "--trace"])
def test_replay_to_a_full_disk(lab: Lab, option: str) -> None:
    lab.trace(lab.program("many_popen.py", "--count", "50"))
    path = str(lab.folder / "small" / "file")
    done, file = _run_on_a_disk(lab, "4k", "--replay", str(lab.folder / "reports.json"), option, path)
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: {path}: {_NOT_WRITTEN}\n"
    assert file.read_bytes() == b""
