# SPDX-License-Identifier: Apache-2.0
"""The capabilities that the agent and trace-popen keep while they trace, and that these suffice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Optional

import pytest

from tests.live.lab import PYTHON, Lab, Object, RunningAgent, json_lines

pytestmark = pytest.mark.alone

LOOK_AT_OTHERS = 1 << 2 | 1 << 19  # DAC_READ_SEARCH, SYS_PTRACE
KILL = 1 << 5
SYS_ADMIN = 1 << 21
BPF = 1 << 39
# Run as another user; it can read the checkout anywhere.
STRANGER = [
    *("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
]
# Drops privileges, and prints its own status and that of a program that it starts.
_DROP = """\
import subprocess, sys
from pathlib import Path
from typing import Optional
from agent.host import privileges
def read_maps():
    if sys.argv[2] == "refused":
        raise PermissionError(1, "bpf")
privileges.drop(read_maps, unprivileged_bpf=Path(sys.argv[1]))
print(open("/proc/self/status").read(), flush=True)
subprocess.run(["cat", "/proc/self/status"])
"""


def _threads(pid: int) -> list[dict[str, str]]:
    """Return the parsed status files of all threads of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.append(_fields((task / "status").read_text()))
    return found


def _fields(status: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in status.splitlines())


def _check(pid: int, capabilities: int) -> None:
    for status in _threads(pid):
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == capabilities, status["Name"]
        assert int(status["CapAmb"], 16) & ~capabilities == 0
        assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("wrapper", "sysctl", "maps", "left"),
    [
        ([], "2", "given", LOOK_AT_OTHERS),
        ([], "1", "given", LOOK_AT_OTHERS),
        ([], "0", "given", LOOK_AT_OTHERS | BPF),
        ([], None, "given", LOOK_AT_OTHERS | BPF),
        ([], "2", "refused", LOOK_AT_OTHERS | BPF),
        (["setpriv", "--bounding-set=-bpf"], "2", "refused", LOOK_AT_OTHERS | SYS_ADMIN),
        (["setpriv", "--bounding-set=-all,+sys_ptrace,+bpf"], "2", "given", 1 << 19),
        (STRANGER, "2", "refused", 1 << 2),
    ],
)
def test_what_is_kept(
    wrapper: list[str], sysctl: Optional[str], maps: str, left: int, repo_root: Path, tmp_path: Path
) -> None:
    """The capability for bpf(2) is kept where reading maps needs it, or might."""
    file = tmp_path / "unprivileged_bpf_disabled"
    if sysctl is not None:
        file.write_text(f"{sysctl}\n")
    tmp_path.chmod(0o755)
    command = [*wrapper, PYTHON, "-c", _DROP, str(file), maps]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    own, started = (_fields(text) for text in done.stdout.split("\n\n"))
    assert int(own["CapEff"], 16) == int(own["CapPrm"], 16) == left
    assert int(started["CapPrm"], 16) == left
    assert own["NoNewPrivs"] == started["NoNewPrivs"] == "1"


def _stall_as_another_user(lab: Lab, *arguments: str) -> int:
    """Run a stall as another user; return the parent's pid."""
    command = lab.program("fork_beside_popen.py", "--force", "1", "--plain", "0", *arguments)
    with subprocess.Popen([*STRANGER, *command], stdout=subprocess.DEVNULL) as program:
        pass
    assert program.returncode == 0
    return program.pid


def _ended(agent: RunningAgent, pid: int) -> list[Object]:
    return [stall for stall in agent.stalls() if stall["parent"]["pid"] == pid and stall["state"] == "ended"]


