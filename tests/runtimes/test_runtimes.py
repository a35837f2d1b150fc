# SPDX-License-Identifier: Apache-2.0
"""Programs of other runtimes: their spawns are counted, and a foreign holder is found.

Each program of tests/programs/runtimes prints its spawns and how long they took. foreign_fork.c, preloaded,
gives each pipe that a program creates a foreign holder. `make setup-runtimes` installs what is needed.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.lab import Lab, Object, Traced
from tests.runtimes.preload import LIVE_SECONDS, LOOP_LIVE_SECONDS, Preload

_COUNT = 3


@dataclass(frozen=True)
class _Runtime:
    """One way to start a program.

    program: {folder} is tests/programs/runtimes, {built} the folder of the compiled ones.
    builder: the required tool, with the command that compiles the program, if any.
    errpipe: whether the runtime has one at all.
    late: its errpipe is not close-on-exec from the start, so a sibling's exec can keep it.
    """

    program: str
    builder: str = ""
    errpipe: bool = True
    late: bool = False


_RUST = "/usr/bin/rustc -O -o {built}/rust_spawn {folder}/rust_spawn.rs"
_GO = "/usr/bin/go build -o {built}/go_spawn {folder}/go_spawn.go"
_JAVA = "/usr/bin/javac -d {built} {folder}/JavaSpawn.java"
_C = "/usr/bin/gcc -O2 -Wall -Wextra -o {built}/c_spawn {folder}/c_spawn.c"
_JAVA_BY = "/usr/bin/java -Djdk.lang.Process.launchMechanism={} -cp {{built}} JavaSpawn"

_RUNTIMES = {
    "node": _Runtime("/usr/bin/node {folder}/node_spawn.js"),
    "go": _Runtime("{built}/go_spawn", _GO),
    "rust-pre_exec": _Runtime("{built}/rust_spawn --by pre_exec", _RUST),
    "ruby": _Runtime("/usr/bin/ruby {folder}/ruby_spawn.rb"),
    "perl-open": _Runtime("/usr/bin/perl {folder}/perl_spawn.pl --by open"),
    "perl-backticks": _Runtime("/usr/bin/perl {folder}/perl_spawn.pl --by backticks"),
    "perl-system": _Runtime("/usr/bin/perl {folder}/perl_spawn.pl --by system"),
    "java-posix_spawn": _Runtime(_JAVA_BY.format("POSIX_SPAWN"), _JAVA, late=True),
    "java-vfork": _Runtime(_JAVA_BY.format("VFORK"), _JAVA, late=True),
    "java-fork": _Runtime(_JAVA_BY.format("FORK"), _JAVA, late=True),
    "tcl": _Runtime("/usr/bin/tclsh {folder}/tcl_spawn.tcl", late=True),
    "glib": _Runtime("/usr/bin/python3 {folder}/glib_spawn.py", late=True),
    "git": _Runtime("/bin/sh {folder}/git_spawn.sh", late=True),
    "rust": _Runtime("{built}/rust_spawn", _RUST, errpipe=False),
    "rust-output": _Runtime("{built}/rust_spawn --by output", _RUST, errpipe=False),
    "c-posix_spawn": _Runtime("{built}/c_spawn", _C, errpipe=False),
    "c-popen": _Runtime("{built}/c_spawn --by popen", _C, errpipe=False),
    "c-system": _Runtime("{built}/c_spawn --by system", _C, errpipe=False),
}
_WITH_ERRPIPE = [name for name, runtime in _RUNTIMES.items() if runtime.errpipe]
_WITHOUT_ERRPIPE = [name for name, runtime in _RUNTIMES.items() if not runtime.errpipe]
_LATE = [name for name, runtime in _RUNTIMES.items() if runtime.late]
# Go's system calls bypass libc, so no worker can be forked when it creates a pipe.
_PRELOADED = [name for name in _WITH_ERRPIPE if name != "go"]
_AT_ONCE = [name for name in _PRELOADED if name not in _LATE]
_WITH_THREADS = ["go", "rust-pre_exec", "ruby", "java-posix_spawn", "java-vfork", "java-fork"]


class Runtimes:
    """Build the command lines of the programs; compile those that need it once."""

    def __init__(self, folder: Path, built: Path) -> None:
        self._places = {"folder": os.fspath(folder), "built": os.fspath(built)}
        self._built: set[str] = set()

    def command(self, name: str, *, count: int = _COUNT, program: str = "/bin/true") -> list[str]:
        """Return the command line that starts a program ``count`` times."""
        runtime = _RUNTIMES[name]
        command = self._words(runtime.program)
        builder = self._words(runtime.builder)
        for tool in (command[0], *builder[:1]):
            if not tool.startswith(self._places["built"]) and not Path(tool).exists():
                pytest.skip(f"no {tool}: make setup-runtimes installs it")
        if builder and runtime.builder not in self._built:
            cache = os.path.join(self._places["built"], "cache")  # noqa: PTH118
            subprocess.run(builder, env={**os.environ, "GO111MODULE": "off", "GOCACHE": cache}, check=True)
            self._built.add(runtime.builder)
        return [*command, "--count", str(count), "--program", program]

    def _words(self, text: str) -> list[str]:
        return [word.format(**self._places) for word in text.split()]


@pytest.fixture(scope="session")
def runtimes(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Runtimes:
    """The programs of all runtimes."""
    folder = repo_root / "tests" / "programs" / "runtimes"
    return Runtimes(folder, tmp_path_factory.mktemp("runtimes"))


def _assert_reported(traced: Traced, count: int) -> list[Object]:
    """Assert that the program made that many spawns, and that exactly these are reported."""
    assert traced.status == 0
    spawns = traced.spawns()
    assert len(spawns) == count
    reported = traced.of("spawn")
    assert {spawn["parent"]["pid"] for spawn in reported} <= {spawn["pid"] for spawn in spawns}
    children = {spawn["child"] for spawn in spawns} - {None}
    if children:
        assert {spawn["child"]["pid"] for spawn in reported if spawn["outcome"] == "ok"} <= children
    assert traced.summary["lost_records"] == 0
    return spawns


@pytest.mark.parametrize("name", _RUNTIMES)
def test_plain_spawns(lab: Lab, runtimes: Runtimes, name: str) -> None:
    traced = lab.trace(runtimes.command(name))
    _assert_reported(traced, _COUNT)
    assert [spawn["outcome"] for spawn in traced.of("spawn")] == ["ok"] * _COUNT * _RUNTIMES[name].errpipe
    assert traced.summary["spawns"] == len(traced.of("spawn"))
    assert [stall for stall in traced.of("stall") if stall["stall_seconds"] > 0.1] == []
    assert traced.of("exposure") == []


@pytest.mark.parametrize("name", _RUNTIMES)
def test_program_that_does_not_exist(lab: Lab, runtimes: Runtimes, name: str) -> None:
    traced = lab.trace(runtimes.command(name, program="/no/such/program"))
    assert all(spawn["failed"] for spawn in _assert_reported(traced, _COUNT))
    outcomes = [spawn["outcome"] for spawn in traced.of("spawn")]
    assert outcomes == ["exec_failed"] * _COUNT * _RUNTIMES[name].errpipe
    assert traced.of("stall") == []
    assert traced.of("exposure") == []


@pytest.mark.parametrize("name", _PRELOADED)
def test_worker_that_never_execs(lab: Lab, runtimes: Runtimes, preload: Preload, name: str) -> None:
    traced = lab.trace(preload.fork(runtimes.command(name)))
    _assert_reported(traced, _COUNT)
    preload.assert_each_stalled(traced, "forked")


@pytest.mark.parametrize("name", _LATE)
def test_copy_that_a_sibling_keeps_through_its_exec(
    lab: Lab, runtimes: Runtimes, preload: Preload, name: str
) -> None:
    """The errpipe is not yet close-on-exec, or never is in the parent."""
    traced = lab.trace(preload.exec(runtimes.command(name)))
    _assert_reported(traced, _COUNT)
    preload.assert_each_stalled(traced, "leaked")
    assert {stall["holders"][0]["comm"] for stall in traced.of("stall")} == {"sleep"}


@pytest.mark.parametrize("name", _AT_ONCE)
def test_close_on_exec_from_the_start(lab: Lab, runtimes: Runtimes, preload: Preload, name: str) -> None:
    traced = lab.trace(preload.exec(runtimes.command(name)))
    spawns = _assert_reported(traced, _COUNT)
    assert max(spawn["seconds"] for spawn in spawns) < LIVE_SECONDS
    assert [spawn["outcome"] for spawn in traced.of("spawn")] == ["ok"] * _COUNT
    assert [stall for stall in traced.of("stall") if stall["stall_seconds"] > 0.1] == []
    assert traced.of("exposure") == []


def test_go(lab: Lab, runtimes: Runtimes, preload: Preload) -> None:
    """A C thread, which does not take Go's ForkLock, forks continuously."""
    traced = lab.trace(preload.loop(runtimes.command("go", count=100)))
    waits = [s for s in _assert_reported(traced, 100) if s["seconds"] > LOOP_LIVE_SECONDS * 0.8]
    assert len(waits) >= 3
    assert preload.assert_waits_are_explained(traced) >= 3


