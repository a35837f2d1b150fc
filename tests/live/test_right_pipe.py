# SPDX-License-Identifier: Apache-2.0
"""Which pipe is the errpipe, however it is created, moved and waited for: each spawn is one stall."""

from __future__ import annotations

import ctypes.util
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.lab import PYTHON, TOLERANCE_SECONDS, Lab, Object
from tests.live.sidebyside import SideBySide, play

_AT_ONCE = 12
_HOLD_SECONDS = "2"  # long enough to be reported while in progress

_WAYS = {
    "plain": "",
    "errpipe-first": "--order ED",
    "errpipe-last": "--order DDE",
    "errpipe-between": "--order DED",
    "errpipe-first-of-three": "--order EDD",
    "errpipe-first-of-four": "--order EDDD",
    "errpipe-second-of-four": "--order DEDD",
    "errpipe-last-of-four": "--order DDDE",
    "moved-by-parent": "--move parent",
    "moved-by-parent-between-data-pipes": "--move parent --order DED",
    "moved-by-child": "--move child",
    "moved-by-child-between-data-pipes": "--move child --order DED",
    "moved-by-both": "--move parent --move child",
    "vfork": "--start vfork",
    "vfork-first-of-three": "--start vfork --order EDD",
    "double-fork": "--start double",
    "double-fork-errpipe-first": "--start double --order ED",
    "double-fork-moved-by-child": "--start double --move child",
    "poll-after-EAGAIN": "--wait poll",
    "epoll-after-EAGAIN": "--wait epoll",
    "select-after-EAGAIN": "--wait select",
    "poll-between-data-pipes": "--wait poll --order DED",
    "epoll-double-fork": "--wait epoll --start double",
    # Qt's QProcess polls before any read. Only the parent's close shows that the wait has begun.
    "poll-without-a-read-before": "--wait poll-first",
    "read-by-another-thread": "--wait thread",
    "slow-own-exec": "--slow 0.5",
    "slow-own-exec-double-fork": "--slow 0.5 --start double",
    "slow-own-exec-poll": "--slow 0.5 --wait poll",
}
_GLIB = "glib-g_spawn_async"
_CLOSED = "python-with-closed-standard-streams"
_OUTLIVED = "slow-own-exec-that-outlives-the-worker"


@pytest.fixture(scope="module")
def played(
    repo_root: Path, tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., str]
) -> SideBySide:
    """Trace all of them at once."""
    program = compiled("errpipe_ways")
    cases = {name: [program, "--hold", _HOLD_SECONDS, *way.split()] for name, way in _WAYS.items()}
    cases[_OUTLIVED] = [program, "--hold", "0.3", "--slow", "1.8"]
    closed = repo_root / "tests" / "programs" / "closed_std.py"
    cases[_CLOSED] = [PYTHON, str(closed), "--live", _HOLD_SECONDS]
    library = ctypes.util.find_library("glib-2.0")
    if library is not None:
        cases[_GLIB] = [compiled("glib_async", f"-l:{library}"), _HOLD_SECONDS]
    return play(repo_root, tmp_path_factory.mktemp("right_pipe"), cases, _AT_ONCE)


@pytest.mark.parametrize("name", [*_WAYS, _GLIB, _CLOSED])
def test_one_stall_by_its_worker(played: SideBySide, name: str) -> None:
    if name == _GLIB and not ctypes.util.find_library("glib-2.0"):
        pytest.skip("no libglib-2.0.so.0: libglib2.0-0 is not installed")
    assert played.case(name)["status"] == 0
    [spawn] = played.printed(name)
    stalls = played.of(name, "stall")
    assert [stall["state"] for stall in stalls] == ["ongoing", "ended"]
    ongoing, ended = stalls
    for stall in stalls:
        _assert_right(stall, spawn)
    assert ongoing["id"] == ended["id"]
    assert ongoing["stall_seconds"] < ended["stall_seconds"]
    expected = spawn["seconds"] - spawn["slow"]
    assert ended["stall_seconds"] == pytest.approx(expected, abs=5 * TOLERANCE_SECONDS)
    [report] = [report for report in played.of(name, "spawn") if report["child"]["pid"] == spawn["child"]]
    assert report["outcome"] == "ok"
    assert [(each["cause"], each["count"]) for each in played.of(name, "exposure")] == [("forked", 1)]


def _assert_right(stall: Object, spawn: Object) -> None:
    assert stall["parent"]["pid"] == spawn["pid"]
    assert stall["parent"]["tid"] == spawn["tid"]
    assert stall["child"]["pid"] == spawn["child"]
    first = stall["holders"][0]
    assert (first["pid"], first["cause"]) == (spawn["worker"], "forked")
    assert {holder["pid"] for holder in stall["holders"]} == {spawn["worker"]}


