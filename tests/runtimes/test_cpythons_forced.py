"""Every CPython that is at hand: they differ in fork, vfork and posix_spawn, and in who has an errpipe."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, Traced
from tests.runtimes.test_runtimes import Preload

_PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
_FOUND = [Path(PYTHON), *sorted(_PYENV.glob("versions/[0-9]*/bin/python"))]
_COUNT = 3

each_python = pytest.mark.parametrize("python", _FOUND, ids=lambda path: str(path.parts[-3]))
each_way = pytest.mark.parametrize("by", ["plain", "preexec_fn", "no_close_fds", "output"])


@pytest.fixture
def preload(repo_root: Path, tmp_path: Path) -> Preload:
    """Foreign holders."""
    return Preload(repo_root, tmp_path)


def _version(python: Path) -> tuple[int, ...]:
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return tuple(int(part) for part in done.stdout.split())


def _has_errpipe(python: Path, by: str) -> bool:
    """posix_spawn has none: with close_fds=False since 3.8, by default since 3.13."""
    if by == "preexec_fn":
        return True
    return _version(python) < ((3, 8) if by == "no_close_fds" else (3, 13))


def _command(lab: Lab, python: Path, by: str, program: str = "/bin/true") -> list[str]:
    script = lab.root / "tests" / "programs" / "runtimes" / "python_spawn.py"
    return [str(python), str(script), "--count", str(_COUNT), "--by", by, "--program", program]


def _outcomes(traced: Traced) -> list[str]:
    assert traced.status == 0
    assert len(traced.spawns()) == _COUNT
    assert traced.summary["lost_records"] == 0
    return [spawn["outcome"] for spawn in traced.of("spawn")]


@each_way
@each_python
def test_plain_spawns(lab: Lab, python: Path, by: str) -> None:
    traced = lab.trace(_command(lab, python, by))
    assert _outcomes(traced) == ["ok"] * _COUNT * _has_errpipe(python, by)
    assert traced.of("stall") == []


@each_way
@each_python
def test_program_that_does_not_exist(lab: Lab, python: Path, by: str) -> None:
    traced = lab.trace(_command(lab, python, by, "/no/such/program"))
    assert _outcomes(traced) == ["exec_failed"] * _COUNT * _has_errpipe(python, by)
    assert all(spawn["failed"] for spawn in traced.spawns())
    assert traced.of("stall") == []


@each_way
@each_python
def test_worker_that_never_execs(lab: Lab, preload: Preload, python: Path, by: str) -> None:
    traced = lab.trace(preload.fork(_command(lab, python, by)))
    if _has_errpipe(python, by):
        preload.assert_each_stalled(traced, "forked")
    else:
        assert _outcomes(traced) == []
        assert traced.of("stall") == []


@each_python
def test_sibling_that_execs(lab: Lab, preload: Preload, python: Path) -> None:
    """Only Python 2 makes its errpipe close-on-exec late."""
    traced = lab.trace(preload.exec(_command(lab, python, "preexec_fn")))
    if _version(python) < (3,):
        preload.assert_each_stalled(traced, "leaked")
    else:
        assert _outcomes(traced) == ["ok"] * _COUNT
        assert [stall for stall in traced.of("stall") if stall["stall_seconds"] > 0.1] == []
