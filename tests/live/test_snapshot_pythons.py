# SPDX-License-Identifier: Apache-2.0
"""config/snapshot/snapshot.py under Python 2.7 and 3.6: objects, text and status of agent/snapshot.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent import snapshot
from tests.live.lab import Lab
from tests.live.test_snapshot_waits import hanging
from tests.unit.test_snapshot import _BOOT, _OWN, _PARENT, _THREAD, _WORKER, _Host

_PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
_LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import snapshot
found = snapshot.look(int(sys.argv[3]), sys.argv[2], float(sys.argv[4]))
for each in found.stalls + found.waits:
    print(json.dumps(each.to_object()))
    print(json.dumps(snapshot.text(each.to_object())))
"""


@pytest.fixture
def pythons(python27: str) -> list[str]:
    """Python 2.7, pyenv's 3.6 if it is there, and this one."""
    return [python27, *map(str, _PYENV.glob("versions/3.6.*/bin/python")), sys.executable]


@pytest.fixture(scope="module")
def alone(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The generated file, copied to where nothing of ours is."""
    copy = tmp_path_factory.mktemp("alone") / "snapshot.py"
    copy.write_bytes((repo_root / "config" / "snapshot" / "snapshot.py").read_bytes())
    return str(copy)


def _run(python: str, *arguments: str, status: int) -> str:
    done = subprocess.run(
        [python, *arguments], capture_output=True, timeout=60, env={"LC_ALL": "C", "PATH": "/usr/bin"}
    )
    assert (done.stderr.decode(), done.returncode) == ("", status), python
    return done.stdout.decode()


def _timeless(text: str) -> str:
    """Without the times of the look, and without line breaks, which depend on them."""
    times = r"[0-9.:-]+( s\b|Z\b|, \"late)|\d\d:\d\d:\d\d|\d+ h \d+ min|\d+ d \d+ h"
    return re.sub(times, "TIME", " ".join(text.split()))


def _objects(text: str) -> list[Any]:
    return [json.loads(_timeless(line)) for line in text.splitlines()]


@pytest.mark.parametrize(
    "case",
    [
        "errpipe_in_select",
        "errpipe_in_epoll",
        "socket_is_kept_open",
        "jobserver_kept_open",
        "output_of_a_child_at_work",
    ],
)
def test_waits(lab: Lab, case: str, pythons: list[str], alone: str) -> None:
    with hanging(case, lab.folder) as printed:
        pid, status = str(printed["program"]), 0 if printed["normal"] else 1
        expected = _run(sys.executable, snapshot.__file__, pid, status=status)
        objects = _run(sys.executable, snapshot.__file__, pid, "--json", status=status)
        assert expected.startswith("WAIT ")
        for python in pythons:
            assert _timeless(_run(python, alone, pid, status=status)) == _timeless(expected), python
            assert _objects(_run(python, alone, pid, "--json", status=status)) == _objects(objects), python


@pytest.mark.parametrize("name", [b"w\xffrk\xc3\xa9r", b"a\x1bb"])
def test_a_stall(name: bytes, tmp_path: Path, pythons: list[str], alone: str) -> None:
    host = _Host(tmp_path / "proc")
    host.children(_THREAD, _OWN, _WORKER)
    host.own()
    host.worker()
    (host.root / str(_WORKER) / "comm").write_bytes(name + b"\n")
    where = [str(host.root), str(_PARENT), repr(_BOOT)]
    expected = _run(sys.executable, "-c", _LOOK, str(Path(snapshot.__file__).parent), *where, status=0)
    assert '"type": "stall"' in expected
    for python in pythons:
        found = _run(python, "-c", _LOOK, str(Path(alone).parent), *where, status=0)
        assert _timeless(found) == _timeless(expected), python


def test_nothing_hangs(pythons: list[str], alone: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as program:
        time.sleep(0.2)
        for python in pythons:
            text = _run(python, alone, str(program.pid), status=0)
            assert text.startswith(f"no thread of {program.pid} waits for a child or a pipe"), python
            assert _run(python, alone, str(program.pid), "--json", status=0) == "", python
        program.kill()
