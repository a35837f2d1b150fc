# SPDX-License-Identifier: Apache-2.0
"""Races between two CPUs that decide what the kernel side sees; delays.py makes their outcome certain."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent.model import Cause
from probes import loader
from tests.live.delays import COMM, delayed, delaying
from tests.live.lab import Lab, json_lines
from tests.live.seen import Seen

pytestmark = [
    pytest.mark.alone,  # beside other tests, a thread can be kept from its CPU for longer than the delay
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a race needs two CPUs"),
]


def test_exit_of_the_read_that_comes_after_the_exec(lab: Lab) -> None:
    """A message that the parent reads before the own child's exec does not make it a data pipe."""
    with delayed("syscalls:sys_exit_read"):
        traced = lab.trace(lab.program("message_before_exec.py", "--count", "10", "--comm", COMM))
    assert [spawn["outcome"] for spawn in traced.of("spawn")] == ["ok"] * len(traced.spawns())
    assert traced.summary["spawns"] == len(traced.spawns()) == 10
    assert traced.of("stall") == []


def test_exec_of_the_own_child_while_a_sibling_is_in_close_range(lab: Lab) -> None:
    """The sibling's copy counts until the kernel has closed it."""
    program = lab.program("close_race.py", "--comm", COMM)
    traced = lab.trace(delaying("syscalls:sys_enter_close_range", 60, program))
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    [holder] = stall["holders"]
    assert (holder["pid"], holder["cause"], holder["released_by"]) == (spawn["holder"], "late_exec", "close")
    assert len(holder["fds"]) == 1
    assert stall["late_wakeup_seconds"] == 0


def test_exec_of_the_own_child_while_a_sibling_is_in_close(lab: Lab) -> None:
    """Only the entry of close is traced. What delays it is unknown; nobody passed the copy on."""
    program = lab.program("close_race.py", "--by", "close", "--comm", COMM)
    traced = lab.trace(delaying("syscalls:sys_enter_close", 100, program))
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    assert {holder["cause"] for holder in stall["holders"]} == {"unknown"}
    assert {holder["pid"] for holder in stall["holders"]} <= {spawn["holder"], None}


@pytest.mark.parametrize("options", [(), ("--second-pipe",)], ids=["one_pipe", "another_pipe_returns_first"])
def test_fork_while_another_thread_is_in_pipe(lab: Lab, options: tuple[str, ...]) -> None:
    """The kernel side does not know of this copy. Nobody passed it on."""
    with delayed("syscalls:sys_exit_pipe2", 20):
        traced = lab.trace(lab.program("fork_during_pipe.py", "--comm", COMM, *options))
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    [holder] = stall["holders"]
    assert (holder["pid"], holder["cause"]) == (spawn["holder"], "unknown")


