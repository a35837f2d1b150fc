# SPDX-License-Identifier: Apache-2.0
"""What a process can claim on the real kernel: a container by a cgroup's name, an executable by a mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, Object

OUTER, INNER = "a1" * 32, "b2" * 32
# Enter cgroup $1, and execute program $3 under the path $2.
_PRETEND = """
echo $$ >"$1/cgroup.procs" && touch "$2" && mount --bind "$3" "$2" || exit
claimed=$2
shift 3
exec "$claimed" "$@"
"""


@pytest.fixture
def nested() -> Iterator[Path]:
    """A cgroup with the name of a container, in another one."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    roots = [Path(words[1]) for words in mounts if words[2] == "cgroup2"]
    if not roots:
        pytest.skip("no cgroup2 is mounted")
    outer = roots[0] / f"docker-{OUTER}.scope"
    inner = outer / f"docker-{INNER}.scope"
    inner.mkdir(parents=True)
    try:
        yield inner
    finally:
        for folder in (inner, outer):
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a cgroup, as soon as its processes have been reaped."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def _running(cgroup: Path) -> Iterator[None]:
    """A container has a process when it is named."""
    with subprocess.Popen(["sleep", "600"]) as process:
        (cgroup / "cgroup.procs").write_text(str(process.pid))
        yield
        process.kill()


def _stalls(lab: Lab, nested: Path, *options: str) -> list[Object]:
    claimed = lab.folder / "innocent"
    program = lab.program("fork_beside_popen.py", "--force", "1", "--plain", "0", "--live", "0.3")[1:]
    python = os.path.realpath(PYTHON)
    pretend = ["unshare", "-m", "sh", "-c", _PRETEND, "sh", str(nested), str(claimed), python, *program]
    return lab.trace(pretend, *options).of("stall")


def test_names_are_claims_but_the_outermost_container_and_the_user_are_not(lab: Lab, nested: Path) -> None:
    with _running(nested):
        (stall,) = _stalls(lab, nested, "--container", OUTER[:12])
    for process in (stall["parent"], stall["holders"][0]):
        assert process["container"]["id"] == OUTER
        assert process["exe"] == str(lab.folder / "innocent")
        assert process["uid"] == os.getuid()


def test_a_nested_cgroup_does_not_evade_the_filter(lab: Lab, nested: Path) -> None:
    """The inner one is no container, so it cannot be selected."""
    with _running(nested):
        done = subprocess.run(
            [*lab.trace_popen, "--container", INNER[:12], "--", "true"],
            cwd=lab.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert INNER[:12] in line
