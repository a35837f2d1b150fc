"""Every CPython that is at hand: they differ in fork, vfork and posix_spawn, and in who has an errpipe."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab

_FOUND = [Path(PYTHON), *sorted(Path("/root/.pyenv/versions").glob("*/bin/python"))]
_PROGRAM = """
import subprocess
subprocess.Popen(['/bin/true']).wait()
subprocess.Popen(['/bin/true'], preexec_fn=int).wait()
subprocess.Popen(['/bin/true'], close_fds=False).wait()
try:
    subprocess.Popen(['/no/such/program'], preexec_fn=int)
except OSError:
    pass
"""


def _version(python: Path) -> tuple[int, ...]:
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return tuple(int(part) for part in done.stdout.split())


@pytest.mark.parametrize("python", _FOUND, ids=lambda path: str(path.parts[-3]))
def test_plain_spawns_are_counted(lab: Lab, python: Path) -> None:
    traced = lab.trace([str(python), "-c", _PROGRAM])
    version = _version(python)
    # posix_spawn has no errpipe: with close_fds=False since 3.8, for every plain spawn since 3.13.
    ok = 3 - (version >= (3, 8)) - (version >= (3, 13))
    spawns = sorted(traced.of("spawn"), key=lambda spawn: str(spawn["time"]))
    outcomes = [spawn["outcome"] for spawn in spawns]
    assert outcomes == ["ok"] * ok + ["exec_failed"]
    assert traced.of("stall") == []
