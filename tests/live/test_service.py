# SPDX-License-Identifier: Apache-2.0
"""The agent as config/systemd starts it: its user, capabilities and sd_notify (without systemd)."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, Object

pytestmark = pytest.mark.alone

_NOBODY = 65534
# MemoryDenyWriteExecute= where the kernel supports it (6.3, PR_SET_MDWE), then exec of the command.
_DENY_WRITE_EXECUTE = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _key(unit: str, name: str) -> str:
    (value,) = re.findall(rf"(?m)^{name}=(.*)$", unit)
    return str(value)


def _as_the_unit_says(unit: str) -> list[str]:
    """Return a command prefix that applies the unit's restrictions."""
    names = [name.removeprefix("CAP_").lower() for name in _key(unit, "AmbientCapabilities").split()]
    only = ",".join(["-all", *(f"+{name}" for name in names)])
    assert _key(unit, "DynamicUser") == _key(unit, "MemoryDenyWriteExecute") == "yes"
    return [
        *("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs"),
        *(f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}"),
        *(sys.executable, "-c", _DENY_WRITE_EXECUTE),
    ]


def test_as_a_service(repo_root: Path, lab: Lab, tmp_path: Path) -> None:
    unit = (repo_root / "config" / "systemd" / "spawnstall.service").read_text()
    lab.trace_popen = [*_as_the_unit_says(unit), *lab.trace_popen]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0spawnstall-test-{os.getpid()}")
        manager.settimeout(30)
        environ = {"NOTIFY_SOCKET": f"@spawnstall-test-{os.getpid()}", "WATCHDOG_USEC": "1000000"}
        lab.trace_popen = ["env", *(f"{name}={value}" for name, value in environ.items()), *lab.trace_popen]
        with lab.agent() as agent:
            assert agent.metrics()["spawnstall_selftest_success", ()] == 1
            assert [manager.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            status = Path(f"/proc/{agent.process.pid}/status").read_text()
            assert status.count(f"\nUid:\t{_NOBODY}\t") == 1
            assert "capabilities: DAC_READ_SEARCH, SYS_PTRACE\n" in agent.log()
            program = lab.program("fork_beside_popen.py", "--force", "1", "--plain", "0", "--live", "2")
            with subprocess.Popen(program, stdout=subprocess.DEVNULL) as played:
                pass

            def stalls() -> list[Object]:
                ended = [stall for stall in agent.stalls() if stall["state"] == "ended"]
                return [stall for stall in ended if stall["parent"]["pid"] == played.pid]

            agent.wait_until(lambda: bool(stalls()))
            (ended,) = stalls()
            # The unprivileged user can read /proc and the executable of a process of root.
            assert ended["holders"][0]["confirmed"] is True
            assert ended["parent"]["exe"] == str(Path(PYTHON).resolve())
            agent.process.send_signal(signal.SIGTERM)
            while (message := manager.recv(99)) != b"STOPPING=1":
                assert message == b"WATCHDOG=1"
            assert agent.process.wait(10) == 0
