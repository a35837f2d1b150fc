# SPDX-License-Identifier: Apache-2.0
"""Deliberate losses: the counters show each one, and no process is named that did not hold the pipe."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest

from agent.model import Cause, Outcome
from probes.perfevent import online_cpus
from tests.live.lab import PYTHON, Lab, json_lines
from tests.live.seen import Seen

pytestmark = pytest.mark.alone

_NAME = b"losses-test"
_NAMED = f"open('/proc/self/comm', 'w').write('{_NAME.decode()}')\n"
"""The first line of a program, whose stalls are then told from those of other programs on this host."""


def test_how_a_holder_that_was_evicted_got_its_copy_is_unknown(lab: Lab) -> None:
    """The worker and many others are forked with a copy; only the worker is left. Nobody passed it on."""
    processes = 200 + 128 * len(online_cpus())
    seen = Seen(max_processes=16)
    with seen.tracer as tracer:
        assert tracer.start() is None
        printed = seen.poll_beside(_start(lab.program("evicted_worker.py", "--others", str(processes))))
    [spawn] = json_lines(printed)[:1]
    [stall] = [each for each in seen.stalls if each.spawn.pid == spawn["pid"] and each.ended is not None]
    [holder] = [each for each in stall.holders if each.pid == spawn["holder"]]
    assert holder.cause is Cause.UNKNOWN


def test_pipe_whose_numbers_cannot_be_read_is_counted(repo_root: Path, tmp_path: Path) -> None:
    """Another thread unmaps the memory before pipe2 returns to user space."""
    program = tmp_path / "taken_page"
    source = repo_root / "tests/programs/taken_page.c"
    subprocess.run(["gcc", "-O2", "-pthread", "-o", program, source], check=True)
    seen = Seen()
    with seen.tracer as tracer:
        assert tracer.start() is None
        with subprocess.Popen([str(program)]) as process:
            while process.poll() is None and not tracer.counters()["updates_failed"]:
                tracer.run_once(0.05)
            process.kill()
        assert tracer.counters()["updates_failed"] >= 1


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_pipes_without_a_place_are_counted() -> None:
    """A map full of young idle pipes refuses others; reports about the Popens that are followed are right."""
    code = (
        "import os, subprocess, threading\n"
        "done = threading.Event()\n"
        "def hold():\n"
        "    os.pipe(); done.wait()\n"
        "threads = [threading.Thread(target=hold) for _ in range(100)]\n"
        "for thread in threads: thread.start()\n"
        "subprocess.Popen(['/bin/true']).wait()\n"
        "done.set()\n"
    )
    seen = Seen(max_spawns=64)
    with seen.tracer as tracer:
        assert tracer.start() is None
        seen.poll_beside(_start([PYTHON, "-c", _NAMED + code]))
        assert tracer.counters()["spawns_refused"] >= 30
    assert [stall for stall in seen.stalls if stall.spawn.comm == _NAME] == []


def test_idle_pipes_make_room(lab: Lab) -> None:
    """Pipes without a fork release their entries after a second: a stall beside them is found."""
    seen = Seen(max_spawns=64)
    with seen.tracer as tracer:
        assert tracer.start() is None
        code = (
            "import os, sys, threading, time\n"
            "done = threading.Event()\n"
            "def hold():\n"
            "    os.pipe(); done.wait()\n"
            "for _ in range(64): threading.Thread(target=hold, daemon=True).start()\n"
            "time.sleep(1.5)\n"
            "sys.argv[1:] = ['--force', '1', '--live', '0.3', '--plain', '0']\n"
            "sys.path.insert(0, 'tests/programs')\n"
            "exec(open('tests/programs/fork_beside_popen.py').read())\n"
        )
        command = [PYTHON, "-c", code]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=lab.root)
        printed = json_lines(seen.poll_beside(process))
        assert tracer.counters()["pipes_forgotten"] >= 1
    [worker] = [line["pid"] for line in printed if line["kind"] == "worker"]
    [stall] = [stall for stall in seen.stalls if stall.spawn.pid == process.pid and stall.ended is not None]
    assert stall.culprit.pid == worker


def test_records_lost_by_a_small_perf_buffer_are_counted(lab: Lab) -> None:
    seen = Seen(buffer_pages=1)
    with seen.tracer as tracer:
        assert tracer.start() is None
        program = _start(lab.program("many_popen.py", "--count", "400"))
        program.wait(60)  # no record is read meanwhile
        seen.poll_beside(program)
        lost = tracer.counters()["records_lost"]
        counted = sum(stats.ok for stats in tracer.comm_stats().values())
    received = sum(1 for spawn in seen.spawns if spawn.pid == program.pid)
    assert lost > 0
    assert received + lost >= 400
    assert counted >= 400  # the aggregates are in the kernel and lose nothing
    assert [stall for stall in seen.stalls if stall.spawn.pid == program.pid] == []


def test_a_tracer_that_waits_for_a_cpu_loses_nothing() -> None:
    """In a storm it can wait for a second, in which a CPU sends more than a thousand records."""
    seen = Seen()
    with seen.tracer as tracer:
        assert tracer.start() is None
        code = (
            "import os, subprocess\n"
            "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
            "for _ in range(2000): subprocess.Popen(['/bin/true']).wait()\n"
        )
        program = _start([PYTHON, "-c", code])
        program.wait(60)  # no record is read meanwhile
        seen.poll_beside(program)
        assert tracer.counters()["records_lost"] == 0
    assert sum(1 for spawn in seen.spawns if spawn.pid == program.pid) >= 2000


def test_tracer_started_in_the_middle_of_a_spawn(lab: Lab) -> None:
    """The kernel side does not know a spawn that began earlier; its stall is found in /proc."""
    command = lab.program("fork_beside_popen.py", "--force", "2", "--live", "6", "--plain", "0")
    program = _start(command)
    time.sleep(0.7)
    seen = Seen()
    with seen.tracer as tracer:
        assert tracer.start() is None
        printed = json_lines(seen.poll_beside(program))
    stalled = {line["child"]: line["worker"] for line in printed if line.get("worker")}
    reported = {
        stall.spawn.child: stall.culprit.pid
        for stall in seen.stalls
        if stall.spawn.pid == program.pid and stall.ended is not None
    }
    assert len(stalled) == 2
    assert reported == stalled


def test_agent_that_is_stopped_under_load(lab: Lab) -> None:
    """The kernel side continues; records that it cannot send are counted, and the others are right."""
    with lab.agent(stalls={"min_ms": 5}) as agent:
        agent.process.send_signal(signal.SIGSTOP)
        command = lab.program("fork_beside_popen.py", "--seconds", "10", "--live", "0.02")
        printed = json_lines(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        agent.process.send_signal(signal.SIGCONT)
        time.sleep(1)
        spawned = {line["child"] for line in printed if line["kind"] == "spawn"}
        workers = {line["pid"] for line in printed if line["kind"] == "worker"}
        mine = [stall for stall in agent.stalls() if stall["child"]["pid"] in spawned]
        assert mine
        for stall in mine:
            assert stall["holders"][0]["pid"] in workers
        metrics = agent.metrics()
        total = metrics["spawnstall_spawns_total", (("comm", "python3"), ("outcome", "ok"))]
        assert total >= len(spawned)
        assert metrics["spawnstall_records_lost_total", ()] == 0
        assert metrics["spawnstall_oldest_stall_start_timestamp_seconds", ()] == 0


_SHARES = """
    if os.fork() == 0:
        if libc.syscall(56, CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0) == 0:
            time.sleep(1.5)
        os._exit(0)
