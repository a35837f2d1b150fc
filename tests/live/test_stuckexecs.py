# SPDX-License-Identifier: Apache-2.0
"""Own children that do not reach their exec, beside an agent; and healthy workers that never will."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from agent import snapshot
from tests.live.lab import PYTHON, Lab, json_lines

pytestmark = pytest.mark.alone

_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")

_STUCK = """
import subprocess, sys, time
def hook():
    time.sleep(600)
subprocess.Popen(["/bin/true"], preexec_fn=hook)
"""
_WORKER = """
import os, time
read, write = os.pipe()
if os.fork() == 0:
    os.close(read)
    time.sleep(600)
os.close(write)
os.read(read, 100)
"""


def test_an_own_child_that_is_stuck_is_reported_and_a_worker_is_not(lab: Lab) -> None:
    alias = {}
    for name in ("stuck-app", "worker-app"):
        (lab.folder / name).symlink_to(PYTHON)
        alias[name] = str(lab.folder / name)
    with lab.agent(filter={"comm": ["stuck-app", "worker-app"]}) as agent:
        with (
            subprocess.Popen([alias["worker-app"], "-c", _WORKER], start_new_session=True) as worker,
            subprocess.Popen([alias["stuck-app"], "-c", _STUCK], start_new_session=True) as stuck,
        ):
            try:
                number = ("spawnstall_execs_in_progress", (("comm", "stuck-app"),))
                agent.wait_until(lambda: agent.metrics().get(number) == 1, 20)
                began = agent.metrics()["spawnstall_exec_start_timestamp_seconds", (("comm", "stuck-app"),)]
                assert began > 0
                [wait] = [one for one in agent.status()["waits"]]
                assert wait["parent"]["pid"] == stuck.pid
                assert wait["kind"] == "own_child"
                assert "have not called exec" in agent.get("/")
                [logged] = json_lines(agent.log())
                assert logged["type"] == "wait" and logged["child"] == wait["child"]
                os.kill(wait["child"]["pid"], signal.SIGKILL)
                agent.wait_until(lambda: number not in agent.metrics())
                agent.wait_until(lambda: agent.status()["waits"] == [])
                agent.wait_until(lambda: len(json_lines(agent.log())) == 2)
                ended = json_lines(agent.log())[1]
                assert (ended["id"], ended["state"]) == (wait["id"], "ended")
                assert f"(pid {wait['child']['pid']}) has exited" in ended["ending"]
            finally:
                for process in (worker, stuck):
                    os.killpg(process.pid, signal.SIGKILL)
        assert not any(stall["type"] == "stall" for stall in json_lines(agent.log()))


_KILLED = """
import signal, subprocess, time
def hook():
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(6)
    time.sleep(600)
subprocess.Popen(["/bin/true"], preexec_fn=hook)
"""
"""The child is killed by a signal six seconds after its fork."""


def test_a_child_that_is_killed_before_its_exec(lab: Lab) -> None:
    """It is no stall; its wait is reported while it lasts and when it ends, with the time that it took."""
    traced = lab.trace([PYTHON, "-c", _KILLED])
    first, ended = (each for each in traced.reports if each["type"] == "wait")
    assert (first["kind"], first["state"], ended["state"]) == ("own_child", "ongoing", "ended")
    assert (first["id"], first["child"]) == (ended["id"], ended["child"])
    assert f"(pid {first['child']['pid']}) was killed before its exec" in ended["ending"]
    began, end = (datetime.fromisoformat(ended[key].rstrip("Z")) for key in ("since", "ended"))
    assert 5.5 < (end - began).total_seconds() < 12
    assert (traced.summary["waits"], traced.summary["waits_in_progress"]) == (1, 0)
    assert traced.of("stall") == []


_CRASHES = """
import mmap, os, resource, subprocess
def hook():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    used = bytearray(os.urandom(1 << 20))
    os.abort()
