# SPDX-License-Identifier: Apache-2.0
"""--stacks: the exact lines of Popen and of the fork, with a real py-spy and a real kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.host import pyspy
from agent.model import Stall
from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from tests.live.lab import PYTHON, Lab, Object, json_lines

FORCED = ("fork_beside_popen.py", "--force", "1", "--live", "4", "--plain", "0")


def _line_of(path: Path, text: str) -> int:
    """Return the number of the only line that contains a text."""
    [number] = [number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    return number


def _ongoing(reports: list[Object]) -> Object:
    [stall] = [each for each in reports if each["type"] == "stall" and each["state"] == "ongoing"]
    return stall


def _places(stack: Object) -> set[tuple[str, int]]:
    """Return the file names and line numbers of a stack."""
    return {(Path(frame["file"]).name, frame["line"]) for frame in stack["frames"]}


def _ended(reports: list[Object]) -> Object:
    [stall] = [each for each in reports if each["type"] == "stall" and each["state"] == "ended"]
    return stall


def test_the_lines_of_popen_and_of_the_fork(lab: Lab) -> None:
    programs = lab.root / "tests" / "programs"
    traced = lab.trace(lab.program(*FORCED), "--stacks")
    ongoing, ended = _ongoing(traced.reports), _ended(traced.reports)
    found = ongoing["stacks"]
    assert found["missing"] == []

    assert found["reader"]["by"] == "py-spy"
    assert found["reader"]["frames"][0]["file"].endswith("/subprocess.py")
    popen = _line_of(programs / "_spawns.py", "popen = subprocess.Popen(args, **kwargs)")
    assert ("_spawns.py", popen) in _places(found["reader"])
    call = _line_of(programs / "fork_beside_popen.py", "spawn(TRUE, fields, env=HookedEnv(hook)).wait()")
    assert ("fork_beside_popen.py", call) in _places(found["reader"])

    assert found["fork"]["by"] == "kernel"
    innermost = found["fork"]["frames"][0]
    assert "fork" in innermost["function"].lower()
    assert "libc" in innermost["file"]
    assert innermost["line"] is None

    assert found["holder"]["by"] == "py-spy"
    forker = _line_of(programs / "fork_beside_popen.py", "pid = fork_worker(live)")
    assert ("fork_beside_popen.py", forker) in _places(found["holder"])
    # The holder has returned from os.fork() and sleeps in the same function.
    sleep = _line_of(programs / "_spawns.py", "time.sleep(live)")
    assert ("_spawns.py", sleep) in _places(found["holder"])

    assert ended["stacks"] == found


def test_python_27(lab: Lab, python27: str) -> None:
    program = lab.root / "tests" / "programs" / "original27.py"
    traced = lab.trace([python27, str(program), "--force", "--iterations", "1", "--sleep", "4"], "--stacks")
    found = _ongoing(traced.reports)["stacks"]
    popen = _line_of(program, "popen = subprocess.Popen(command, **arguments)")
    assert ("original27.py", popen) in _places(found["reader"])
    assert any(frame["file"].endswith("/subprocess.py") for frame in found["reader"]["frames"])
    assert "fork" in found["fork"]["frames"][0]["function"].lower()
    assert found["holder"] is None
    assert any("cause leaked" in line for line in found["missing"])


def test_a_process_that_hangs_already(lab: Lab) -> None:
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "60", "--plain", "0")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        found: list[Object] = []
        deadline = time.monotonic() + 30
        while not found:
            assert time.monotonic() < deadline
            done = subprocess.run(
                [*lab.trace_popen, "--pid", str(program.pid), "--snapshot", "--json", "--stacks"],
                cwd=lab.root,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = [one for one in json_lines(done.stdout) if one["type"] == "stall"]
        os.kill(found[0]["holders"][0]["pid"], signal.SIGKILL)
    printed = found[0]["stacks"]
    assert printed["reader"]["frames"][0]["file"].endswith("/subprocess.py")
    assert "fork_worker" in {frame["function"] for frame in printed["holder"]["frames"]}
    assert printed["fork"] is None
    assert printed["missing"] == ["fork: it happened before it could be traced"]


def test_without_py_spy_the_rest_is_reported(lab: Lab) -> None:
    code = (
        "import sys, agent.host.pyspy\n"
        "agent.host.pyspy.find_py_spy = lambda: None\n"
        "from agent.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    lab.trace_popen = [sys.executable, "-c", code]
    traced = lab.trace(lab.program(*FORCED), "--stacks")
    found = _ongoing(traced.reports)
    [line] = found["stacks"]["missing"]
    assert "py-spy is not installed" in line
    assert found["stacks"]["reader"] is found["stacks"]["holder"] is None
    assert "fork" in found["stacks"]["fork"]["frames"][0]["function"].lower()
    assert found["holders"][0]["cause"] == "forked"
    assert _ended(traced.reports)["stacks"]["missing"] == [line]


def test_short_stalls_have_the_stack_of_the_fork(lab: Lab) -> None:
    # The gap keeps the program alive for a while after its stall: names are looked up while it lives.
    program = ("fork_beside_popen.py", "--force", "1", "--live", "0.1", "--plain", "0", "--gap", "2")
    found = _ended(lab.trace(lab.program(*program), "--stacks").reports)["stacks"]
    assert "fork" in found["fork"]["frames"][0]["function"].lower()
    assert found["reader"] is None


def test_no_stacks_by_default(lab: Lab) -> None:
    traced = lab.trace(lab.program(*FORCED))
    for report in traced.reports:
        assert "stacks" not in report


@pytest.mark.alone
def test_the_agent_when_configured(lab: Lab) -> None:
    with lab.agent(stacks={"capture": True}, stalls={"ongoing_seconds": 0.25}) as agent:
        printed = subprocess.run(lab.program(*FORCED), stdout=subprocess.PIPE, text=True, check=True).stdout
        children = {line["child"] for line in json_lines(printed) if line.get("worker")}

        def mine() -> list[Object]:
            return [stall for stall in agent.stalls() if stall["child"]["pid"] in children]

        agent.wait_until(lambda: len(mine()) == 2)
        for stall in mine():
            assert stall["stacks"]["missing"] == []
            assert stall["stacks"]["reader"]["frames"][0]["file"].endswith("/subprocess.py")
        assert "stack of the blocked thread" in agent.get("/")
        file = lab.folder / "agent.yaml"
        file.write_text(json.dumps({**json.loads(file.read_text()), "stacks": {"capture": False}}))
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_until(lambda: "stacks has changed" in agent.log())


def test_a_full_map_is_counted_and_unused_entries_are_removed(lab: Lab) -> None:
    """The map only has room for the self-test's stack: the next is lost and counted, then there is room."""
    stalls: list[Stall] = []
    options = TracerOptions(every=True, stacks=True, max_stacks=1, targets=(os.getpid(),))
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "1", "--plain", "0")
    with Tracer(options, stalls.append) as tracer:
        assert tracer.start() is None
        lost = []
        for _ in range(2):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
                while program.poll() is None:
                    tracer.run_once(0.05)
            deadline = time.monotonic() + 30
            while not any(each.ended and each.spawn.pid == program.pid for each in stalls):
                assert time.monotonic() < deadline
                tracer.run_once(0.05)
            lost.append(tracer.counters()["stacks_lost"])
    assert lost == [1, 1]
    first, second = (each for each in stalls if each.ended is not None)
    assert first.culprit.fork_stack is None
    assert [line.split(":")[0] for line in first.missing or ()] == ["fork"]
    assert second.culprit.fork_stack is not None
    assert second.missing == ()


