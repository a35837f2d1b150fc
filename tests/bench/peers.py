# SPDX-License-Identifier: Apache-2.0
"""The peers of a measurement: no tracer, an empty program, the agent, and other tracers."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.bench import empty, tracers
from tests.bench.bench import Bench
from tests.live.lab import Lab

__all__ = [
    "AGENT",
    "EMPTY",
    "NOTHING",
    "CannotRunError",
    "Peer",
    "followers",
    "hosts",
    "tracepoints_of_the_agent",
]

NOTHING = "nothing"
EMPTY = "an empty program"
AGENT = "the agent"
_START_SECONDS = 30
_CALLS = ("pipe2", "clone", "clone3", "fork", "vfork", "execve", "close", "read", "dup2", "dup3", "fcntl")


class CannotRunError(Exception):
    """A peer does not run on this machine; the message is one line."""


@dataclass(frozen=True)
class Peer:
    """beside: yields the prefix of the measured command; raises CannotRunError."""

    name: str
    beside: Callable[[], AbstractContextManager[Sequence[str]]]


def tracepoints_of_the_agent(bench: Bench) -> list[str]:
    """Return those at which a running agent has a program here, or would have one without fentry."""
    with bench.lab.agent(probes={"attach": "tracepoints"}) as agent:
        metrics = agent.metrics()
    return [
        dict(labels)["probe"]
        for (name, labels), value in metrics.items()
        if name == "spawnstall_probe_attached" and value
    ]


def hosts(bench: Bench, tracepoints: Sequence[str]) -> list[Peer]:
    """Return those that trace the whole host: without a prefix of the command."""
    counter = f"{','.join(f'tracepoint:{name}' for name in tracepoints)} {{ @ = count(); }}"

    @contextlib.contextmanager
    def nothing() -> Iterator[Sequence[str]]:
        yield ()

    @contextlib.contextmanager
    def empty_program() -> Iterator[Sequence[str]]:
        with empty.attached(tracepoints, bench.folder):
            yield ()

    @contextlib.contextmanager
    def agent(lab: Lab) -> Iterator[Sequence[str]]:
        with lab.agent():
            yield ()

    ours = [
        Peer(NOTHING, nothing),
        Peer(EMPTY, empty_program),
        *(Peer(name, functools.partial(agent, lab)) for name, lab in bench.labs.items()),
    ]
    if bench.alone:
        return ours
    return [
        *ours,
        Peer("bpftrace, a counter", lambda: _running("bpftrace", "-e", counter)),
        Peer("execsnoop (libbpf-tools)", lambda: _running("execsnoop")),
        Peer("execsnoop (bcc)", lambda: _running("execsnoop-bpfcc")),
    ]


def followers(bench: Bench) -> list[Peer]:
    """Return those that trace one command and its descendants."""
    if bench.alone:
        return []
    calls = ",".join(_CALLS)
    ours = [sys.executable, "-m", "agent", "--json", "-o", "/dev/null", "--"]
    return [
        Peer("trace-popen -- COMMAND (as --pid)", lambda: _before(*ours)),
        Peer("perf trace", lambda: _before("perf", "trace", "-o", "/dev/null", "-e", calls, "--")),
        Peer("strace -f", lambda: _before("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}")),
    ]


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise CannotRunError(f"{name} is not installed: config/setup.sh bench installs it")
    return path


@contextlib.contextmanager
def _before(*command: str) -> Iterator[Sequence[str]]:
    yield (_found(command[0]), *command[1:])


@contextlib.contextmanager
def _running(*command: str) -> Iterator[Sequence[str]]:
    before = tracers.programs()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [_found(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
        )
        try:
            if not tracers.settle(process, before, _START_SECONDS):
                errors.seek(0)
                lines = errors.read().strip().splitlines()
                raise CannotRunError(lines[-1] if lines else f"{command[0]} did not start")
            yield ()
        finally:
            process.kill()  # it leaves nothing behind; bpftrace 0.17 sometimes ignores SIGINT
            process.wait()