subprocess.Popen(["/bin/true"], preexec_fn=hook)
"""
"""The child has more memory than fits into a pipe."""


@contextlib.contextmanager
def _slow_core_dumps() -> Iterator[None]:
    """The kernel writes each core dump to a program that does not read it."""
    before = _CORE_PATTERN.read_text()
    _CORE_PATTERN.write_text("|/bin/sleep 30")
    try:
        yield
    finally:
        _CORE_PATTERN.write_text(before)


@pytest.mark.skipif(not os.access(_CORE_PATTERN, os.W_OK), reason="the core pattern cannot be changed here")
def test_a_child_that_crashes_before_its_exec(lab: Lab) -> None:
    """As with abrt or systemd-coredump on a busy disk; SIGKILL ends the dump, as the advice says."""
    command = [PYTHON, "-c", _CRASHES]
    with _slow_core_dumps(), subprocess.Popen(command, start_new_session=True) as program:
        try:
            deadline = time.monotonic() + 30
            while not (found := [wait for wait in snapshot.look(program.pid).waits if not wait.normal]):
                assert time.monotonic() < deadline
            [wait] = found
            assert wait.kind == "own_child"
            assert "has crashed, and the kernel writes its core dump" in wait.headline
            assert f"kill -KILL {wait.child}" in wait.advice
            os.kill(wait.child or 0, signal.SIGKILL)
            program.wait(20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)


_HOLDER_CRASHES = """
import os, resource, signal, threading
read, write = os.pipe()
worker = os.fork()
if worker == 0:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    used = bytearray(os.urandom(1 << 20))
    os.abort()
if os.fork() == 0:
    os.execv("/bin/true", ["true"])
os.close(write)
threading.Timer(3, os.kill, (worker, signal.SIGKILL)).start()
os.read(read, 100)
"""


@pytest.mark.skipif(not os.access(_CORE_PATTERN, os.W_OK), reason="the core pattern cannot be changed here")
def test_a_holder_that_crashes(lab: Lab) -> None:
    """Its copy stays open for as long as the kernel writes the core dump."""
    with _slow_core_dumps():
        traced = lab.trace([PYTHON, "-c", _HOLDER_CRASHES])
    ongoing, ended = (each for each in traced.reports if each["type"] == "stall")
    for stall in (ongoing, ended):
        [holder] = stall["holders"]
        assert (holder["cause"], holder["dumping_core"]) == ("forked", True)
    assert "it has crashed, and the core dump" in ongoing["release"]
    assert (ended["state"], ended["holders"][0]["released_by"]) == ("ended", "exit")
    assert 2.5 < ended["stall_seconds"] < 8


def test_an_own_child_that_is_stuck_is_followed_across_a_restart(lab: Lab) -> None:
    """An agent that starts later finds it in /proc, until it ends: an alert does not resolve meanwhile."""
    (lab.folder / "stuck-app").symlink_to(PYTHON)
    number = ("spawnstall_execs_in_progress", (("comm", "stuck-app"),))
    started = ("spawnstall_exec_start_timestamp_seconds", (("comm", "stuck-app"),))
    seen = []
    command = [str(lab.folder / "stuck-app"), "-c", _STUCK]
    with subprocess.Popen(command, start_new_session=True) as stuck:
        try:
            for _ in range(2):
                with lab.agent(filter={"comm": ["stuck-app"]}) as agent:
                    agent.wait_until(lambda agent=agent: agent.metrics().get(number) == 1, 20)  # type: ignore[misc]
                    [wait] = agent.status()["waits"]
                    assert (wait["parent"]["pid"], wait["kind"]) == (stuck.pid, "own_child")
                    assert "have not called exec" in agent.get("/")
                    [logged] = json_lines(agent.log())
                    assert logged["child"] == wait["child"]
                    seen.append((wait["child"]["pid"], agent.metrics()[started]))
                    if len(seen) == 2:
                        os.kill(wait["child"]["pid"], signal.SIGKILL)
                        agent.wait_until(lambda agent=agent: number not in agent.metrics())  # type: ignore[misc]
                        assert agent.status()["waits"] == []
                        agent.wait_until(lambda agent=agent: len(json_lines(agent.log())) == 2)  # type: ignore[misc]
                        ended = json_lines(agent.log())[1]
                        assert (ended["id"], ended["state"]) == (wait["id"], "ended")
                        assert f"(pid {wait['child']['pid']}) has exited" in ended["ending"]
        finally:
            os.killpg(stuck.pid, signal.SIGKILL)
    assert seen[0][0] == seen[1][0]
    assert abs(seen[0][1] - seen[1][1]) < 1