"""
_LEAVES = """
    def other():
        {leave}
        {other}
        time.sleep(1.5)
    if os.fork() == 0:
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        {main}
        thread.join()
        os._exit(0)
"""
_UNSHARE = "libc.unshare(CLONE_FILES)"
_CLOSE_RANGE = "libc.syscall(436, 1000, 1001, CLOSE_RANGE_UNSHARE)"
_CLOSE_ALL = "os.closerange(3, 100)"
_TABLES = {
    "shared": _SHARES,
    "unshared-and-kept": _LEAVES.format(leave=_UNSHARE, other="", main=_CLOSE_ALL),
    "unshared-and-closed": _LEAVES.format(leave=_UNSHARE, other=_CLOSE_ALL, main=""),
    "close_range-and-kept": _LEAVES.format(leave=_CLOSE_RANGE, other="", main=_CLOSE_ALL),
    "close_range-and-closed": _LEAVES.format(leave=_CLOSE_RANGE, other=_CLOSE_ALL, main=""),
}
_TABLE_PROGRAM = """
import ctypes, os, signal, subprocess, sys, threading, time
sys.path.insert(0, 'tests/programs')
from _spawns import HookedEnv
libc = ctypes.CDLL(None)
CLONE_FILES, CLOSE_RANGE_UNSHARE = 0x400, 2
def fork():
    {fork}
