# SPDX-License-Identifier: Apache-2.0
"""Faults of the host: reused pids, a fork bomb, an unmounted tracefs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, RunningAgent, json_lines

pytestmark = pytest.mark.alone

_PROCESSES = 2048
# Every process of the bomb holds the errpipe and prints its pid.
_BOMB = f"""
import os, sys, threading, time
sys.path.insert(0, 'tests/programs')
from _spawns import TRUE, HookedEnv, spawn
def fork():
    if os.fork() == 0:
        for _ in range({_PROCESSES.bit_length() - 1}):
            os.fork()
        os.write(1, b'%d\\n' % os.getpid())
        time.sleep(1)
        os._exit(0)
def hook():
    thread = threading.Thread(target=fork); thread.start(); thread.join()
spawn(TRUE, env=HookedEnv(hook))
"""
_HIDE_TRACEFS = "umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug 2>/dev/null; true"


def test_pids_that_are_reused(lab: Lab) -> None:
    """60 spawns share 3 pids: a pid belongs to another process in the next spawn."""
    traced = lab.trace(lab.program("few_pids.py", "--spawns", "60", "--pids", "3"))
    if traced.status == 1:
        pytest.skip("another process got one of the pids")
    played = [(spawn["child"], spawn["holder"]) for spawn in traced.spawns()]
    reported = [(stall["child"]["pid"], stall["holders"][0]["pid"]) for stall in traced.of("stall")]
    assert len(played) == 60
    assert reported == played
    assert {stall["holders"][0]["cause"] for stall in traced.of("stall")} == {"forked"}


def test_agent_in_a_pid_namespace_says_that_it_sees_other_pids(lab: Lab) -> None:
    """A small pid_max there has no effect either: the kernel side reports the host's pids."""
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *lab.trace_popen, "--duration", "1"],
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "pid" in line


def test_fork_bomb(lab: Lab) -> None:
    """Two thousand holders of one errpipe: the agent survives, and names one of them or none."""
    with lab.agent() as agent:
        done = subprocess.run(
            [PYTHON, "-c", _BOMB], cwd=lab.root, stdout=subprocess.PIPE, text=True, check=True, timeout=120
        )
        holders = {int(line) for line in done.stdout.splitlines() if line.isdecimal()}
        [spawn] = json_lines(done.stdout)
        assert len(holders) == _PROCESSES

        def ended() -> list[dict[str, object]]:
            return [
                stall
                for stall in agent.stalls()
                if stall["child"]["pid"] == spawn["child"] and stall["state"] == "ended"
            ]

        agent.wait_until(lambda: bool(ended()), 30)
        for stall in agent.stalls():
            if stall["child"]["pid"] == spawn["child"]:
                assert {holder["pid"] for holder in stall["holders"]} <= {*holders, None}
        agent.wait_until(lambda: _in_the_map(agent, "processes") < _PROCESSES / 10, 30)


def _in_the_map(agent: RunningAgent, name: str) -> float:
    return agent.metrics()["spawnstall_map_entries", (("map", name),)]


def test_tracefs_is_unmounted(lab: Lab) -> None:
    """In a mount namespace, a running agent continues, and a new one prints one line."""
    wrapped = Lab(lab.root, lab.folder)
    wrapped.trace_popen = ["unshare", "-m", *lab.trace_popen]
    forced = lab.program("fork_beside_popen.py", "--force", "1", "--live", "0.3", "--plain", "0")
    with wrapped.agent() as agent:
        inside = ["nsenter", "-m", "-t", str(agent.process.pid), "--"]
        subprocess.run([*inside, "sh", "-c", _HIDE_TRACEFS], check=True)
        assert Path("/sys/kernel/tracing/events").is_dir()  # the host's is unchanged
        file = lab.folder / "second.yaml"
        file.write_text(json.dumps({"web": {"listen": "127.0.0.1:0"}}))
        second = subprocess.run(
            [*inside, "env", "-C", str(lab.root), *lab.trace_popen, "agent", "--config", str(file)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert second.returncode == 2
        [line] = second.stderr.splitlines()
        assert "mount -t tracefs" in line
        done = subprocess.run(forced, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
        [spawn] = [line for line in json_lines(done.stdout) if line["kind"] == "spawn"]
        agent.wait_until(lambda: any(stall["child"]["pid"] == spawn["child"] for stall in agent.stalls()), 30)
        attached = [v for (name, _), v in agent.metrics().items() if name == "spawnstall_probe_attached"]
        assert set(attached) == {1}