@pytest.mark.parametrize("name", _WITHOUT_ERRPIPE)
@pytest.mark.parametrize("how", ["fork", "loop"])
def test_no_errpipe_no_report(lab: Lab, runtimes: Runtimes, preload: Preload, name: str, how: str) -> None:
    """Foreign holders of a data pipe are not reported."""
    command = runtimes.command(name, count=20 if how == "loop" else _COUNT)
    traced = lab.trace(preload.loop(command) if how == "loop" else preload.fork(command))
    spawns = traced.spawns()
    assert traced.status == 0
    if name == "rust-output" and how == "fork":
        assert min(spawn["seconds"] for spawn in spawns) > LIVE_SECONDS * 0.8
    assert traced.of("spawn") == []
    assert traced.of("stall") == []
    assert traced.of("exposure") == []
    assert traced.summary["spawns"] == 0


@pytest.mark.parametrize("name", _WITH_THREADS)
def test_many_threads(lab: Lab, runtimes: Runtimes, name: str) -> None:
    """Siblings can hold each other's errpipes, but only until their exec, and all are counted."""
    traced = lab.trace([*runtimes.command(name, count=25), "--threads", "8"])
    spawns = _assert_reported(traced, 200)
    assert {spawn["outcome"] for spawn in traced.of("spawn")} == {"ok"}
    assert traced.summary["spawns"] == 200
    children = {spawn["child"] for spawn in spawns}
    assert {spawn["child"]["pid"] for spawn in traced.of("spawn")} == children
    for stall in traced.of("stall"):
        assert {holder["pid"] for holder in stall["holders"]} <= children
        assert {holder["cause"] for holder in stall["holders"]} == {"late_exec"}
    assert traced.of("exposure") == []


