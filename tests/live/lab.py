# SPDX-License-Identifier: Apache-2.0
"""Run real programs under the real tracer, and return the output of both."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests import contract

PYTHON = "/usr/bin/python3"
TOLERANCE_SECONDS = float(os.environ.get("TEST_TOLERANCE_SECONDS", "0.1"))
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = float(os.environ.get("TEST_PATIENCE_SECONDS", "0"))
"""The least time that anything may take; an emulated machine is slow."""
Object = dict[str, Any]


@dataclass(frozen=True)
class Traced:
    """The output of a traced program, and the reports of trace-popen about it."""

    printed: list[Object]
    reports: list[Object]
    status: int

    def spawns(self) -> list[Object]:
        """Spawns that the program printed."""
        return [line for line in self.printed if line["kind"] == "spawn"]

    def of(self, kind: str) -> list[Object]:
        """Return the reports of one type; of stalls, the ended ones."""
        return [
            report
            for report in self.reports
            if report["type"] == kind and (kind != "stall" or report["state"] == "ended")
        ]

    @property
    def summary(self) -> Object:
        """The summary, which is the last report."""
        assert self.reports[-1]["type"] == "summary"
        return self.reports[-1]


def json_lines(text: str) -> list[Object]:
    """Parse the JSON lines in a text."""
    return [json_line(line) for line in text.splitlines() if line.startswith("{")]


def json_line(line: str) -> Object:
    """Parse one: of a program, or an object of ours, which must have the shape of the published schema."""
    found: Object = json.loads(line)
    return contract.checked(found) if "type" in found else found


class Lab:
    """Run programs of tests/programs, alone or traced."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self.trace_popen = [sys.executable, "-m", "agent"]

    def program(self, name: str, *arguments: str) -> list[str]:
        """Return the command line of a program of tests/programs."""
        path = self.root / "tests" / "programs" / name
        runner = {".py": [PYTHON], ".sh": ["/bin/sh"]}[path.suffix]
        return [*runner, str(path), *arguments]

    def trace(self, command: Sequence[str], *options: str, timeout: float = 120) -> Traced:
        """Run a command under trace-popen -- COMMAND, which reports every spawn."""
        reports = self.folder / "reports.json"
        done = subprocess.run(
            [*self.trace_popen, "--json", "--all", "-o", str(reports), *options, "--", *command],
            cwd=self.root,
            stdout=subprocess.PIPE,
            text=True,
            timeout=max(timeout, _PATIENCE_SECONDS),
            check=False,
        )
        return Traced(json_lines(done.stdout), json_lines(reports.read_text()), done.returncode)

    @contextlib.contextmanager
    def agent(self, poll_seconds: float = _POLL_SECONDS, **config: Any) -> Iterator[RunningAgent]:
        """Run the agent on a free port until the block ends; it is ended by SIGTERM.

        poll_seconds: how often it is asked whether it is ready.
        Its module needs the mark ``alone``: an agent sees the programs of all tests.
        """
        assert "PYTEST_XDIST_WORKER" not in os.environ, "mark this module with pytest.mark.alone"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        file = self.folder / "agent.yaml"
        file.write_text(json.dumps({"web": {"listen": f"127.0.0.1:{port}"}, **config}))
        log = self.folder / "agent.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*self.trace_popen, "agent", "--config", str(file)], cwd=self.root, stderr=stderr
            )
        agent = RunningAgent(process, port, log)
        try:
            agent.wait_until_ready(poll_seconds)
            yield agent
        finally:
            agent.stop()


class RunningAgent:
    """An agent in its own process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def get(self, path: str) -> str:
        """Return the body of a page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def status(self) -> Object:
        """Return the answer of /api/stalls, which must have the shape of the published schema."""
        return contract.checked_status(json.loads(self.get("/api/stalls")))

    def wait_until_ready(self, poll_seconds: float = _POLL_SECONDS) -> None:
        """Wait until /healthz answers."""
        deadline = time.monotonic() + max(120, _PATIENCE_SECONDS)
        while True:
            assert self.process.poll() is None, self._log.read_text()
            try:
                self.get("/healthz")
                return
            except OSError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(poll_seconds)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Return every sample by name and sorted labels."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
        }

    def log(self) -> str:
        """Return its standard error so far."""
        return self._log.read_text()

    def stalls(self) -> list[Object]:
        """Return the stalls in the log, ended and in progress."""
        return [each for each in json_lines(self.log()) if each["type"] == "stall"]

    def wait_until(
        self, holds: Callable[[], bool], seconds: float = 10, poll_seconds: float = _POLL_SECONDS
    ) -> None:
        """Wait until a condition holds; fail after some seconds."""
        deadline = time.monotonic() + max(seconds, _PATIENCE_SECONDS)
        while not holds():
            assert time.monotonic() < deadline, self.log()
            time.sleep(poll_seconds)

    def stop(self) -> float:
        """Send SIGTERM; return the seconds until the agent ended."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(max(10, _PATIENCE_SECONDS))
        return time.monotonic() - began
