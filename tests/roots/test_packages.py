# SPDX-License-Identifier: Apache-2.0
"""The RPM, the deb and the wheel, each installed in a clean root of Debian and run there on this kernel.

SUITES="bookworm trixie" chooses the releases; ``make packages`` runs these tests on both.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import __version__
from tests import foreign
from tests.e2e.servers import eventually
from tests.live.lab import json_lines
from tests.roots.roots import TOOLS, Root, suites

_NOT_OURS = (".git", ".venv", ".cache", "node_modules", "build", "dist", "*.egg-info")
_CONFIG = "/etc/spawnstall/agent.yaml"
_LIBRARY = "/usr/lib/spawnstall"
_FOREIGN = "/root/foreign"
_WITH_FOREIGN = (_FOREIGN, "/usr/lib/python3/dist-packages")
_STAND_IN = """\
Name: {name}
Version: {version}
Release: 1
Summary: Stands in for the package of RHEL 9 or EPEL 9 with this name and version
License: none
BuildArch: noarch
Provides: {provides}
%description
%files
"""
_SPAWN = "import subprocess; subprocess.run(['true'])"
# As when a user types the command and Tab; the loader returns 124, which means: try again.
_COMPLETE = """\
. /usr/share/bash-completion/bash_completion
_completion_loader trace-popen
complete -p trace-popen
"""


@dataclass(frozen=True)
class Built:
    """The packages in a folder."""

    folder: Path

    def __getitem__(self, suffix: str) -> Path:
        (found,) = self.folder.glob(f"*.{suffix}")
        return found


def _build(checkout: Path, folder: Path, **environ: str) -> Built:
    for script in ("rpm.sh", "deb.sh", "wheel.sh"):
        done = subprocess.run(
            ["sh", checkout / "config" / script, folder],
            env={**os.environ, "PYTHON": sys.executable, "SOURCE_DATE_EPOCH": "1700000000", **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return Built(folder)


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """Skip if a tool is missing, with the command that installs it."""
    missing = [
        tool
        for tool in ("rpmbuild", "dh_python3", "dnf", "createrepo_c", *TOOLS)
        if shutil.which(tool) is None
    ]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; make setup-packages")


@pytest.fixture(scope="module")
def built(repo_root: Path, tools: None, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the packages."""
    return _build(repo_root, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module", params=suites())
def root(
    request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Root]:
    """A root of each release, with what apt installs for the deb, and without the deb."""
    made = Root(request.param, tmp_path_factory.mktemp("roots"))
    made.run("apt-get", "-qq", "update")
    made.run("apt-get", "-qq", "-y", "--no-install-recommends", "install", made.copy(built["deb"]))
    made.run("dpkg", "--purge", "spawnstall")
    yield made
    shutil.rmtree(made.path)


def test_another_checkout_makes_the_same_bytes(repo_root: Path, built: Built, tmp_path: Path) -> None:
    """In another folder, at another time, with other modes, locale and time zone."""
    source = tmp_path / "a copy"
    shutil.copytree(repo_root, source, ignore=shutil.ignore_patterns(*_NOT_OURS))
    for path in source.rglob("*"):
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o700 if executable else 0o660)
        os.utime(path, (1, 1))
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=source, check=True)
    other = _build(source, tmp_path / "built", LC_ALL="C", TZ="Asia/Tokyo", PYTHONHASHSEED="7")
    for suffix in ("rpm", "deb", "whl"):
        assert other[suffix].read_bytes() == built[suffix].read_bytes(), suffix


