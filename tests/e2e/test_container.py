# SPDX-License-Identifier: Apache-2.0
"""The image of the Dockerfile beside programs on the host and in containers, with all privileges and few."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent import __version__
from tests import contract
from tests.e2e.containers import CREATED, REVISION, TOOLS, TRACEFS, Container, Engine
from tests.e2e.servers import eventually
from tests.live.lab import Lab, Object, json_lines

pytestmark = pytest.mark.alone

HOST = ("--pid=host", "--network=host", *TRACEFS)
FEW = [f"--cap-add={name}" for name in ("BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH")]
HARDENED = ["--cap-drop=ALL", "--read-only", "--security-opt=no-new-privileges"]
MINIMAL = {
    # podman's own seccomp profile allows bpf() with this capability.
    "SYS_ADMIN": [*HARDENED, "--cap-add=SYS_ADMIN"],
    "four capabilities": [*HARDENED, *FEW, "--security-opt=seccomp=config/seccomp/spawnstall.json"],
}


@pytest.fixture(scope="session")
def engine(repo_root: Path) -> Engine:
    """Build the image."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; make setup-e2e")
    engine = Engine(repo_root)
    engine.build()
    return engine


class Agent:
    """The agent in a container, on a loopback port of the host."""

    def __init__(self, container: Container, port: int) -> None:
        self.container = container
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str:
        """Return the body of a response."""
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            return str(answer.read().decode())

    def wait_until_ready(self) -> None:
        """Wait until it traces."""

        def ready() -> bool:
            try:
                return self.get("/healthz") == "ok\n"
            except OSError:
                assert self.container.state["Status"] == "running", self.container.log()
                return False

        eventually(ready, self.container.log, 60)

    def stalls(self) -> list[Object]:
        """Return the ended stalls in its log."""
        return [one for one in self.container.objects() if one["state"] == "ended"]


@contextlib.contextmanager
def _agent(engine: Engine, *options: str, environ: Mapping[str, str] = {}) -> Iterator[Agent]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = f"SPAWNSTALL_WEB_LISTEN=127.0.0.1:{port}"
    with engine.container(*HOST, "--env", listen, *options, environ=environ) as container:
        agent = Agent(container, port)
        agent.wait_until_ready()
        yield agent


@pytest.fixture(scope="module")
def privileged(engine: Engine) -> Iterator[Agent]:
    """Run a privileged agent."""
    with _agent(engine, "--privileged") as agent:
        yield agent


def _play_outside(lab: Lab, agent: Agent) -> None:
    """The agent names the holders of a stall on the host."""
    command = lab.program("fork_beside_popen.py", "--force", "2", "--plain", "1", "--live", "0.5")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    spawns = [line for line in json_lines(done.stdout) if line["kind"] == "spawn"]
    played = {line["child"]: line["worker"] for line in spawns if line["worker"]}
    assert len(played) == 2

    def found() -> dict[int, Object]:
        return {stall["child"]["pid"]: stall for stall in agent.stalls() if stall["child"]["pid"] in played}

    eventually(lambda: set(found()) == set(played), agent.container.log, 30)
    for child, stall in found().items():
        assert stall["parent"]["pid"] == spawns[0]["pid"]
        assert stall["parent"]["container"] is None
        holder = stall["holders"][0]
        assert (holder["pid"], holder["cause"], holder["container"]) == (played[child], "forked", None)
    quick = {line["child"] for line in spawns if not line["worker"]}
    assert not quick & {stall["child"]["pid"] for stall in agent.stalls()}


