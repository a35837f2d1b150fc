# SPDX-License-Identifier: Apache-2.0
"""Every installed CPython: they differ in the use of fork, vfork and posix_spawn, so in having an errpipe."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, Traced
from tests.runtimes.preload import Preload

_PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
_FOUND = [Path(PYTHON), *sorted(_PYENV.glob("versions/[0-9]*/bin/python"))]
_WAYS = ("plain", "preexec_fn", "no_close_fds", "output")

each_python = pytest.mark.parametrize("python", _FOUND, ids=lambda path: str(path.parts[-3]))


def _version(python: Path) -> tuple[int, ...]:
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return tuple(int(part) for part in done.stdout.split())


def _with_errpipe(python: Path) -> int:
    """Return how many ways have one. posix_spawn has none: without close_fds since 3.8, mostly since 3.13."""
    version = _version(python)
    return len(_WAYS) - (version >= (3, 8)) - 2 * (version >= (3, 13))


def _command(lab: Lab, python: Path, *ways: str, program: str = "/bin/true") -> list[str]:
    script = lab.root / "tests" / "programs" / "runtimes" / "python_spawn.py"
    return [str(python), str(script), "--program", program, *ways]


def _outcomes(traced: Traced, count: int) -> list[str]:
    assert traced.status == 0
    assert len(traced.spawns()) == count
    assert traced.summary["lost_records"] == 0
    return [spawn["outcome"] for spawn in traced.of("spawn")]


@each_python
def test_plain_spawns(lab: Lab, python: Path) -> None:
    traced = lab.trace(_command(lab, python, *_WAYS))
    assert _outcomes(traced, len(_WAYS)) == ["ok"] * _with_errpipe(python)
    assert traced.of("stall") == []


@each_python
def test_program_that_does_not_exist(lab: Lab, python: Path) -> None:
    traced = lab.trace(_command(lab, python, *_WAYS, program="/no/such/program"))
    assert _outcomes(traced, len(_WAYS)) == ["exec_failed"] * _with_errpipe(python)
    assert all(spawn["failed"] for spawn in traced.spawns())
    assert traced.of("stall") == []


@each_python
def test_worker_that_never_execs(lab: Lab, preload: Preload, python: Path) -> None:
    ways = _WAYS if _with_errpipe(python) == len(_WAYS) else ("preexec_fn",)
    traced = lab.trace(preload.fork(_command(lab, python, *ways)))
    assert len(traced.spawns()) == len(ways)
    preload.assert_each_stalled(traced, "forked")


@each_python
def test_worker_beside_posix_spawn(lab: Lab, preload: Preload, python: Path) -> None:
    """Foreign holders of a data pipe are not reported."""
    traced = lab.trace(preload.fork(_command(lab, python, "no_close_fds")))
    assert len(traced.of("spawn")) == len(traced.of("stall")) == (_version(python) < (3, 8))


@each_python
def test_sibling_that_execs(lab: Lab, preload: Preload, python: Path) -> None:
    """Only Python 2 sets close-on-exec after creating its errpipe."""
    traced = lab.trace(preload.exec(_command(lab, python, "preexec_fn")))
    if _version(python) < (3,):
        preload.assert_each_stalled(traced, "leaked")
    else:
        assert _outcomes(traced, 1) == ["ok"]
        assert [stall for stall in traced.of("stall") if stall["stall_seconds"] > 0.1] == []
