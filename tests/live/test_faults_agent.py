# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the agent and of trace-popen: nothing remains in the kernel, and a new one starts at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.host import procfs
from agent.serve.health import why_unhealthy
from agent.settings.agentfile import Web
from tests.live.bpfids import Ids, ids_of, still_there
from tests.live.lab import Lab, RunningAgent, json_lines

pytestmark = pytest.mark.alone

_DEADLINE_SECONDS = 30


def _until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"timeout waiting for {what}"
        time.sleep(0.02)


def _compiler_of(pid: int) -> int | None:
    """Return the process that compiles an agent's probes, if it exists."""
    for child in procfs.descendants(pid):
        with contextlib.suppress(OSError):
            if b"probes.compiler" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


def _kill(process: subprocess.Popen[bytes]) -> Ids:
    """Kill it; return its programs and maps."""
    had = ids_of(process.pid)
    process.kill()
    process.wait()
    return had


def _assert_gone(had: Ids) -> None:
    assert len(had.programs) > 20 and len(had.maps) > 5
    _until(lambda: still_there(had) == Ids(frozenset(), frozenset()), "the end of programs and maps")


def _assert_a_new_one_works(lab: Lab) -> None:
    """Start one: RunningAgent waits until it answers, which is after its self-test."""
    with lab.agent() as agent:
        assert agent.metrics()["spawnstall_selftest_success", ()] == 1
        _assert_finds_a_stall(lab, agent)