@pytest.mark.parametrize("name", ["slow-own-exec", "slow-own-exec-double-fork", "slow-own-exec-poll"])
def test_own_exec_is_not_part_of_the_stall(played: SideBySide, name: str) -> None:
    [spawn] = played.printed(name)
    [stall] = [stall for stall in played.of(name, "stall") if stall["state"] == "ended"]
    assert stall["exec_seconds"] == pytest.approx(spawn["slow"], abs=5 * TOLERANCE_SECONDS)


def test_worker_that_exits_before_the_own_exec_is_no_stall(played: SideBySide) -> None:
    assert played.case(_OUTLIVED)["status"] == 0
    assert played.of(_OUTLIVED, "stall") == []
    [report] = played.of(_OUTLIVED, "spawn")
    assert report["outcome"] == "ok"
    assert report["exec_seconds"] == pytest.approx(1.8, abs=5 * TOLERANCE_SECONDS)


def test_no_fd_is_negative(played: SideBySide) -> None:
    """An unknown fd is null or absent, never -1."""
    fds = [*_fds(played.traced.reports)]
    assert fds and min(fds) >= 0


def _fds(found: Any, key: str = "") -> Iterator[int]:
    """Yield the numbers under keys that name an fd, or fds, anywhere in an object."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _fds(value, name)
    elif isinstance(found, list):
        for each in found:
            yield from _fds(each, key)
    elif isinstance(found, int) and key.endswith(("fd", "fds")):
        yield found


def test_each_spawn_is_counted_once(played: SideBySide) -> None:
    """The other pipes of a program, and GLib's intermediate child, are not spawns."""
    children = sorted(spawn["child"] for spawn in played.traced.spawns())
    assert sorted(spawn["child"]["pid"] for spawn in played.traced.of("spawn")) == children
    assert played.traced.summary["spawns"] == len(children)


def test_nothing_else_is_reported(played: SideBySide) -> None:
    assert played.of_no_case("stall") == []
    known = {spawn["child"] for spawn in played.traced.spawns()}
    assert {stall["child"]["pid"] for stall in played.traced.of("stall")} <= known
    assert played.traced.summary["lost_records"] == 0


@pytest.mark.parametrize("how", ["live", "hung-already"])
def test_closed_standard_streams_as_text(lab: Lab, how: str) -> None:
    """The text contains no fd -1."""
    command = lab.program("closed_std.py", "--live", "3" if how == "live" else "8")
    if how == "live":
        printed = _text_of_trace_popen(lab, "--steps", "--", *command)
        assert "STALL" in printed
    else:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
            _wait_until_it_reads_fd_0(program.pid)
            printed = _text_of_trace_popen(lab, "--pid", str(program.pid), "--snapshot")
            program.kill()
    assert "fd -1" not in printed


def _text_of_trace_popen(lab: Lab, *arguments: str) -> str:
    """Return both outputs with spaces normalized."""
    done = subprocess.run(
        [*lab.trace_popen, *arguments],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def _wait_until_it_reads_fd_0(pid: int) -> None:
    """Wait for the read on its errpipe, which is fd 0 because its standard input is closed."""
    deadline = time.monotonic() + 20
    while not Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 "):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param("0p0 1f0 1c0", id="another-thread-forks"),
        pytest.param("0p0 1f0 0c0", id="another-thread-forks-and-the-first-closes"),
        pytest.param("0p0 0f0 1c0", id="another-thread-closes"),
        pytest.param("0p0 0f0 0p1 0f1 1c0 0c1", id="the-thread-starts-the-next"),
        pytest.param("0p0 0f0 0p1 0f1 0c0 0c1", id="the-thread-starts-the-next-and-closes-both"),
        pytest.param("0p0 1f0 0p1 0f1 1c0 0c1", id="another-thread-forks-and-the-first-starts-the-next"),
        pytest.param("0p0 1f0 0p1 0f1 2c1 2c0", id="a-third-thread-closes"),
        pytest.param("0p0 1f0 2p1 2f1 2c1 2c0", id="a-third-thread-starts-the-next"),
        pytest.param("0p0 1f0 0p1 1f1 0p2 1f2 1c1 1c0 1c2", id="another-thread-forks-for-all"),
        pytest.param("0p0 1f0 0p1 0f1 0p2 0f2 0p3 0f3 0p4 0f4 0p5 1c0 0c1 0c2 0c3 0c4", id="six-pipes"),
    ],
)
def test_goroutines(lab: Lab, compiled: Callable[..., str], steps: str) -> None:
    """Go moves goroutines between threads at any moment, and the threads run others."""
    traced = lab.trace([compiled("goroutines"), *steps.split()])
    children = sorted(spawn["child"] for spawn in traced.spawns())
    spawns = traced.of("spawn")
    assert len(children) == traced.summary["spawns"]
    assert sorted(spawn["child"]["pid"] for spawn in spawns) == children
    assert {spawn["outcome"] for spawn in spawns} == {"ok"}
    assert traced.of("stall") == []
