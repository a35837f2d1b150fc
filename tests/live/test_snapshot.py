# SPDX-License-Identifier: Apache-2.0
"""Processes that hang already: what /proc alone shows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, Object, json_lines

_OLD_PYTHONS = [path for path in (Path("/root/.pyenv/versions/3.6.15/bin/python"),) if path.exists()]


@contextlib.contextmanager
def _running(command: Sequence[str], seconds: float = 1.0) -> Iterator[int]:
    """Run a command in its own process group, killed at the end; yield its pid after some seconds."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        time.sleep(seconds)
        try:
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _snapshot(lab: Lab, pid: int) -> list[Object]:
    """The stalls."""
    done = subprocess.run(
        [*lab.trace_popen, "--pid", str(pid), "--snapshot", "--json"],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=20,
    )
    return [report for report in json_lines(done.stdout) if report["type"] == "stall"]


def test_hung_by_a_worker(lab: Lab) -> None:
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "20", "--plain", "0")
    with _running(command) as pid:
        [found] = _snapshot(lab, pid)
    assert found["parent"]["pid"] == pid
    assert found["certainty"] == "certain"
    [holder] = found["holders"]
    assert (holder["cause"], holder["confirmed"]) == ("forked", True)
    assert found["child"]["comm"] == "true"


def test_hung_by_a_leak_on_python_2(lab: Lab, python27: str) -> None:
    program = str(lab.root / "tests" / "programs" / "original27.py")
    command = [python27, program, "--iterations", "1", "--force", "--sleep", "20"]
    with _running(command) as pid:
        [found] = _snapshot(lab, pid)
    assert {holder["cause"] for holder in found["holders"]} == {"leaked"}
    assert {holder["comm"] for holder in found["holders"]} <= {"sh", "sleep"}


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "x=$(sleep 20)"],
        ["sh", "-c", "sleep 20 | cat"],
        [PYTHON, "-c", "import subprocess; subprocess.check_output(['sleep', '20'])"],
    ],
    ids=["substitution", "pipeline", "check_output"],
)
def test_data_pipes_are_not_reported(lab: Lab, command: list[str]) -> None:
    with _running(command, 0.5) as pid:
        assert _snapshot(lab, pid) == []


def test_own_child_in_its_preexec_fn_is_not_accused(lab: Lab) -> None:
    with _running(lab.program("slow_preexec_own.py", "--count", "1", "--sleep", "20")) as pid:
        assert _snapshot(lab, pid) == []


@pytest.mark.parametrize("python", [Path(PYTHON), *_OLD_PYTHONS], ids=str)
def test_one_file_without_dependencies(lab: Lab, python: Path, tmp_path: Path) -> None:
    copy = tmp_path / "snapshot.py"
    copy.write_bytes((lab.root / "agent" / "snapshot.py").read_bytes())
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "20", "--plain", "0")
    with _running(command) as pid:
        done = subprocess.run(
            [str(python), "-I", "-S", str(copy), "--json", str(pid)], stdout=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    [stall] = [one for one in json_lines(done.stdout) if one["type"] == "stall"]
    assert stall["certainty"] == "certain"


def test_live_tracing_begins_with_a_snapshot(lab: Lab) -> None:
    """A process that hangs already causes no more events."""
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "20", "--plain", "0")
    with _running(command) as pid:
        done = subprocess.run(
            [*lab.trace_popen, "--pid", str(pid), "--json", "--duration", "1"],
            cwd=lab.root,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    _run, found, *_waits, summary = json_lines(done.stdout)
    assert found["source"] == "snapshot"
    assert summary["type"] == "summary"


def test_without_ebpf_proc_is_sampled(lab: Lab) -> None:
    """As on a kernel without eBPF: bcc cannot be imported, and there are no cached programs."""
    (lab.folder / "bcc.py").write_text("raise ImportError('not here')\n")
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "10", "--plain", "0")
    with _running(command, 0.3) as pid:
        done = subprocess.run(
            [*lab.trace_popen, "--pid", str(pid), "--json", "--interval", "0.05"],
            cwd=lab.root,
            env={**os.environ, "PYTHONPATH": str(lab.folder), "CACHE_DIRECTORY": ""},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    [line] = done.stderr.splitlines()
    assert "/proc every 0.05 s" in line
    ongoing, ended, summary = (one for one in json_lines(done.stdout) if one["type"] not in ("run", "wait"))
    assert [ongoing["state"], ended["state"]] == ["ongoing", "ended"]
    assert ongoing["id"] == ended["id"]
    assert 9 < ended["stall_seconds"] < 12
    assert summary["stalls"] == 1
