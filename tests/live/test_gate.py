# SPDX-License-Identifier: Apache-2.0
"""trace-popen --fail-on-stall on the real kernel: it passes healthy programs, always, and no others."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from tests.live.lab import Lab

pytestmark = pytest.mark.alone

_RUNS = int(os.environ.get("GATE_RUNS", "6"))


@pytest.fixture
def busy() -> Iterator[None]:
    """Keep each CPU busy with twice as many processes."""
    with contextlib.ExitStack() as stack:
        for _ in range(2 * (os.cpu_count() or 1)):
            burner = subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"])
            stack.callback(burner.wait)
            stack.callback(burner.kill)
        yield


def _run(lab: Lab, command: list[str], *options: str) -> tuple[int, list[str]]:
    """Return the exit status, and the lines on standard error."""
    done = subprocess.run(
        [*lab.trace_popen, "--fail-on-stall", "-o", str(lab.folder / "report"), *options, "--", *command],
        cwd=lab.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def _forced(lab: Lab) -> list[str]:
    return lab.program("fork_beside_popen.py", "--force", "1", "--live", "0.3", "--plain", "0")


@pytest.mark.usefixtures("busy")
def test_busy_threads_that_start_programs_pass(lab: Lab) -> None:
    """By vfork, and by a fork after which the child closes the copies itself."""
    for number in range(_RUNS):
        way = ["--fork"] if number % 2 else []
        command = lab.program("many_popen.py", "--threads", "8", "--count", "200", *way, "/bin/ls", "/")
        assert _run(lab, command) == (0, []), (number, (lab.folder / "report").read_text())


def test_a_worker_forked_beside_a_popen_fails(lab: Lab) -> None:
    """However short the stall was: --min-ms leaves only the exposure."""
    for number in range(_RUNS):
        options = ["--min-ms", "5000"] if number % 2 else []
        status, lines = _run(lab, _forced(lab), *options)
        assert status == 3, number
        [line] = lines
        assert ("1 stall " in line) == (not options)
        assert all(word in line for word in ("1 exposure ", "python3", "forked"))


@pytest.mark.parametrize(
    ("options", "status"),
    [(["--comm", "!python*"], 0), (["--user", "65534"], 0), (["--user", "root", "--container", "host"], 3)],
)
def test_filters_apply_to_exposures(lab: Lab, options: list[str], status: int) -> None:
    assert _run(lab, _forced(lab), "--min-ms", "5000", *options)[0] == status


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--max-stall-ms", "100"], 3)])
def test_a_late_exec_fails_only_if_it_is_long(lab: Lab, options: list[str], status: int) -> None:
    command = lab.program("slow_preexec_sibling.py", "--count", "1", "--sleep", "0.3")
    assert _run(lab, command, *options)[0] == status


@pytest.mark.parametrize(
    ("code", "options", "status"),
    [(0, ["--exit-code", "9"], 9), (7, ["--exit-code", "9"], 7), (0, [], 3)],
)
def test_a_failure_of_the_command_is_not_hidden(lab: Lab, code: int, options: list[str], status: int) -> None:
    command = ["/bin/sh", "-c", f"{' '.join(_forced(lab))}; exit {code}"]
    found, lines = _run(lab, command, *options)
    assert found == status
    assert "forked" in lines[0]
    assert [str(code) in line for line in lines[1:]] == ([True] if code else [])


def test_a_healthy_command_keeps_its_status(lab: Lab) -> None:
    assert _run(lab, ["/bin/sh", "-c", "exit 7"]) == (7, [])


def test_annotations_and_junit(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    status, lines = _run(lab, _forced(lab), "--github", "--junit", str(path))
    assert status == 3
    assert lines[0].startswith("::error title=spawnstall%3A python3%3A forked::1 stall ")
    suite = fromstring(path.read_text())[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_a_saved_report_is_judged_too(lab: Lab, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved.json")
    _run(lab, _forced(lab), "--report", saved)
    command = [*lab.trace_popen, "--fail-on-stall", "--replay", saved]
    done = subprocess.run(command, cwd=lab.root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "forked" in done.stderr