def test_search_during_a_fork(lab: Lab) -> None:
    """The kernel shows the worker before its fork is traced. Nobody passed the copy on."""
    command = lab.program("slow_fork.py", "--comm", COMM)
    with delayed("task:task_newtask", 150):
        seen = Seen(ongoing_ns=20_000_000)
        with seen.tracer as tracer:
            assert tracer.start() is None
            printed = seen.poll_beside(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    [spawn] = [each for each in json_lines(printed) if each["kind"] == "spawn"]
    stalls = [stall for stall in seen.stalls if stall.spawn.child == spawn["child"]]
    first = [holder.cause for stall in stalls if stall.ended is None for holder in stall.holders]
    last = [holder.cause for stall in stalls if stall.ended is not None for holder in stall.holders]
    assert {*first} == {Cause.UNKNOWN}
    assert last == [Cause.FORKED]


def test_pipe_that_is_created_during_a_fork(lab: Lab) -> None:
    """The kernel has copied the fd table before, so the child has no copy, although it is forked later."""
    with delayed("task:task_newtask", 100):
        traced = lab.trace(lab.program("slow_fork.py", "--late-pipe", "--comm", COMM))
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    assert [holder["pid"] for holder in stall["holders"]] == [spawn["holder"]]
    [exposures] = traced.summary["exposures"]
    assert (exposures["cause"], exposures["count"]) == ("forked", 1)


def test_exec_between_the_close_and_the_read(lab: Lab) -> None:
    """Soon after a close, the kernel may still count the parent's copy: the read counts again."""
    traced = lab.trace(lab.program("close_then_read.py"))
    holders = {stall["child"]["pid"]: stall["holders"][0]["pid"] for stall in traced.of("stall")}
    assert holders == {spawn["child"]: spawn["holder"] for spawn in traced.spawns()}


def test_holder_whose_exit_takes_long(lab: Lab) -> None:
    """It no longer has an fd table, and the kernel has not closed the pipe yet."""
    with delayed("sock:inet_sock_set_state", 40):
        traced = lab.trace(lab.program("slow_exit.py", "--who", "holder", "--comm", COMM))
    [spawn] = traced.spawns()
    ongoing, ended = (each for each in traced.reports if each["type"] == "stall")
    for stall in (ongoing, ended):
        [holder] = stall["holders"]
        assert (holder["pid"], holder["cause"]) == (spawn["holder"], "forked")
        assert holder["exiting_seconds"] == pytest.approx(0.3, abs=0.25)
    assert f"Pid {spawn['holder']} ({COMM}) is exiting" in ongoing["release"]
    assert ended["holders"][0]["released_by"] == "exit"
    assert ended["stall_seconds"] == pytest.approx(spawn["seconds"], abs=0.25)
    assert ended["stall_seconds"] > 2
    assert ended["late_wakeup_seconds"] == 0


def test_own_child_whose_exit_takes_long(lab: Lab) -> None:
    """It was killed before its exec, and the parent still waits for it."""
    with delayed("sock:inet_sock_set_state", 40):
        traced = lab.trace(lab.program("slow_exit.py", "--who", "child", "--comm", COMM))
    [spawn] = traced.spawns()
    ongoing, ended = traced.of("wait")
    assert (ongoing["kind"], ongoing["state"], ongoing["child"]["pid"]) == (
        "own_child",
        "ongoing",
        spawn["child"],
    )
    assert "the child is exiting" in ongoing["headline"]
    assert (ended["id"], ended["state"]) == (ongoing["id"], "ended")
    assert "and has closed its files" in ended["ending"]
    assert traced.of("stall") == []


def test_exec_just_after_the_close_of_a_parent_that_polls(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads only at the end, so the copies are not counted again while it waits."""
    short, long = "#define CLOSING_NS   50000 ", "#define CLOSING_NS   20000000 "
    sources = [tmp_path / source.name for source in loader._SOURCES]
    for source, copy in zip(loader._SOURCES, sources):
        copy.write_text(source.read_text().replace(short, long))
    assert any(long in copy.read_text() for copy in sources)
    monkeypatch.setattr(loader, "_SOURCES", tuple(sources))
    monkeypatch.setenv("CACHE_DIRECTORY", "")
    command = lab.program("close_then_read.py", "--poll", "--count", "8", "--around", "2", "--live", "0.5")
    seen = Seen()
    with seen.tracer as tracer:
        assert tracer.start() is None
        printed = seen.poll_beside(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    holders = {spawn["child"]: spawn["holder"] for spawn in json_lines(printed) if spawn["kind"] == "spawn"}
    ended = [stall for stall in seen.stalls if stall.ended is not None and stall.spawn.child in holders]
    assert {stall.spawn.child: stall.culprit.pid for stall in ended} == holders


def test_helper_that_closes_a_copy_before_its_parent_reads(lab: Lab) -> None:
    """It is about to call exec again, whether its parent has begun to read or not."""
    traced = lab.trace(lab.program("sibling_execs_twice.py"))
    [spawn] = [each for each in traced.spawns() if each["role"] == "stalled"]
    [stall] = traced.of("stall")
    [holder] = stall["holders"]
    assert (holder["pid"], holder["cause"], holder["released_by"]) == (spawn["holder"], "late_exec", "close")
    assert {each["cause"] for each in traced.summary["exposures"]} <= {"late_exec"}
    assert traced.summary["spawns"] == 2
