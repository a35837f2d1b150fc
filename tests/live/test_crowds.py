# SPDX-License-Identifier: Apache-2.0
"""Very many stalls, or very many open files, on the host: neither hides a stall beside them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.host import procfs
from agent.model import Stall
from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from tests.live.lab import PYTHON, Lab, Object, RunningAgent, json_lines

pytestmark = pytest.mark.alone

_HIDDEN = (40, 14)
"""Processes and threads: 560 stalls."""
_REAL = 6
_IN_TIME = 5.0
_PROCESSES, _FDS = 20, 10_000
_OPEN = """
import os, resource, sys, time
number = int(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (number + 64, hard))
null = os.open("/dev/null", os.O_WRONLY)
for _ in range(number): os.dup(null)
print(flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def _passed_copies(program: str, processes: int, threads: int, seconds: int) -> Iterator[int]:
    """Run passed_copies; yield the holder's pid when it has all copies."""
    command = [program, str(processes), str(threads), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield int(running.stdout.readline())


@contextlib.contextmanager
def _idle_fds() -> Iterator[None]:
    """200,000 open files, none of them a pipe."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < _FDS + 64:
        pytest.skip(f"a process may have only {hard} open files here")
    with contextlib.ExitStack() as running:
        started = []
        for _ in range(_PROCESSES):
            command = [PYTHON, "-c", _OPEN, str(_FDS)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            running.callback(process.wait)
            running.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
        yield


class _Health:
    """Asks for /healthz several times a second, in a thread."""

    def __init__(self, agent: RunningAgent) -> None:
        self.asked = 0
        self.failures: list[str] = []
        self._agent = agent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> _Health:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.2):
            self.asked += 1
            try:
                self._agent.get("/healthz")
            except (OSError, urllib.error.URLError) as error:
                self.failures.append(str(error))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _of(reports: list[Object], pid: int) -> list[Object]:
    return [each for each in reports if each["parent"]["pid"] == pid]


def test_stalls_beside_hundreds_whose_holder_no_probe_has_seen(
    lab: Lab, compiled: Callable[..., str]
) -> None:
    """Each is reported in time with its holder, the agent stays healthy and costs little."""
    program = compiled("passed_copies")
    forced = lab.program("fork_beside_popen.py", "--force", "1", "--live", "4", "--plain", "0")
    with lab.agent(log={"stalls_per_minute": 100_000}) as agent, _passed_copies(program, *_HIDDEN, 12):
        with _Health(agent) as health:
            began, before = time.monotonic(), _cpu_seconds(agent.process.pid)
            real = [subprocess.Popen(forced, stdout=subprocess.PIPE, text=True) for _ in range(_REAL)]
            printed = [json_lines(process.communicate()[0]) for process in real]
            agent.wait_until(
                lambda: all(len(_of(agent.stalls(), process.pid)) == 2 for process in real), _IN_TIME
            )
            share = (_cpu_seconds(agent.process.pid) - before) / (time.monotonic() - began)
        stalls = agent.stalls()
        print(f"the agent took {share:.1%} of a core")
        assert share < 0.5
        assert health.asked > 10
        assert health.failures == []
        for process, lines in zip(real, printed):
            [worker] = [line["pid"] for line in lines if line["kind"] == "worker"]
            ongoing, ended = _of(stalls, process.pid)
            assert (ongoing["state"], ended["state"]) == ("ongoing", "ended")
            assert ongoing["stall_seconds"] < 3
            for stall in (ongoing, ended):
                assert [holder["pid"] for holder in stall["holders"]] == [worker]
                assert stall["holders"][0]["cause"] == "forked"
                assert stall["holders"][0]["confirmed"]


def test_every_hidden_stall_is_reported_once(lab: Lab, compiled: Callable[..., str]) -> None:
    processes, threads = 10, 14
    with lab.agent() as agent:
        with _passed_copies(compiled("passed_copies"), processes, threads, 3) as holder:
            pass
        agent.wait_until(lambda: len(agent.stalls()) >= 2 * processes * threads)
        stalls = [stall for stall in agent.stalls() if stall["parent"]["comm"] == "passed_copies"]
    for state in ("ongoing", "ended"):
        those = [stall for stall in stalls if stall["state"] == state]
        assert len({stall["id"] for stall in those}) == len(those) == processes * threads
        assert {(each["pid"], each["cause"]) for stall in those for each in stall["holders"]} == {
            (holder, "passed")
        }


@pytest.mark.parametrize(
    "use_btf", [True, pytest.param(False, marks=pytest.mark.tracepoints)], ids=["iterator", "proc"]
)
def test_stalls_beside_two_hundred_thousand_open_files(lab: Lab, use_btf: bool) -> None:
    """Without the kernel's types the holder is found in /proc, which takes seconds."""
    stalls: list[Stall] = []
    with _idle_fds(), Tracer(TracerOptions(use_btf=use_btf), stalls.append) as tracer:
        assert tracer.start() is None
        command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "60", "--plain", "0")
        silent = 0.0
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            holder = None
            while holder is None:
                before = time.monotonic()
                assert before - began < 30
                tracer.run_once(0.05)
                silent = max(silent, time.monotonic() - before)
                for stall in tracer.ongoing:
                    if stall.spawn.pid == program.pid:
                        holder = stall.culprit.pid
            while not any(stall.spawn.pid == program.pid for stall in stalls):
                assert time.monotonic() - began < 30
                tracer.run_once(0.05)
            assert holder in procfs.descendants(program.pid)
            os.kill(holder, signal.SIGKILL)
            assert program.stdout is not None
            [worker] = [line["pid"] for line in json_lines(program.stdout.read()) if line["kind"] == "worker"]
    assert holder == worker
    assert silent < 1