def _assert_finds_a_stall(lab: Lab, agent: RunningAgent) -> None:
    forced = lab.program("fork_beside_popen.py", "--force", "1", "--live", "0.3", "--plain", "0")
    done = subprocess.run(forced, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    [spawn] = [line for line in json_lines(done.stdout) if line["kind"] == "spawn"]
    agent.wait_until(
        lambda: any(stall["child"]["pid"] == spawn["child"] for stall in agent.stalls()), _DEADLINE_SECONDS
    )


def test_agent_killed_while_it_traces(lab: Lab) -> None:
    with lab.agent() as agent:
        had = _kill(agent.process)
    _assert_gone(had)
    _assert_a_new_one_works(lab)


def test_agent_killed_with_a_stall_in_progress(lab: Lab) -> None:
    """The next agent does not know that stall, and does not report it as in progress forever."""
    forced = lab.program("fork_beside_popen.py", "--force", "1", "--live", "600", "--plain", "0")
    with lab.agent() as agent, subprocess.Popen(forced, stdout=subprocess.DEVNULL) as program:
        try:
            agent.wait_until(lambda: any(s["parent"]["pid"] == program.pid for s in agent.stalls()), 30)
            [stall] = [each for each in agent.stalls() if each["parent"]["pid"] == program.pid]
            _assert_gone(_kill(agent.process))
            _assert_a_new_one_works(lab)
        finally:
            program.kill()
            with contextlib.suppress(NameError):
                os.kill(stall["holders"][0]["pid"], signal.SIGKILL)


def _start_agent(lab: Lab, stderr: Path) -> subprocess.Popen[bytes]:
    file = lab.folder / "early.yaml"
    file.write_text(json.dumps({"web": {"listen": "127.0.0.1:0"}}))
    with stderr.open("wb") as log:
        return subprocess.Popen(
            [*lab.trace_popen, "agent", "--config", str(file)], cwd=lab.root, stderr=log, env=_without_cache()
        )


def _without_cache() -> dict[str, str]:
    """Return an environment in which the compiler compiles, however often it has done so before."""
    return {**os.environ, "CACHE_DIRECTORY": ""}


def test_the_socket_of_a_killed_agent_is_replaced_and_removed_at_the_end(lab: Lab) -> None:
    file, path = lab.folder / "socket.yaml", lab.folder / "web.sock"
    web = Web(listen="none", socket=str(path))
    file.write_text(json.dumps({"web": {"listen": "none", "socket": path.name}}))
    for number in (signal.SIGKILL, signal.SIGTERM):
        agent = subprocess.Popen(
            [*lab.trace_popen, "agent", "--config", str(file)], cwd=lab.root, stderr=subprocess.DEVNULL
        )
        try:
            _until(lambda: why_unhealthy(web) is None, "the agent on its socket")
        finally:
            agent.send_signal(number)
            agent.wait(20)
        assert path.is_socket() is (number == signal.SIGKILL)


@pytest.mark.parametrize("delay", [0, 0.5])
def test_agent_killed_while_it_compiles(lab: Lab, delay: float) -> None:
    """Its compiler ends by itself, prints nothing, and does not disturb another agent."""
    output = lab.folder / "early.log"
    with lab.agent() as other:
        agent = _start_agent(lab, output)
        _until(lambda: _compiler_of(agent.pid), "the compiler")
        compiler = _compiler_of(agent.pid)
        assert compiler is not None
        time.sleep(delay)
        agent.kill()
        agent.wait()
        _until(lambda: not Path(f"/proc/{compiler}").exists(), "the end of the compiler")
        assert output.read_text() == ""
        _assert_finds_a_stall(lab, other)


def test_interrupted_while_it_compiles(lab: Lab) -> None:
    """A terminal signals the whole process group: no helper prints anything, or remains."""
    output = lab.folder / "early.log"
    with output.open("wb") as log:
        tracer = subprocess.Popen(
            lab.trace_popen,
            cwd=lab.root,
            stdout=log,
            stderr=log,
            env=_without_cache(),
            start_new_session=True,
        )
    _until(lambda: _compiler_of(tracer.pid), "the compiler")
    time.sleep(0.4)  # earlier, an import in Python may swallow it
    children = procfs.descendants(tracer.pid)
    os.killpg(tracer.pid, signal.SIGINT)
    assert tracer.wait(30) in (0, 128 + signal.SIGINT)
    _until(lambda: not any(map(procfs.is_alive, children)), "the end of its helpers")
    assert "Traceback" not in output.read_text()


def test_trace_popen_killed_before_its_command_starts(lab: Lab) -> None:
    """The command never runs."""
    mark = lab.folder / "mark"
    command = [*lab.trace_popen, "--", "/usr/bin/touch", str(mark)]
    tracer = subprocess.Popen(command, cwd=lab.root, env=_without_cache())
    _until(lambda: _compiler_of(tracer.pid), "the compiler")
    children = procfs.descendants(tracer.pid)
    tracer.kill()
    tracer.wait()
    _until(lambda: not any(map(procfs.is_alive, children)), "the end of command and compiler")
    assert not mark.exists()


def test_trace_popen_killed_with_a_stall_in_progress(lab: Lab) -> None:
    """Its command continues, and the next trace-popen finds the stall that began under the first."""
    report = lab.folder / "report.json"
    forced = lab.program("fork_beside_popen.py", "--force", "1", "--live", "600", "--plain", "0")
    tracer = subprocess.Popen(
        [*lab.trace_popen, "--report", str(report), "--", *forced], cwd=lab.root, stdout=subprocess.DEVNULL
    )
    _until(lambda: report.exists() and len(json_lines(report.read_text())) == 2, "the stall")
    _run, stall = json_lines(report.read_text())
    parent, holder = stall["parent"]["pid"], stall["holders"][0]["pid"]
    try:
        _assert_gone(_kill(tracer))
        assert procfs.is_alive(parent)
        done = subprocess.run(
            [*lab.trace_popen, "--json", "--pid", str(parent), "--duration", "1"],
            cwd=lab.root,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        [found] = [each for each in json_lines(done.stdout) if each["type"] == "stall"]
        assert found["holders"][0]["pid"] == holder
    finally:
        for pid in (parent, holder):
            os.kill(pid, signal.SIGKILL)