def hook():
    thread = threading.Thread(target=fork); thread.start(); thread.join()
popen = subprocess.Popen(['/bin/true'], env=HookedEnv(hook))
"""


@pytest.mark.parametrize("how", _TABLES)
def test_holder_that_shares_or_splits_its_fd_table(lab: Lab, how: str) -> None:
    """A close by a thread does not show the end of its copies. Its exit does if the last thread has one."""
    seen = Seen(min_ns=100_000_000)
    with seen.tracer as tracer:
        assert tracer.start() is None
        code = _TABLE_PROGRAM.format(fork=_TABLES[how].strip())
        process = subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, text=True, cwd=lab.root)
        seen.poll_beside(process)
        assert tracer.counters()["tables_shared"] >= 1
    [ended] = [stall for stall in seen.stalls if stall.spawn.pid == process.pid and stall.ended is not None]
    assert ended.ended is not None
    assert ended.ended - ended.began > 1_000_000_000
    culprit = ended.culprit
    if culprit.cause is Cause.FORKED:
        assert how != "shared"  # the other process has the copy for longer
        assert culprit.parent == process.pid
    else:
        assert culprit.cause is Cause.UNKNOWN


_SHARING_CHILD = """
import ctypes, os, signal, sys, time
sys.path.insert(0, 'tests/programs')
from _spawns import TRUE, wait_for_exec
CLONE_FILES = 0x400
read_end, write_end = os.pipe2(os.O_CLOEXEC)
start = time.monotonic()
child = os.fork()
if child == 0:
    if ctypes.CDLL(None).syscall(56, CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(0.5)
        os._exit(0)
    os.execv({program}, TRUE) if {program} else os._exit(0)
wait_for_exec(start, read_end, write_end, child)
time.sleep(2.5)  # what has not finished after two seconds is counted
"""


@pytest.mark.parametrize("program", ["/bin/true", None], ids=["exec", "exit"])
def test_own_child_that_shares_its_fd_table(lab: Lab, program: Optional[str]) -> None:
    """Its exec gives it a table of its own, so it is counted; the other process keeps the copy."""
    seen = Seen()
    with seen.tracer as tracer:
        assert tracer.start() is None
        code = _SHARING_CHILD.format(program=repr(program))
        process = subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, text=True, cwd=lab.root)
        seen.poll_beside(process)
        assert tracer.counters()["tables_shared"] >= 1
        assert tracer.counters()["spawns_unfinished"] == 0
    stalls = [stall for stall in seen.stalls if stall.spawn.pid == process.pid]
    if program is None:  # a worker that never tried to exec
        assert stalls == []
        return
    [spawn] = [spawn for spawn in seen.spawns if spawn.pid == process.pid]
    assert spawn.outcome is Outcome.OK
    [ended] = [stall for stall in stalls if stall.ended is not None]
    assert (ended.ended or 0) - ended.began > 300_000_000
    assert ended.culprit.cause is Cause.UNKNOWN


def test_full_map_of_spawns_is_counted(lab: Lab) -> None:
    """With more spawns in flight than the map has room for, some are dropped and none is reported wrongly."""
    code = (
        "import os, subprocess, threading\n"
        "done = threading.Event()\n"
        "def hold():\n"
        "    os.pipe(); done.wait()\n"
        "children = []\n"
        "for _ in range(30):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        threads = [threading.Thread(target=hold) for _ in range(10)]\n"
        "        for thread in threads: thread.start()\n"
        "        subprocess.Popen(['/bin/true']).wait()\n"
        "        done.set(); os._exit(0)\n"
        "    children.append(pid)\n"
        "for pid in children: os.waitpid(pid, 0)\n"
    )
    seen = Seen(max_spawns=64)
    with seen.tracer as tracer:
        assert tracer.start() is None
        seen.poll_beside(_start([PYTHON, "-c", _NAMED + code]))
        counters = tracer.counters()
    assert counters["spawns_refused"] + counters["pipes_forgotten"] > 0
    assert [stall for stall in seen.stalls if stall.spawn.comm == _NAME] == []


def test_spawns_whose_child_was_evicted_are_counted(compiled: Callable[..., str]) -> None:
    """More own children live at once than the map has room for: nearly all spawns are reported or counted.

    Of a parent that is evicted between its pipe2 and its fork, only the eviction is counted.
    """
    processes, threads = 4, 100 + 32 * len(online_cpus())
    seen = Seen(max_processes=16, min_ns=3_600_000_000_000)
    with seen.tracer as tracer:
        assert tracer.start() is None
        seen.poll_beside(_start([compiled("in_flight"), str(processes), str(threads)]))
        counters, processes_map = tracer.counters(), tracer.map_uses()["processes"]
    reported = len([spawn for spawn in seen.spawns if spawn.comm == b"in_flight"])
    assert 0 < reported < processes * threads
    lost = counters["spawns_unfinished"] + counters["records_lost"]
    assert lost >= 0.98 * (processes * threads - reported)
    assert (processes_map.evictions or 0) > 0


def test_stalls_of_evicted_threads_end(compiled: Callable[..., str]) -> None:
    """More threads read at once than the map has room for: the kernel side misses the end of some reads."""
    threads = 600 + 128 * len(online_cpus())
    seen = Seen(max_threads=16)
    with seen.tracer as tracer:
        assert tracer.start() is None
        # What it prints at its end does not fit into the pipe, so that it stays.
        with _start([compiled("blocked_at_once"), str(threads), "2"]) as process:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                tracer.run_once(0.05)
                of_it = [stall for stall in seen.stalls if stall.spawn.pid == process.pid]
                in_progress = {stall.spawn.id for stall in of_it if stall.ended is None}
                ended = {stall.spawn.id for stall in of_it if stall.ended is not None}
                if in_progress and in_progress <= ended:
                    break
            process.kill()
    assert in_progress and in_progress <= ended


def test_full_map_of_processes_is_counted() -> None:
    """More holders live at once than the map has room for: the map drops some, and the counters show it.

    The map has more entries than asked for: a reserve for each CPU.
    """
    code = (
        "import os, signal, sys\n"
        "os.pipe()\n"
        "children = []\n"
        "for _ in range(int(sys.argv[1])):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: signal.pause()\n"
        "    children.append(pid)\n"
        "for pid in children: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)\n"
    )
    processes = 200 + 128 * len(online_cpus())
    seen = Seen(max_processes=16)
    with seen.tracer as tracer:
        assert tracer.start() is None
        seen.poll_beside(_start([PYTHON, "-c", _NAMED + code, str(processes)]))
        evictions = tracer.map_uses()["processes"].evictions
    assert evictions
    assert [stall for stall in seen.stalls if stall.spawn.comm == _NAME] == []


def test_rows_that_come_and_go_are_not_taken_for_evicted_ones(native_storm: str) -> None:
    """Each child has a row until its exec; a wrong count would raise an alert on every busy host."""
    seen = Seen()
    counts = []
    with seen.tracer as tracer:
        assert tracer.start() is None
        with subprocess.Popen([native_storm, "--count", "500"], stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                tracer.run_once(0)
                counts += [tracer.map_uses()["processes"] for _ in range(50)]
    assert max(use.entries for use in counts) > 1
    assert {use.evictions for use in counts} == {0}