def _inner_pid(pid: int) -> int:
    """Return the pid of a process in its own pid namespace."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


@contextlib.contextmanager
def _stalling_container(engine: Engine, repo_root: Path) -> Iterator[Container]:
    """Run an unprivileged container with one stall, which lasts until its holder is killed."""
    options = ("--volume", f"{repo_root}/tests/programs:/programs:ro", "--entrypoint", "python3")
    program = ["/programs/fork_beside_popen.py", "--force", "1", "--plain", "1", "--live", "600"]
    with engine.container(*options, command=program) as container:
        yield container


def _check_ongoing(agent: Agent, other: Container) -> Object:
    """The stall in another container is reported while in progress, with host pids and container ID."""

    def ongoing() -> list[Object]:
        stalls = contract.checked_status(json.loads(agent.get("/api/stalls")))["ongoing"]
        return [one for one in stalls if (one["parent"]["container"] or {}).get("id") == other.id]

    eventually(lambda: bool(ongoing()), agent.container.log, 30)
    (stall,) = ongoing()
    container = {"id": other.id, "runtime": "podman", "pod_uid": None, "user": None}
    assert stall["parent"]["container"] == stall["holders"][0]["container"] == container
    assert stall["parent"]["pid"] == other.state["Pid"]
    return stall


def test_a_stall_outside(lab: Lab, privileged: Agent) -> None:
    _play_outside(lab, privileged)


def test_a_stall_inside_another_container(repo_root: Path, engine: Engine, privileged: Agent) -> None:
    with _stalling_container(engine, repo_root) as other:
        stall = _check_ongoing(privileged, other)
        inner = [_inner_pid(stall["parent"]["pid"]), _inner_pid(stall["holders"][0]["pid"])]
        os.kill(stall["holders"][0]["pid"], signal.SIGKILL)
        assert other.wait() == 0
        (said,) = [line for line in other.objects() if line.get("worker")]
        assert inner == [said["pid"], said["worker"]]

    def ended() -> list[Object]:
        return [one for one in privileged.stalls() if one["id"] == stall["id"]]

    eventually(lambda: bool(ended()), privileged.container.log, 30)
    (end,) = ended()
    assert end["holders"][0]["pid"] == stall["holders"][0]["pid"]
    assert end["holders"][0]["released_by"] == "exit"


def test_what_it_serves(privileged: Agent) -> None:
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(privileged.get("/metrics"))
        for sample in family.samples
        if not sample.labels
    }
    assert samples["spawnstall_selftest_success"] == 1
    assert samples["spawnstall_records_lost_total"] == 0
    assert "<title>" in privileged.get("/")


def test_its_software_bill_of_materials(engine: Engine) -> None:
    """It lists what the image has: no more of PyPI than is installed, and the distribution's packages."""
    show = (
        "run",
        "--rm",
        "--entrypoint",
        "cat",
        engine.image,
        "/opt/spawnstall/share/spawnstall/sbom.cdx.json",
    )
    found = {one["purl"].partition("?")[0] for one in json.loads(engine(*show).stdout)["components"]}
    python = {purl.rpartition("/")[2].partition("@")[0] for purl in found if purl.startswith("pkg:pypi/")}
    assert {"prometheus-client", "pyyaml", "rich"} <= python
    assert not python & {"pip", "setuptools"}
    assert any(purl.startswith("pkg:deb/debian/python3-bpfcc@") for purl in found)


@pytest.fixture
def can_exec(privileged: Agent) -> None:
    """In a chroot, runc executes commands with a root that is not the container's."""
    if privileged.container.execute("ls", "/opt/spawnstall", check=False).returncode != 0:
        pytest.xfail("podman exec does not find the container's files here: is this a chroot?")


def test_its_health_check(can_exec: None, engine: Engine, privileged: Agent) -> None:
    assert engine("healthcheck", "run", privileged.container.id).returncode == 0
    wrong = ("env", "SPAWNSTALL_WEB_LISTEN=127.0.0.1:1")
    (image,) = json.loads(engine("image", "inspect", engine.image).stdout)
    done = privileged.container.execute(*wrong, *image["Healthcheck"]["Test"][1:], check=False)
    assert (done.returncode, "does not answer" in done.stderr) == (1, True)