def test_threads_that_create_their_first_pipes_at_once(lab: Lab, runtimes: Runtimes) -> None:
    """All of them need the process's table at the same time."""
    command = " ".join([*runtimes.command("rust-pre_exec", count=1), "--threads", "8"])
    traced = lab.trace(["/bin/sh", "-c", f"n=0; while [ $n -lt 150 ]; do {command}; n=$((n+1)); done"])
    assert len(traced.spawns()) == traced.summary["spawns"] == 1200


def test_goroutines_that_move_to_another_thread(lab: Lab, runtimes: Runtimes) -> None:
    """They move between errpipe and fork: another thread forks than the one that created the errpipe."""
    traced = lab.trace([*runtimes.command("go", count=500), "--threads", "8"])
    assert len(traced.spawns()) == 4000
    assert {spawn["outcome"] for spawn in traced.of("spawn")} == {"ok"}
    assert traced.summary["spawns"] == 4000


def test_job_control_of_bash(lab: Lab, repo_root: Path) -> None:
    """The pgrp pipe is a reversed errpipe: the child reads it, and the parent closes it."""
    program = repo_root / "tests" / "programs" / "runtimes" / "shell_pipes.sh"
    traced = lab.trace(["/bin/bash", str(program)])
    assert traced.status == 0
    assert traced.printed[-1]["value"] == "hi"
    assert traced.of("spawn") == []
    assert traced.of("stall") == []
    assert traced.of("exposure") == []
