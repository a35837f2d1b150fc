# SPDX-License-Identifier: Apache-2.0
"""agent.cli.following: when what a look has found counts as ended."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Union

import pytest

from agent import snapshot
from agent.cli.following import Following, ending
from agent.reports.objects import stall_id
from agent.snapshot import Finding, Wait, WaitHolder
from tests.unit.reportsamples import finding, wait
from tests.unit.samples import spawn, stall

_Found = Union[Finding, Wait]


class _Run:
    """One run; waiting: what the threads still wait for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *found: _Found) -> None:
        self.ended: list[_Found] = []
        self.waiting: set[_Found] = set(found)
        self.now = 100.0
        self.looks = 0
        monkeypatch.setattr(snapshot, "is_waiting", self._is_waiting)
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        self.following = Following(self.ended.append)
        self.following.add(found)

    def _is_waiting(self, found: _Found) -> bool:
        self.looks += 1
        return found in self.waiting

    def poll(self, seconds: float = 1.0, traced: Any = ()) -> None:
        self.now += seconds
        self.following.poll(traced)


def test_what_two_checks_miss_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    run = _Run(monkeypatch, wait(id="a"), wait(id="b"))
    run.poll()
    run.waiting.clear()
    run.poll()
    assert run.ended == []
    run.waiting.add(wait(id="b"))
    run.poll()
    run.poll()
    [ended] = run.ended
    assert isinstance(ended, Wait)
    assert (ended.id, ended.ended is not None, bool(ended.ending)) == ("a", True, True)


def test_checks_are_a_second_apart_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    run = _Run(monkeypatch, *(wait(id=str(number)) for number in range(300)))
    for _ in range(10):
        run.poll(0.1)
    assert run.looks == 200
    run.poll()
    assert run.looks == 400
    run.waiting.clear()
    run.following.finish()
    assert len(run.ended) == 300


def test_a_stall_that_the_tracer_follows_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known, unknown = finding(pipe="pipe:[1]", seconds=3.0), finding(pipe="pipe:[2]")
    traced = stall(of=spawn(id=snapshot.FOUND | 1), ended=None)
    assert stall_id(traced) == known.id
    run = _Run(monkeypatch, known, unknown)
    run.poll(traced=[traced])
    run.waiting.clear()
    run.following.finish()
    [ended] = run.ended
    assert isinstance(ended, Finding)
    assert (ended.id, ended.state, ended.seconds) == (unknown.id, "ended", None)


# -- how it ended --


def _child(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_how_a_wait_has_ended() -> None:
    with _child("read line") as child:
        link = os.readlink(f"/proc/{child.pid}/fd/1")  # noqa: PTH115
        holder = WaitHolder(child.pid, b"sh", (1,), os.getpid(), None, "")
        here = {"pid": os.getpid(), "tid": os.getpid(), "holders": (holder,)}
        output = wait(kind="output", link=link, **here)
        own = wait(kind="own_child", child=child.pid, child_comm=b"sh", **here)
        assert "no longer waits" in ending(output)
        assert f"(pid {child.pid}) has called exec" in ending(own)
        assert f"(pid {child.pid}) has closed" in ending(output._replace(link="pipe:[1]"))
        other = holder._replace(pid=1 << 22)
        assert "no longer waits" in ending(output._replace(holders=(holder, other)))
        child.kill()
        child.wait()
        assert f"(pid {child.pid}) has exited" in ending(output)
        assert f"(pid {child.pid}) has exited" in ending(own)
        both = ending(output._replace(pid=1 << 22))
        assert f"sh (pid {child.pid}) has exited and " in both and str(1 << 22) in both


_EXITS_SLOWLY = """
import os, resource, time
most = min(4_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for _ in range(most - 100):
    os.memfd_create("")
last = os.dup(1)
os.dup2(2, 1)
os.write(last, b"x")
time.sleep(60)
"""


def test_an_exiting_process_has_exited_before_it_is_a_zombie() -> None:
    """The kernel frees the file that was opened last first."""
    with subprocess.Popen([sys.executable, "-c", _EXITS_SLOWLY], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        link = os.readlink(f"/proc/self/fd/{child.stdout.fileno()}")  # noqa: PTH115
        holder = WaitHolder(child.pid, b"python3", (1,), os.getpid(), None, "")
        here = {"pid": os.getpid(), "tid": os.getpid(), "holders": (holder,)}
        output = wait(kind="output", link=link, **here)
        own = wait(kind="own_child", child=child.pid, child_comm=b"python3", **here)
        assert os.read(child.stdout.fileno(), 1)
        child.kill()
        assert os.read(child.stdout.fileno(), 1) == b""
        endings = [ending(output), ending(own)]
        assert all(f"(pid {child.pid}) has exited" in each for each in endings), endings


def test_a_zombie_still_shows_that_it_did_not_call_exec() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ending(wait(kind="vfork", child=pid, pid=os.getpid(), tid=os.getpid())).endswith(
        "has exited without calling exec"
    )
    os.waitpid(pid, 0)