def test_the_agent_keeps_what_it_needs(lab: Lab) -> None:
    with lab.agent(stacks={"capture": True}) as agent:
        assert "capabilities: DAC_READ_SEARCH, SYS_PTRACE\n" in agent.log()
        assert agent.metrics()["spawnstall_selftest_success", ()] == 1
        agent.get("/api/stalls")
        _check(agent.process.pid, LOOK_AT_OTHERS)
        parent = _stall_as_another_user(lab, "--live", "2")
        agent.wait_until(lambda: bool(_ended(agent, parent)))
        [stall] = _ended(agent, parent)
        assert stall["parent"]["uid"] == 12345
        assert stall["parent"]["exe"] == str(Path(PYTHON).resolve())
        assert stall["holders"][0]["confirmed"] is True
        assert stall["stacks"]["reader"]["by"] == "py-spy"
        assert stall["stacks"]["fork"]["frames"][0]["function"] == "_Fork"
        # All of its threads, including the web server's and py-spy's.
        assert len(_threads(agent.process.pid)) >= 3
        _check(agent.process.pid, LOOK_AT_OTHERS)


def test_a_reload_needs_no_more(lab: Lab) -> None:
    with lab.agent(stalls={"min_ms": 3_000_000}) as agent:
        file = lab.folder / "agent.yaml"
        settings = json.loads(file.read_text())
        file.write_text(json.dumps({**settings, "stalls": {"min_ms": 50}}))
        file.chmod(0o600)
        os.chown(file, 12345, 12345)
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_until(lambda: "configuration was reloaded" in agent.log())
        _check(agent.process.pid, LOOK_AT_OTHERS)
        parent = _stall_as_another_user(lab, "--live", "0.3")
        agent.wait_until(lambda: bool(_ended(agent, parent)))
        agent.stop()
        assert agent.process.returncode == 0
        assert "Traceback" not in agent.log()


def test_a_command_keeps_its_users_capabilities(lab: Lab) -> None:
    code = (
        "import json, os, time\n"
        "time.sleep(1)\n"
        "texts = [open(f'/proc/{pid}/status').read() for pid in ('self', os.getppid())]\n"
        "print(json.dumps({'kind': 'status', 'texts': texts}))"
    )
    [printed] = lab.trace([PYTHON, "-c", code]).printed
    command, tracer = (_fields(text) for text in printed["texts"])
    own = _fields(Path("/proc/self/status").read_text())
    for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"):
        assert command[key] == own[key]
    assert int(tracer["CapEff"], 16) == LOOK_AT_OTHERS | KILL
    assert tracer["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("wrapper", "seconds", "status"),
    [([], 60, 128 + signal.SIGTERM), (["setpriv", "--bounding-set=-kill"], 2, 0)],
    ids=["reached", "out of reach"],
)
def test_sigterm_for_a_command_of_another_user(
    lab: Lab, wrapper: list[str], seconds: int, status: int
) -> None:
    """Without CAP_KILL from the start, as in a container, trace-popen waits for the command to end."""
    command = ["sh", "-c", f"echo '{{}}'; exec sleep {seconds}"]
    process = subprocess.Popen(
        [*wrapper, *lab.trace_popen, "--json", "--", *STRANGER, *command],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "{}\n"
    process.terminate()
    _said, report = process.communicate(timeout=30)
    assert process.returncode == status
    assert all(line.startswith("{") for line in report.splitlines())  # no complaints


def test_trace_popen_of_a_pid(lab: Lab) -> None:
    command = lab.program("fork_beside_popen.py", "--force", "2", "--plain", "0", "--live", "1")
    code = "import subprocess, sys; sys.stdin.readline(); subprocess.run(sys.argv[1:])"
    with subprocess.Popen(
        [*STRANGER, PYTHON, "-c", code, *command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as target:
        assert target.stdin is not None
        tracer = subprocess.Popen(
            [*lab.trace_popen, "--json", "--pid", str(target.pid)],
            cwd=lab.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None
        assert "tracing" in tracer.stderr.readline()
        _check(tracer.pid, LOOK_AT_OTHERS)
        target.stdin.write("\n")
        target.stdin.close()
    printed, _ = tracer.communicate(timeout=30)
    stalls = [report for report in json_lines(printed) if report["type"] == "stall"]
    ended = [stall for stall in stalls if stall["state"] == "ended"]
    assert [stall["holders"][0]["confirmed"] for stall in ended] == [True, True]