@pytest.mark.tracepoints
def test_without_btf(lab: Lab) -> None:
    """A kernel without types has another program at the fork."""
    stalls: list[Stall] = []
    options = TracerOptions(every=True, stacks=True, use_btf=False, targets=(os.getpid(),))
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "1", "--plain", "0")
    with Tracer(options, stalls.append) as tracer:
        assert tracer.start() is None
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
            while program.poll() is None:
                tracer.run_once(0.05)
        tracer.run_once(0.2)
        tracer.drain()
    [ended] = [each for each in stalls if each.ended is not None]
    assert ended.culprit.fork_stack is not None
    assert "fork" in ended.culprit.fork_stack.frames[0].function.lower()


@pytest.fixture
def py_spy() -> str:
    """The path of the real py-spy."""
    found = pyspy.find_py_spy()
    assert found is not None
    return found


def test_py_spy_on_a_process_that_is_not_python(py_spy: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        with pytest.raises(pyspy.StackError, match=f"pid {sleeping.pid} .*Python"):
            pyspy.python_stack(py_spy, sleeping.pid, sleeping.pid)
        sleeping.kill()
    with pytest.raises(pyspy.StackError, match=f"pid {sleeping.pid} exited"):
        pyspy.python_stack(py_spy, sleeping.pid, sleeping.pid)


def test_py_spy_without_permission(lab: Lab, py_spy: str) -> None:
    code = (
        "import sys\n"
        "from agent.host.pyspy import StackError, python_stack\n"
        "try: python_stack(sys.argv[1], int(sys.argv[2]), int(sys.argv[2]))\n"
        "except StackError as error: print(error)\n"
    )
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    with subprocess.Popen([PYTHON, "-c", "import time; time.sleep(60)"]) as target:
        done = subprocess.run(
            [*powerless, sys.executable, "-c", code, py_spy, str(target.pid)],
            cwd=lab.root,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        target.kill()
    [line] = done.stdout.splitlines()
    assert f"pid {target.pid} (CAP_SYS_PTRACE)" in line
