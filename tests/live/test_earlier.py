# SPDX-License-Identifier: Apache-2.0
"""Stalls that began before tracing: found when it starts, and followed until they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from agent import snapshot
from tests.live.lab import Lab, Object, json_lines

pytestmark = pytest.mark.alone

_IN_PROGRESS = "spawnstall_stalls_in_progress"
_COMM = "earlier-app"
_LABELS = (("cause", "forked"), ("comm", _COMM), ("holder", _COMM))
_OLDEST = "spawnstall_oldest_stall_start_timestamp_seconds"


@contextlib.contextmanager
def hung(lab: Lab) -> Iterator[tuple[int, int]]:
    """Run a program whose Popen hangs; yield its pid and the holder's. Its comm is unique."""
    interpreter, *arguments = lab.program(
        "fork_beside_popen.py", "--force", "1", "--live", "60", "--plain", "0"
    )
    alias = lab.folder / _COMM
    if not alias.exists():
        alias.symlink_to(interpreter)
    command = [str(alias), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        try:
            deadline = time.monotonic() + 30
            while not (found := snapshot.take(program.pid)):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            holder = found[0].holders[0].pid
            assert holder is not None
            time.sleep(1)  # so that the stall is clearly older than the agent
            yield program.pid, holder
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder, signal.SIGKILL)
        finally:
            program.kill()


def _ours(reports: list[Object], pid: int) -> list[Object]:
    return [each for each in reports if each["type"] == "stall" and each["parent"]["pid"] == pid]


def test_the_agent_reports_a_hang_that_is_older_than_itself(lab: Lab) -> None:
    with hung(lab) as (pid, holder), lab.agent(filter={"comm": [_COMM]}) as agent:
        agent.wait_until(lambda: agent.metrics().get((_IN_PROGRESS, _LABELS)) == 1)
        assert 0 < time.time() - agent.metrics()[_OLDEST, ()] < 60
        [ongoing] = agent.status()["ongoing"]
        assert ongoing["parent"]["pid"] == pid
        assert [each["pid"] for each in ongoing["holders"]] == [holder]
        assert ongoing["stall_seconds"] > 1
        assert str(holder) in agent.get("/")
        agent.wait_until(lambda: bool(agent.stalls()))
        [logged] = agent.stalls()
        assert (logged["state"], logged["id"]) == ("ongoing", ongoing["id"])
        os.kill(holder, signal.SIGKILL)
        agent.wait_until(lambda: len(agent.stalls()) == 2)
        ended = agent.stalls()[1]
        assert (ended["state"], ended["id"]) == ("ended", ongoing["id"])
        assert ended["stall_seconds"] >= logged["stall_seconds"]
        agent.wait_until(lambda: (_IN_PROGRESS, _LABELS) not in agent.metrics())
        assert agent.metrics()["spawnstall_stall_seconds_count", _LABELS] == 1
        assert agent.metrics()[_OLDEST, ()] == 0


def test_it_is_the_same_stall_after_a_restart(lab: Lab) -> None:
    ids = []
    with hung(lab) as (pid, _holder):
        for _ in range(2):
            with lab.agent() as agent:
                agent.wait_until(lambda agent=agent: bool(_ours(agent.stalls(), pid)))  # type: ignore[misc]
                ids.append(_ours(agent.stalls(), pid)[0]["id"])
    assert ids[0] == ids[1]


def test_a_stall_that_begins_while_the_agent_is_stopped_is_reported_once(lab: Lab) -> None:
    """Both the kernel side and the search that follows find it."""
    with lab.agent() as agent:
        os.kill(agent.process.pid, signal.SIGSTOP)
        with hung(lab) as (pid, holder):
            time.sleep(6)
            os.kill(agent.process.pid, signal.SIGCONT)
            agent.wait_until(lambda: bool(_ours(agent.stalls(), pid)))
            time.sleep(3)
            assert [each["holders"][0]["pid"] for each in _ours(agent.stalls(), pid)] == [holder]


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_trace_popen_of_the_whole_host(lab: Lab, option: tuple[str, ...]) -> None:
    with hung(lab) as (pid, holder):
        done = subprocess.run(
            [*lab.trace_popen, "--comm", _COMM, "--duration", "4", *option],
            cwd=lab.root,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    if option:
        _run, *stalls, summary = json_lines(done.stdout)
        assert [(each["parent"]["pid"], each["state"]) for each in stalls] == [(pid, "ongoing")]
        assert (summary["stalls"], summary["ongoing"]) == (0, 1)
    else:
        assert f"pid {holder}" in done.stdout


@pytest.mark.parametrize("exits", [False, True])
def test_a_process_that_hangs_is_followed_until_it_continues_or_exits(exits: bool, lab: Lab) -> None:
    reports = lab.folder / "reports.jsonl"
    with hung(lab) as (pid, holder):
        command = [*lab.trace_popen, "--pid", str(pid), "--json", "-o", str(reports), "--duration", "60"]
        with subprocess.Popen(command, cwd=lab.root, stderr=subprocess.PIPE, text=True) as tracing:
            assert tracing.stderr is not None
            assert "tracing" in tracing.stderr.readline()
            time.sleep(3)
            if exits:
                os.kill(pid, signal.SIGKILL)
            os.kill(holder, signal.SIGKILL)
            tracing.communicate(timeout=60)
    *_, summary = objects = json_lines(reports.read_text())
    stalls = _ours(objects, pid)
    assert [stall["state"] for stall in stalls] == ["ongoing", "ended"]
    assert len({stall["id"] for stall in stalls}) == 1
    assert stalls[1]["stall_seconds"] > 3
    assert (summary["stalls"], summary["ongoing"]) == (1, 0)