def _serves(root: Root, program: str, config: str, log: Path) -> None:
    """The agent passes its self-test, which traces a real stall, and answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    listen = {"SPAWNSTALL_WEB_LISTEN": f"127.0.0.1:{port}"}
    with root.background(program, "agent", "--config", config, environ=listen, log=log) as agent:

        def ready() -> bool:
            assert agent.poll() is None, log.read_text()
            try:
                return get("/healthz") == "ok\n"
            except OSError:
                return False

        eventually(ready, log.read_text, 60)
        assert "\nspawnstall_selftest_success 1.0\n" in get("/metrics")
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(30) == 0, log.read_text()


def _traces_whatever_surrounds_it(root: Root, program: str) -> None:
    """Packages of the same names in PYTHONPATH, the current folder and site-packages; sudo; no variables."""
    folders = [root.path / place.lstrip("/") for place in _WITH_FOREIGN]
    for folder in folders:
        foreign.environment(folder)
    preferred = [f"PYTHONPATH={_FOREIGN}:", "PYTHONSAFEPATH=1"]
    here = ["env", f"--chdir={_FOREIGN}"]
    for way in ([*here, *preferred], [*here, "sudo"], ["env", "--ignore-environment"]):
        traced = root.run(*way, program, "--json", "-o", "-", "--", "/usr/bin/python3", "-c", _SPAWN)
        assert json_lines(traced.stdout)[-1]["spawns"] == 1
        assert "refused" not in traced.stderr  # the programs that its clang makes
    for folder in folders:
        for name in foreign.NAMES:
            shutil.rmtree(folder / name)


def _works(root: Root, repo_root: Path, log: Path) -> None:
    """What the RPM and the deb install."""
    assert root.run("trace-popen", "--version").stdout == f"trace-popen {__version__}\n"
    assert root.run("trace-popen", "agent", "--config", _CONFIG, "--check").stdout == f"{_CONFIG}: OK\n"
    for page in (repo_root / "config" / "manual").glob("*.[1-9]"):
        assert page.stem in root.run("man", page.suffix[1:], page.stem).stdout
    unit = root.run("systemd-analyze", "verify", "spawnstall.service")
    assert (unit.stdout, unit.stderr) == ("", "")
    completed = root.run("bash", "-c", _COMPLETE)
    assert "_shtab_trace_popen" in completed.stdout
    modules = root.run("find", _LIBRARY, "-name", "*.py").stdout.splitlines()
    compiled = root.run("find", _LIBRARY, "-name", "*.pyc").stdout.splitlines()
    assert len(compiled) == len(modules) > 80
    _traces_whatever_surrounds_it(root, "trace-popen")
    _serves(root, "trace-popen", _CONFIG, log)


def _keeps_its_configuration(root: Root, reinstall: Callable[[], object]) -> None:
    path = root.path / _CONFIG.lstrip("/")
    original = path.read_text()
    path.write_text(f"{original}# mine\n")
    reinstall()
    assert path.read_text() == f"{original}# mine\n"
    path.write_text(original)


def _is_gone(root: Root) -> None:
    ours = ("(", "-name", "*spawnstall*", "-o", "-name", "*trace-popen*", ")", "-print")
    found = root.run("find", "/etc", "/usr", "/var", "-path", "/var/cache/man", "-prune", "-o", *ours)
    assert found.stdout == ""


def test_the_deb(root: Root, built: Built, repo_root: Path, tmp_path: Path) -> None:
    file = root.copy(built["deb"])
    root.run("dpkg", "--install", file)
    _works(root, repo_root, tmp_path / "log")
    _keeps_its_configuration(root, lambda: root.run("dpkg", "--install", file))
    root.run("dpkg", "--purge", "spawnstall")
    _is_gone(root)


def test_the_rpm(root: Root, built: Built, repo_root: Path, tmp_path: Path) -> None:
    """Without the check of dependencies, because here they are debs, which rpm does not know."""
    file = root.copy(built["rpm"])
    here = ["--nodeps"]
    if root.run("rpm", "--force-debian", "--version", check=False).returncode == 0:
        here.append("--force-debian")  # Debian 12's rpm installs nothing without it
    root.run("rpm", "--install", *here, file)
    _works(root, repo_root, tmp_path / "log")
    _keeps_its_configuration(root, lambda: root.run("rpm", "--upgrade", "--replacepkgs", *here, file))
    assert root.run("rpm", "--verify", "--nodeps", "--nomtime", "spawnstall").stdout == ""
    root.run("rpm", "--erase", *here, "spawnstall")
    _is_gone(root)


def _commands_beside_the_wheel(repo_root: Path) -> str:
    """Those of INSTALL.md that put the wheel's files where a host looks for them."""
    page = (repo_root / "config/INSTALL.md").read_text()
    section = page.split("\n## Any host with bcc: the wheel\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"(?m)^    ((?:cd|install|ln) .*)$", section))


def test_the_wheel(root: Root, built: Built, repo_root: Path, tmp_path: Path) -> None:
    """With the libraries of the distribution."""
    file = root.copy(built["whl"])
    root.run("python3", "-m", "venv", "--system-site-packages", "/opt/spawnstall")
    root.run("/opt/spawnstall/bin/pip", "install", "-q", "--no-index", file)
    program = "/opt/spawnstall/bin/trace-popen"
    assert root.run(program, "--version").stdout == f"trace-popen {__version__}\n"
    _traces_whatever_surrounds_it(root, program)
    root.run("sh", "-ec", _commands_beside_the_wheel(repo_root))
    assert root.run("trace-popen", "agent", "--config", _CONFIG, "--check").stdout == f"{_CONFIG}: OK\n"
    assert "trace-popen" in root.run("man", "1", "trace-popen").stdout
    assert "_shtab_trace_popen" in root.run("bash", "-c", _COMPLETE).stdout
    unit = root.run("systemd-analyze", "verify", "spawnstall.service")
    assert (unit.stdout, unit.stderr) == ("", "")
    _serves(root, program, _CONFIG, tmp_path / "log")


@pytest.fixture(scope="module")
def libraries(repo_root: Path) -> dict[str, str]:
    """What the RPM requires of RHEL 9 and EPEL 9, by the versions that the tests of Python 3.9 have."""
    oldest = (repo_root / "config/requirements-oldest.txt").read_text()
    locked = {
        name.lower().replace("-", "_"): version for name, version in re.findall(r"(?m)^(\S+)==(\S+)", oldest)
    }
    ours = ("bcrypt", "jinja2", "prometheus_client", "pyyaml", "rich")
    return {f"python3-{name}": locked[name] for name in ours}


@pytest.mark.parametrize(("bcc", "installs"), [("0.26.0", True), ("0.25.0", False)])
def test_dnf_finds_what_the_rpm_requires(
    bcc: str, installs: bool, built: Built, libraries: dict[str, str], repo_root: Path, tmp_path: Path
) -> None:
    """By the command of the image of CentOS Stream, without scriptlets, among packages that are empty."""
    host = {"python3": "3.9.18", "bash": "5.1.8", "systemd": "252", "python3-bcc": bcc}
    files = {"python3": "/usr/bin/python3", "bash": "/bin/sh"}
    for name, version in {**host, **libraries}.items():
        spec = tmp_path / f"{name}.spec"
        spec.write_text(
            _STAND_IN.format(name=name, version=version, provides=files.get(name, f"{name}-here"))
        )
        build = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/build"]
        subprocess.run(
            [*build, "--define", f"_rpmdir {tmp_path}/repository", spec],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    subprocess.run(["createrepo_c", "--quiet", tmp_path / "repository"], check=True)
    text = (repo_root / "config/rpm/Containerfile").read_text()
    [install] = re.findall(r"(dnf .* install) /rpms/\*\.rpm", text)
    where = [
        f"--installroot={tmp_path}/root",
        f"--repofrompath=here,{tmp_path}/repository",
        "--repo=here",
        "--releasever=9",
    ]
    options = ["--nogpgcheck", f"--setopt=cachedir={tmp_path}/cache", "--setopt=tsflags=noscripts"]
    done = subprocess.run(
        [*install.split(), *where, *options, built["rpm"]],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode == 0) == installs, done.stderr
    assert (tmp_path / "root/usr/bin/trace-popen").exists() == installs
    if not installs:
        assert "nothing provides python3-bcc >= 0.26" in done.stderr