def test_trace_popen_by_podman_exec(can_exec: None, lab: Lab, privileged: Agent) -> None:
    """Snapshot and tracing, by the host's pid."""
    command = lab.program("fork_beside_popen.py", "--force", "1000", "--plain", "0", "--live", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:

        def trace(*options: str) -> list[Object]:
            run = privileged.container.execute("trace-popen", "--pid", str(program.pid), "--json", *options)
            return [one for one in json_lines(run.stdout) if one["type"] == "stall"]

        seen: list[Object] = []

        def blocked() -> bool:
            seen.extend(trace("--snapshot"))
            return bool(seen)

        eventually(blocked, privileged.container.log, 30)
        traced = [one for one in trace("--duration", "5") if one["state"] == "ended"]
        program.terminate()
        assert program.stdout is not None
        said = json_lines(program.stdout.read())
    workers = {line["child"]: line["worker"] for line in said if line.get("worker")}
    assert seen[0]["parent"]["pid"] == program.pid
    assert seen[0]["holders"][0]["pid"] in workers.values()
    assert traced
    for stall in traced:
        assert stall["parent"]["pid"] == program.pid
        assert stall["holders"][0]["pid"] == workers[stall["child"]["pid"]]


@pytest.mark.parametrize("options", MINIMAL.values(), ids=MINIMAL)
def test_with_few_privileges(repo_root: Path, lab: Lab, engine: Engine, options: list[str]) -> None:
    with _agent(engine, *options) as agent:
        _play_outside(lab, agent)
        with _stalling_container(engine, repo_root) as other:
            _check_ongoing(agent, other)
        assert agent.container.stop() == 0
        assert agent.container.log().endswith("INFO stopped\n")


def test_as_the_quadlet_starts_it(repo_root: Path, lab: Lab, engine: Engine, tmp_path: Path) -> None:
    """By the command that quadlet makes from config/podman: as an unprivileged user, with sd_notify."""
    generator = repo_root / ".cache" / "quadlet"
    if not generator.exists():
        pytest.skip("podman's quadlet is not there: make setup-e2e")
    environ = {**os.environ, "QUADLET_UNIT_DIRS": str(repo_root / "config" / "podman")}
    unit = subprocess.run(
        [generator, "--dryrun"], env=environ, capture_output=True, text=True, check=True
    ).stdout
    (start,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(start.replace("/etc/spawnstall/seccomp.json", "config/seccomp/spawnstall.json"))
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in ("--replace", "--rm", "-d"):  # handled by systemd, by the host, or by _agent
        parser.add_argument(flag, action="store_true")
    for option in ("--cidfile", "--cgroups", "--name", "--network", "-v"):
        parser.add_argument(option)
    _, options = parser.parse_known_args(words[2:-1])
    assert {"--user", "65532:65532", "--sdnotify=container", "--read-only"} <= set(options)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with _agent(engine, *options, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as agent:
            messages = [manager.recv(4096).decode()]
            while "READY=1" not in messages[-1]:
                messages.append(manager.recv(4096).decode())
            status = Path(f"/proc/{agent.container.state['Pid']}/status").read_text()
            assert "\nUid:" + "\t65532" * 4 + "\n" in status
            _play_outside(lab, agent)
            with _stalling_container(engine, repo_root) as other:
                _check_ongoing(agent, other)
            assert agent.container.stop() == 0


def test_the_seccomp_profile_forbids_the_rest(engine: Engine) -> None:
    """Even what the capabilities allow."""
    code = (
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True)\n"
        "for call in (lambda: libc.unshare(0x20000), lambda: libc.mount(b'x', b'/tmp', b'tmpfs', 0, None),"
        " lambda: libc.setns(os.open('/proc/self/ns/ipc', 0), 0)):\n"
        "    print(os.strerror(ctypes.get_errno()) if call() < 0 else 'done')"
    )
    run = ("run", "--rm", "--cap-add=SYS_ADMIN", "--entrypoint", "python3")
    profile = "--security-opt=seccomp=config/seccomp/spawnstall.json"
    assert engine(*run, engine.image, "-c", code).stdout.split() == ["done"] * 3
    forbidden = engine(*run, profile, engine.image, "-c", code).stdout.splitlines()
    assert forbidden == ["Function not implemented"] * 3


def test_in_a_pid_namespace_of_its_own(engine: Engine) -> None:
    done = engine("run", "--rm", "--privileged", *TRACEFS, engine.image, "--duration", "1", check=False)
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("trace-popen: ")]
    assert done.returncode == 2
    assert "this pid namespace is not the host's" in said
    assert "--pid=host" in said


def test_what_is_in_the_image(repo_root: Path, engine: Engine) -> None:
    (image,) = json.loads(engine("image", "inspect", engine.image).stdout)
    labels = image["Labels"]
    names = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert (names["version"], names["revision"], names["created"]) == (__version__, REVISION, CREATED)
    assert {"title", "description", "licenses", "url", "source", "documentation"} <= names.keys()
    assert engine("run", "--rm", engine.image, "--version").stdout == f"trace-popen {__version__}\n"
    caches = "/var/lib/apt/lists/*_* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb"
    look = f"ls /src /opt/spawnstall/bin/pip {caches}; command -v gcc cc make git pip curl wget"
    done = engine("run", "--rm", "--entrypoint", "sh", engine.image, "-c", look, check=False)
    assert done.stdout == ""
    text = (repo_root / "LICENSE").read_text()
    shown = engine(
        "run", "--rm", "--entrypoint", "cat", engine.image, "/usr/share/licenses/spawnstall/LICENSE"
    )
    assert shown.stdout == text
    assert image["Size"] <= 440e6
