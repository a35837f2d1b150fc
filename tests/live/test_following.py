# SPDX-License-Identifier: Apache-2.0
"""Waits and stalls that the first look of --pid finds: each is followed, and its end is reported once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence

import pytest

from agent import snapshot
from tests.live.lab import PYTHON, Lab, Object, json_lines
from tests.live.test_earlier import hung
from tests.live.test_snapshot_waits import hanging

_ENDS = {
    "grandchild_keeps_output": (signal.SIGKILL, "sleep (pid {holder}) has exited"),
    "child_that_lives": (signal.SIGKILL, "sh (pid {holder}) has exited"),
    "jobserver_kept_open": (signal.SIGKILL, "(pid {holder}) has exited"),
    "errpipe_in_poll": (signal.SIGKILL, "python3 (pid {holder}) has exited"),
    "own_child_is_stopped": (signal.SIGCONT, "its child python3 (pid {holder}) has "),
    "own_child_is_in_a_fork_hook": (signal.SIGKILL, "its child python3 (pid {holder}) has exited"),
}
_LASTING = ("child_that_is_stopped", "pipe_that_its_reader_holds")


def _start(lab: Lab, pids: Sequence[int], *options: str) -> subprocess.Popen[str]:
    """Start trace-popen, which begins with a look at /proc."""
    return subprocess.Popen(
        [
            *lab.trace_popen,
            *("--pid", ",".join(map(str, pids)), "--report", str(lab.folder / "report"), *options),
        ],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _trace(lab: Lab, pids: Sequence[int], *options: str) -> subprocess.Popen[str]:
    """Start trace-popen; return when it traces."""
    process = _start(lab, pids, *options)
    assert process.stderr is not None
    assert "tracing" in process.stderr.readline()
    return process


def _reports(lab: Lab) -> list[Object]:
    """What has been reported since the run began."""
    return json_lines((lab.folder / "report").read_text())[1:]


def test_the_end_of_each_wait_is_reported(lab: Lab) -> None:
    with contextlib.ExitStack() as stack:
        cases = {case: stack.enter_context(hanging(case, lab.folder)) for case in (*_ENDS, *_LASTING)}
        tracer = _trace(lab, [printed["program"] for printed in cases.values()], "--duration", "5")
        for case, (number, _) in _ENDS.items():
            os.kill(cases[case]["holder"], number)
        out, _ = tracer.communicate(timeout=60)
    *waits, summary = _reports(lab)
    first = {wait["id"]: wait for wait in waits if wait["state"] == "ongoing"}
    ended = {wait["id"]: wait for wait in waits if wait["state"] == "ended"}
    assert len(first) + len(ended) == len(waits)  # each id once
    assert ended.keys() <= first.keys()
    for case, (_, how) in _ENDS.items():
        printed = cases[case]
        [wait] = [
            wait
            for wait in ended.values()
            if wait["parent"]["pid"] == printed["parent"] and wait["kind"] in printed["kind"].split()
        ]
        assert how.format(holder=printed["holder"]) in wait["ending"]
        assert wait["ended"] > wait["time"] == first[wait["id"]]["time"]
    left = {wait["parent"]["pid"] for id_, wait in first.items() if id_ not in ended}
    assert left == {cases[case]["parent"] for case in _LASTING}
    assert (summary["waits"], summary["waits_in_progress"]) == (len(ended), len(_LASTING))
    assert (summary["stalls"], summary["ongoing"]) == (0, 0)
    assert tracer.returncode == 0
    assert sum(line.startswith("ENDED") for line in out.splitlines()) == len(ended)
    assert f"{len(ended)} ended, {len(_LASTING)} in progress" in out


@pytest.mark.parametrize("state", ["ongoing", "ended"])
def test_waits_are_no_stalls(lab: Lab, state: str) -> None:
    with hanging("grandchild_keeps_output", lab.folder) as printed:
        tracer = _trace(lab, [printed["program"]], "--duration", "2", "--fail-on-stall")
        if state == "ended":
            os.kill(printed["holder"], signal.SIGKILL)
        tracer.communicate(timeout=60)
    assert tracer.returncode == 0
    assert _reports(lab)[-1]["stalls"] == 0


# -- stalls --


def test_a_stall_that_ends_while_tracing_starts_has_ended_once(lab: Lab) -> None:
    """Usually the probes are not ready yet, so that only the look at /proc knows of it."""
    with hung(lab) as (pid, holder):
        tracer = _start(lab, [pid], "--duration", "2", "--fail-on-stall")
        deadline = time.monotonic() + 30
        while not (lab.folder / "report").exists() or not _reports(lab):
            assert time.monotonic() < deadline
        os.kill(holder, signal.SIGKILL)
        tracer.communicate(timeout=60)
    *stalls, summary = (each for each in _reports(lab) if each["type"] != "wait")
    assert [stall["state"] for stall in stalls] == ["ongoing", "ended"]
    assert stalls[0]["id"] == stalls[1]["id"]
    assert stalls[1]["stall_seconds"] >= stalls[0]["stall_seconds"]
    assert (summary["stalls"], summary["ongoing"]) == (1, 0)
    assert summary["holders"][0]["stalls"] == 1
    assert tracer.returncode == 3


_POSSIBLE = """
import os, socket
read, write = os.pipe()
ours, theirs = socket.socketpair()
socket.send_fds(ours, [b"x"], [write])
os.posix_spawn("/bin/true", ["/bin/true"], {})
os.close(write)
os.read(read, 50000)
"""
"""Its write end is in a queue, where /proc does not show it."""


@pytest.mark.parametrize("ends", [False, True])
def test_the_summary_counts_a_possible_stall(lab: Lab, ends: bool) -> None:
    """The tracer follows only what is certain."""
    with subprocess.Popen([PYTHON, "-c", _POSSIBLE]) as program:
        try:
            deadline = time.monotonic() + 30
            while not snapshot.take(program.pid):
                assert time.monotonic() < deadline
            time.sleep(1.5)  # shorter ones of an unknown holder are tolerated
            tracer = _trace(lab, [program.pid], "--duration", "3", "--fail-on-stall")
            if ends:
                program.kill()
            tracer.communicate(timeout=60)
        finally:
            program.kill()
    *stalls, summary = _reports(lab)
    assert {stall["certainty"] for stall in stalls} == {"possible"}
    assert [stall["state"] for stall in stalls] == ["ongoing", "ended"][: 1 + ends]
    assert (summary["stalls"], summary["ongoing"]) == ((1, 0) if ends else (0, 1))
    assert tracer.returncode == 3
