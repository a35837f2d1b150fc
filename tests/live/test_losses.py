"""What can be lost is lost on purpose: the counters say so, and nobody is named who did not hold the pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from agent.model import Spawn, Stall
from agent.tracer import Tracer, TracerOptions
from tests.live.lab import PYTHON, Lab, json_lines

_SLOTS = 16


class _Seen:
    """A tracer in this process, and everything that it told."""

    def __init__(self, **options: object) -> None:
        self.stalls: list[Stall] = []
        self.spawns: list[Spawn] = []
        self.tracer = Tracer(
            TracerOptions(every=True, **options),  # type: ignore[arg-type]
            self.stalls.append,
            self.spawns.append,
        )

    def poll_beside(self, process: subprocess.Popen[str]) -> str:
        """Polls until a process has ended; what it printed."""
        while process.poll() is None:
            self.tracer.run_once(0.05)
        self.tracer.run_once(0.2)
        self.tracer.drain()
        assert process.stdout is not None
        return process.stdout.read()


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_full_slot_array_is_counted() -> None:
    """Every thread's last pipe takes a slot: the ones beyond are counted, and the Popens are right."""
    code = (
        "import os, subprocess, threading\n"
        "done = threading.Event()\n"
        "def hold():\n"
        "    os.pipe(); done.wait()\n"
        f"threads = [threading.Thread(target=hold) for _ in range({_SLOTS + 4})]\n"
        "for thread in threads: thread.start()\n"
        "subprocess.Popen(['/bin/true']).wait()\n"
        "done.set()\n"
    )
    seen = _Seen()
    with seen.tracer as tracer:
        assert tracer.start() is None
        seen.poll_beside(_start([PYTHON, "-c", code]))
        assert tracer.counters()["slots_overflowed"] >= 4
    assert seen.stalls == []


def test_perf_buffer_of_one_page_loses_records_and_says_so(lab: Lab) -> None:
    seen = _Seen(buffer_pages=1)
    with seen.tracer as tracer:
        assert tracer.start() is None
        program = _start(lab.program("many_popen.py", "--count", "400"))
        program.wait(60)  # meanwhile nobody takes the records
        seen.poll_beside(program)
        lost = tracer.counters()["records_lost"]
        counted = sum(program.ok for program in tracer.programs().values())
    told = sum(1 for spawn in seen.spawns if spawn.pid == program.pid)
    assert lost > 0
    assert told + lost >= 400
    assert counted >= 400  # the aggregates are in the kernel: they lose nothing
    assert [stall for stall in seen.stalls if stall.spawn.pid == program.pid] == []


def test_tracer_started_in_the_middle_of_a_spawn(lab: Lab) -> None:
    """What began before is not reported, what begins later is."""
    command = lab.program("fork_beside_popen.py", "--force", "2", "--live", "3", "--plain", "0")
    program = _start(command)
    time.sleep(0.7)
    seen = _Seen()
    with seen.tracer as tracer:
        assert tracer.start() is None
        said = json_lines(seen.poll_beside(program))
    stalled = {line["child"]: line["worker"] for line in said if line.get("worker")}
    told = {
        stall.spawn.child: stall.culprit.pid
        for stall in seen.stalls
        if stall.spawn.pid == program.pid and stall.ended is not None
    }
    assert len(stalled) == 2
    assert told == dict(list(stalled.items())[1:])


def test_agent_that_is_stopped_under_load(lab: Lab) -> None:
    """The kernel side goes on; what it could not tell is counted; what it tells is right."""
    with lab.agent(stalls={"min_ms": 5}) as agent:
        agent.process.send_signal(signal.SIGSTOP)
        command = lab.program("fork_beside_popen.py", "--seconds", "10", "--live", "0.02")
        said = json_lines(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        agent.process.send_signal(signal.SIGCONT)
        time.sleep(1)
        spawned = {line["child"] for line in said if line["kind"] == "spawn"}
        workers = {line["pid"] for line in said if line["kind"] == "worker"}
        mine = [stall for stall in agent.stalls() if stall["child"]["pid"] in spawned]
        assert mine
        for stall in mine:
            assert stall["holders"][0]["pid"] in workers
        metrics = agent.metrics()
        total = metrics["spawnstall_spawns_total", (("comm", "python3"), ("outcome", "ok"))]
        assert total >= len(spawned)
        assert metrics["spawnstall_records_lost_total", ()] == 0
        assert metrics["spawnstall_oldest_stall_start_timestamp_seconds", ()] == 0


def test_process_that_shares_its_fd_table_names_nobody(lab: Lab) -> None:
    """A holder that shares its table lives on in the other process: its exit is not the end of its copy."""
    code = (
        "import ctypes, os, signal, subprocess, sys, threading, time\n"
        "sys.path.insert(0, 'tests/programs')\n"
        "from _spawns import HookedEnv\n"
        "libc = ctypes.CDLL(None)\n"
        "def hook():\n"
        "    def fork():\n"
        "        if os.fork() == 0:\n"
        "            CLONE_FILES = 0x400\n"
        "            if libc.syscall(56, CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0) == 0:\n"
        "                time.sleep(1.5)\n"
        "            os._exit(0)\n"
        "    thread = threading.Thread(target=fork); thread.start(); thread.join()\n"
        "popen = subprocess.Popen(['/bin/true'], env=HookedEnv(hook))\n"
        "print(os.getpid(), flush=True)\n"
    )
    seen = _Seen(min_ns=100_000_000)
    with seen.tracer as tracer:
        assert tracer.start() is None
        process = subprocess.Popen(
            [PYTHON, "-c", code], stdout=subprocess.PIPE, text=True, cwd=lab.root, env=dict(os.environ)
        )
        seen.poll_beside(process)
        assert tracer.counters()["tables_shared"] >= 1
    [ended] = [stall for stall in seen.stalls if stall.spawn.pid == process.pid and stall.ended is not None]
    assert ended.culprit.cause.value == "unknown"
