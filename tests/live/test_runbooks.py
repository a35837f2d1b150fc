# SPDX-License-Identifier: Apache-2.0
"""The commands of the runbooks, run as they are written; their quoted output is what the tool prints."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agent import snapshot
from tests.live.lab import PYTHON, Lab, RunningAgent

pytestmark = pytest.mark.alone

_COMMAND = re.compile(
    r"(?:trace-popen|python3|curl|journalctl|systemctl|kubectl|kill|ps|cat|strace|grep|umount) "
)
_SECONDS = 3
"""How long trace-popen traces here, whatever the runbook says; without --duration, until this SIGINT."""


class Block(NamedTuple):
    """Commands of a runbook, and the output that it quotes below them."""

    runbook: str
    commands: tuple[str, ...]
    quoted: tuple[str, ...] = ()


class Run(NamedTuple):
    """Where a command is run, and words of the runbook that its output contains."""

    situation: str
    words: tuple[str, ...] = ()


_RUN = {
    "SpawnStallOngoing": {
        """journalctl -u spawnstall -o cat | grep '"state": "ongoing"' | tail -n 1""": Run(
            "hung", ('"state": "ongoing"',)
        ),
        "trace-popen --pid PID --snapshot": Run("hung", ("STALL IN PROGRESS",)),
        "trace-popen --pid PID": Run("hung", ("STALL IN PROGRESS",)),
        "ps -o pid,ppid,lstart,args -p HOLDER": Run("hung"),
        "kill HOLDER": Run("hung"),
    },
    "SpawnExecStuck": {
        """journalctl -u spawnstall -o cat | grep '"type": "wait"' | tail -n 1""": Run(
            "stuck", ('"type": "wait"',)
        ),
        "trace-popen --pid PID --snapshot": Run("stuck", ("has not called exec",)),
        "kill -KILL CHILD": Run("stuck"),
    },
    "SpawnStallTimeHigh": {
        "trace-popen --pid PID --duration 60 --steps": Run("stalling"),
        """trace-popen --pid PID --duration 60 --min-ms 1 --json | grep '"type": "stall"'""": Run(
            "stalling", ('"type": "stall"',)
        ),
    },
    "SpawnStallExposure": {
        "trace-popen --pid PID --duration 5m --min-ms 1 --steps": Run("stalling", ("forked",)),
    },
    "SpawnLatencyHigh": {
        "cat /proc/pressure/cpu /proc/pressure/memory": Run("slow"),
        "trace-popen --pid PID --all --duration 30": Run("slow"),
    },
    "SpawnExecSlow": {
        """trace-popen --pid PID --all --duration 30 --json | grep '"type": "spawn"'""": Run(
            "slow", ('"type": "spawn"', "exec_seconds", "spawn_seconds")
        ),
        "ps --ppid PID -o pid,stat,wchan:32,etime,args": Run("slow"),
    },
    "SpawnStallAgentBlind": {
        "curl -sS http://127.0.0.1:9848/metrics | "
        "grep -E 'selftest|attached|lost|misses|failed|unfinished|evictions|entries|overflowed|cut'": Run(
            "hung",
            ("selftest", "attached", "lost", "misses", "failed", "evictions", "entries", "overflowed", "cut"),
        ),
        "trace-popen --pid PID --snapshot": Run("hung"),
    },
    "SpawnStallAgentDown": {
        "curl -sS http://HOST:9848/healthz": Run("hung"),
        "trace-popen --pid PID --snapshot": Run("hung"),
        "trace-popen agent --check --config FILE": Run("hung"),
    },
}
"""By runbook. A command that ends a process is run at the end."""

_SERVICE = "the service is not installed here; tests/live/test_service.py runs its unit"
_STATE = "for a state that the child here is not in"
_NOT_RUN = {
    "journalctl -u spawnstall -n 50": _SERVICE,
    "systemctl restart spawnstall": _SERVICE,
    "systemctl status spawnstall; journalctl -u spawnstall -n 50": _SERVICE,
    "kill -CONT CHILD": _STATE,
    "umount -fl": f"{_STATE}, and not complete",
    "kill -KILL CHILD": "run for SpawnExecStuck only; elsewhere the child is gone after a moment",
    "grep -rn preexec_fn": "not complete: it searches the program's source",
    "strace -f -r -p PID": "strace may be missing, and runs until Ctrl-C",
}


def _blocks(file: Path) -> list[Block]:
    """Return the commands in indented blocks and in code spans."""
    text = file.read_text()
    blocks: list[Block] = []
    for found in re.finditer(r"(?:^    .*\n)+", text, re.MULTILINE):
        lines = [line[4:] for line in found[0].splitlines()]
        if _COMMAND.match(lines[0]):
            commands = tuple(re.sub(r"\s+# .*", "", line) for line in lines)
            assert all(_COMMAND.match(command) for command in commands), (file.name, commands)
            blocks.append(Block(file.stem, commands))
        else:
            blocks[-1] = blocks[-1]._replace(quoted=(*blocks[-1].quoted, "\n".join(lines)))
    prose = re.sub(r"^    .*\n", "", text, flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [*blocks, *(Block(file.stem, (span,)) for span in spans if _COMMAND.match(span))]


def _all_blocks(root: Path) -> list[Block]:
    files = sorted((root / "dashboards" / "runbooks").glob("*.md"))
    return [block for file in files for block in _blocks(file)]


def test_every_command_is_run_or_has_a_reason_not_to_be(repo_root: Path) -> None:
    blocks = _all_blocks(repo_root)
    found = {(block.runbook, command) for block in blocks for command in block.commands}
    run = {(runbook, command) for runbook, commands in _RUN.items() for command in commands}
    assert run <= found
    assert {command for _, command in found - run} == set(_NOT_RUN)
    for runbook, commands in _RUN.items():
        text = (repo_root / "dashboards" / "runbooks" / f"{runbook}.md").read_text()
        assert all(word in text for each in commands.values() for word in each.words), runbook
    assert {block.runbook for block in blocks if block.quoted} == {
        "SpawnExecStuck",
        "SpawnLatencyHigh",
        "SpawnStallOngoing",
        "SpawnStallTimeHigh",
    }


class Shell:
    """Runs the commands of runbooks against processes and an agent of this test."""

    def __init__(self, lab: Lab, names: dict[str, str]) -> None:
        self._lab = lab
        self._names = names
        self._bin = lab.folder / "bin"
        self._bin.mkdir()
        self._script("trace-popen", f'exec {" ".join(lab.trace_popen)} "$@"')
        # journald would store what the agent of this test writes to its log.
        log = lab.folder / "agent.log"
        self._script("journalctl", f'[ "$*" = "-u spawnstall -o cat" ] && exec cat {log}')
        self.outputs: dict[tuple[str, str], str] = {}

    def _script(self, name: str, body: str) -> None:
        script = self._bin / name
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)

    def run_all(self, situation: str) -> None:
        """Run every command for a situation; each succeeds, and prints its words."""
        for runbook, commands in _RUN.items():
            for command, run in commands.items():
                if run.situation == situation and not command.startswith("kill "):
                    output = self.run(command)
                    assert all(word in output for word in run.words), (command, output)
                    self.outputs[runbook, command] = output

    def run(self, command: str) -> str:
        """Run one command and return its output."""
        for name, value in self._names.items():
            command = re.sub(rf"\b{re.escape(name)}\b", value, command)
        command = re.sub(r"--duration \S+", f"--duration {_SECONDS}", command)
        if re.fullmatch(r"trace-popen --pid \d+", command):
            command = f"timeout --preserve-status -s INT {_SECONDS + 2} {command}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self._lab.root,
            env={**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def check_quotes(self, runbook: str) -> None:
        """Compare the output that a runbook quotes with that of the commands above it.

        Numbers and line breaks may differ, and ``...`` stands for more.
        """
        quoting = [
            block for block in _all_blocks(self._lab.root) if block.runbook == runbook and block.quoted
        ]
        assert quoting
        for block in quoting:
            outputs = [_pattern(self.outputs[runbook, command]) for command in block.commands]
            for quote in block.quoted:
                parts = [_pattern(part) for part in quote.split("...")]
                assert any(all(part in output for part in parts) for output in outputs), (quote, outputs)


def _pattern(text: str) -> str:
    """Replace line breaks, numbers, the units of durations, and the time of what is in progress."""
    text = re.sub(r"\d[\d.,:]*", "N", " ".join(text.split()))
    return re.sub(r"N (?:h N min|min N s|min|h|s|ms|us)\b", "N s", text).replace("now (N)", "N")


def _named(lab: Lab, name: str) -> str:
    """Return a Python whose comm is this name."""
    alias = lab.folder / name
    alias.symlink_to(PYTHON)
    return str(alias)


@contextlib.contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a process group of its own, and kill the group at the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as program:
        try:
            yield program
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)


def _hung(pid: int) -> snapshot.Look:
    """Wait until a process hangs for longer than a second, and return what it waits for."""
    deadline = time.monotonic() + 30
    while not ((look := snapshot.look(pid)).stalls or any(wait.kind == "own_child" for wait in look.waits)):
        assert time.monotonic() < deadline, look.nothing
        time.sleep(0.1)
    time.sleep(1.5)
    return look


def _agent_names(lab: Lab, agent: RunningAgent) -> dict[str, str]:
    own = f"127.0.0.1:{agent.port}"
    return {"127.0.0.1:9848": own, "HOST:9848": own, "FILE": str(lab.folder / "agent.yaml")}


def test_a_program_that_is_stuck_behind_a_holder(lab: Lab) -> None:
    _, *program = lab.program("fork_beside_popen.py", "--force", "1", "--live", "600", "--plain", "0")
    with _running(_named(lab, "web-app"), *program) as hung, lab.agent(filter={"comm": ["web-app"]}) as agent:
        holder = _hung(hung.pid).stalls[0].holders[0].pid
        agent.wait_until(lambda: '"state": "ongoing"' in agent.log())
        names = {"PID": str(hung.pid), "HOLDER": str(holder), **_agent_names(lab, agent)}
        shell = Shell(lab, names)
        shell.run_all("hung")
        shell.check_quotes("SpawnStallOngoing")
        shell.run("kill HOLDER")
        assert hung.wait(30) == 0


_STUCK = """
import subprocess, threading
lock = threading.Lock()
lock.acquire()
print(subprocess.Popen(["/bin/true"], preexec_fn=lock.acquire).wait())
"""


def test_an_own_child_that_is_stuck(lab: Lab) -> None:
    with (
        lab.agent(filter={"comm": ["stuck-app"]}) as agent,
        _running(_named(lab, "stuck-app"), "-c", _STUCK) as stuck,
    ):
        [wait] = _hung(stuck.pid).waits
        agent.wait_until(lambda: '"type": "wait"' in agent.log(), 20)
        shell = Shell(lab, {"PID": str(stuck.pid), "CHILD": str(wait.child)})
        shell.run_all("stuck")
        shell.check_quotes("SpawnExecStuck")
        shell.run("kill -KILL CHILD")
        assert stuck.communicate(timeout=30)[0] == "-9\n"


def test_a_program_with_stalls(lab: Lab) -> None:
    _, *program = lab.program("fork_beside_popen.py", "--force", "100000", "--live", "0.3")
    with _running(_named(lab, "web-app"), *program) as stalling:
        shell = Shell(lab, {"PID": str(stalling.pid)})
        shell.run_all("stalling")
        shell.check_quotes("SpawnStallTimeHigh")


def test_a_program_whose_children_are_slow_to_exec(lab: Lab) -> None:
    _, *program = lab.program("slow_preexec_own.py", "--count", "100000", "--sleep", "0.8")
    with _running(_named(lab, "slow-app"), *program) as slow:
        shell = Shell(lab, {"PID": str(slow.pid)})
        shell.run_all("slow")
        shell.check_quotes("SpawnLatencyHigh")
