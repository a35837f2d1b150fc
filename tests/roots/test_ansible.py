# SPDX-License-Identifier: Apache-2.0
"""The Ansible role, played by ansible-core against localhost in a root of Debian.

systemd does not run there: the role enables the service, and does not start it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from agent import __version__

_NEXT = "0.999.0"
_HASH = "$2y$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"
_HOST = "ca-certificates,python3,python3-apt,python3-venv,systemd"
_NEEDED = "python3-bcrypt python3-bpfcc python3-prometheus-client python3-rich python3-yaml ufw firewalld"
_INSTALL = f"apt-get -qq update && apt-get -qqy --no-install-recommends install {_NEEDED} && apt-get clean"
# In a mount namespace of its own, so that nothing stays mounted.
_ENTER = """\
root=$1; shift
while [ "$1" != -- ]; do mkdir -p "$root$1" && mount --rbind "$1" "$root$1" || exit; shift; done
shift
exec chroot "$root" "$@"
"""
_CONTROL = """\
Package: spawnstall
Version: {version}
Architecture: all
Maintainer: The spawnstall authors <spawnstall@users.noreply.github.com>
Depends: python3-bpfcc
Description: what the test installs, which runs the checkout
"""


class Played(NamedTuple):
    """A run of the role: whether it succeeded, the tasks that changed something, and the output."""

    succeeded: bool
    changed: set[str]
    output: str


class Host:
    """A root that stands for a host; the checkout and Ansible are mounted in it."""

    def __init__(self, root: Path, repo: Path) -> None:
        self.path = root
        self._repo = repo
        self._ansible = (repo / ".cache" / "ansible").resolve()
        self._mounts = ("/proc", "/sys", "/dev", str(repo), str(self._ansible))

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root in it."""
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", str(self.path)]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            [*enter, *self._mounts, "--", *command],
            env={"PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def output(self, *command: str) -> str:
        """Return what a command that succeeds prints."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def play(self, **values: Any) -> Played:
        """Play the role with these variables, which are named without their prefix."""
        program = self._ansible / "bin"
        done = self.run(
            *(str(program / "python"), str(program / "ansible-playbook")),
            *("-i", "localhost,", "-c", "local", "-e", "ansible_python_interpreter=/usr/bin/python3"),
            *("-e", json.dumps({f"spawnstall_{name}": value for name, value in values.items()})),
            str(self._repo / "config" / "ansible" / "site.yml"),
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_PIPELINING="1",
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS="/wheels",
        )
        tasks = re.split(r"(?m)^(?:TASK|RUNNING HANDLER) \[spawnstall : (.*)\] \**$", done.stdout)
        changed = {name for name, text in zip(tasks[1::2], tasks[2::2]) if re.search("(?m)^changed:", text)}
        return Played(done.returncode == 0, changed, done.stdout + done.stderr)

    def text(self, path: str) -> str:
        """Return the text of a file."""
        return (self.path / path.lstrip("/")).read_text()

    def has(self, path: str) -> bool:
        """Whether there is anything at this path."""
        return os.path.lexists(self.path / path.lstrip("/"))


def _shell(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture(scope="session")
def base(repo_root: Path) -> Path:
    """A root that is kept between runs, with the packages that the role would otherwise download."""
    missing = [tool for tool in ("debootstrap", "unshare", "dpkg-deb") if shutil.which(tool) is None]
    if missing or not (repo_root / ".cache" / "ansible").exists():
        pytest.skip(f"not installed: {', '.join(missing) or 'Ansible'}; make setup-e2e")
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    folder = repo_root / ".cache" / "roots"
    kept = folder / f"ansible-{suite}"
    if not kept.exists():
        folder.mkdir(exist_ok=True)
        fresh = folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        _shell("debootstrap", "--variant=minbase", f"--include={_HOST}", suite, fresh)
        for name in ("resolv.conf", "apt"):
            _shell("cp", "-rL", f"/etc/{name}", fresh / "etc")
        Host(fresh, repo_root).output("sh", "-c", _INSTALL)
        fresh.rename(kept)
    return kept


@pytest.fixture
def host(base: Path, repo_root: Path, tmp_path: Path) -> Host:
    """A fresh host."""
    _shell("cp", "-a", base, tmp_path / "root")
    return Host(tmp_path / "root", repo_root)


@pytest.fixture(scope="session")
def wheels(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel, one of a newer version, and in the same folder those that they need."""
    folder = tmp_path_factory.mktemp("wheels")
    locked = repo_root / "config" / "requirements.txt"
    _shell(sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "-d", folder, "-r", locked)
    source = tmp_path_factory.mktemp("source") / "checkout"
    _shell("git", "clone", "--quiet", "--no-hardlinks", repo_root, source)
    for file in (source / "pyproject.toml", source / "agent" / "__init__.py"):
        text = re.sub(rf'(?m)^((?:__)?version(?:__)? = )"{__version__}"', rf'\1"{_NEXT}"', file.read_text())
        file.write_text(text)
    found = {}
    for checkout, version in ((repo_root, __version__), (source, _NEXT)):
        command = ["sh", str(checkout / "config" / "wheel.sh"), str(folder)]
        subprocess.run(command, env={**os.environ, "PYTHON": sys.executable}, check=True)
        [found[version]] = folder.glob(f"spawnstall-{version}-*.whl")
    return found


@pytest.fixture
def deb(repo_root: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Builds a deb of a version that has the files of ours, and runs the checkout."""

    def build(version: str) -> Path:
        folder = tmp_path / f"deb-{version}"
        unit = (repo_root / "config/systemd/spawnstall.service").read_text()
        program = f'#!/bin/sh\nexec /usr/bin/python3 {repo_root}/spawnstall.py "$@"\n'
        for path, text in {
            "DEBIAN/control": _CONTROL.format(version=version),
            "DEBIAN/conffiles": "/etc/spawnstall/agent.yaml\n",
            "etc/spawnstall/agent.yaml": f"# of {version}\n",
            "usr/bin/trace-popen": program,
            "usr/lib/systemd/system/spawnstall.service": unit.replace("/opt/spawnstall/bin/", "/usr/bin/"),
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        (folder / "usr/bin/trace-popen").chmod(0o755)
        file = tmp_path / f"spawnstall_{version}_all.deb"
        _shell("dpkg-deb", "--root-owner-group", "--build", folder, file)
        return file

    return build


def _put(host: Host, *files: Path) -> list[str]:
    """Copy files into the host's /root; return their paths there."""
    for file in files:
        shutil.copy(file, host.path / "root" / file.name)
    return [f"/root/{file.name}" for file in files]


def test_a_wheel_behind_ufw(host: Host, wheels: dict[str, Path], repo_root: Path) -> None:
    """Installed, unchanged, upgraded, misconfigured, and removed."""
    shutil.copytree(wheels[__version__].parent, host.path / "wheels")
    values = {
        "package": f"/wheels/{wheels[__version__].name}",
        "requirements": str(repo_root / "config" / "requirements.txt"),
        "config": {"stalls": {"min_ms": 20}, "web": {"listen": "0.0.0.0:9900"}},
        "users": {"prometheus": _HASH},
        "firewall": "ufw",
        "firewall_sources": ["10.1.0.0/16", "fd00::/8"],
    }
    first = host.play(**values)
    assert first.succeeded, first.output
    assert {"Install the wheel", "Write agent.yaml", "Open the port to the networks"} <= first.changed
    assert host.output("trace-popen", "--version").split() == ["trace-popen", __version__]
    assert host.output("systemctl", "is-enabled", "spawnstall") == "enabled\n"
    config = yaml.safe_load(host.text("/etc/spawnstall/agent.yaml"))
    assert config == {
        "stalls": {"min_ms": 20},
        "web": {"listen": "0.0.0.0:9900", "config_file": "/etc/spawnstall/web.yml"},
    }
    assert yaml.safe_load(host.text("/etc/spawnstall/web.yml")) == {"basic_auth_users": values["users"]}
    assert (host.path / "etc/spawnstall/web.yml").stat().st_mode & 0o777 == 0o600
    assert "ports=9900/tcp" in host.text("/etc/ufw/applications.d/spawnstall")
    assert "ufw allow from fd00::/8 to any app spawnstall" in host.output("ufw", "show", "added")

    again = host.play(**values)
    assert (again.succeeded, again.changed) == (True, set()), again.output

    values |= {"package": f"/wheels/{wheels[_NEXT].name}", "firewall_sources": ["10.1.0.0/16"]}
    upgrade = host.play(**values)
    assert upgrade.succeeded, upgrade.output
    changed = {"Copy the package", "Install the wheel", "Close the port to other networks"}
    assert changed <= upgrade.changed <= {*changed, "Restart the agent"}
    assert host.output("trace-popen", "--version").split() == ["trace-popen", _NEXT]
    assert "fd00" not in host.output("ufw", "show", "added")

    before = host.text("/etc/spawnstall/agent.yaml")
    wrong = host.play(**{**values, "config": {"stalls": {"min_msec": 20}}})
    assert not wrong.succeeded
    assert "did you mean 'min_ms'?" in wrong.output
    assert host.text("/etc/spawnstall/agent.yaml") == before

    removed = host.play(state="absent")
    assert removed.succeeded, removed.output
    for path in ("/opt/spawnstall", "/etc/spawnstall", "/usr/local/bin/trace-popen"):
        assert not host.has(path), path
    assert not host.has("/etc/systemd/system/multi-user.target.wants/spawnstall.service")


def test_a_deb_with_tls_behind_firewalld(host: Host, deb: Callable[[str], Path], tmp_path: Path) -> None:
    """Installed, unchanged, and upgraded; the package does not bring its own configuration back."""
    names = [tmp_path / "server.crt", tmp_path / "server.key"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=web1"]
    _shell(*request, "-out", names[0], "-keyout", names[1])
    package, newer, certificate, key = _put(host, deb("0.2.0"), deb("0.3.0"), *names)
    values = {
        "package": package,
        "config": {"web": {"listen": "0.0.0.0:9848"}},
        "tls_certificate": certificate,
        "tls_key": key,
        "firewall": "firewalld",
        "firewall_sources": ["10.1.0.0/16", "fd00::/8"],
    }
    first = host.play(**values)
    assert first.succeeded, first.output
    assert "Install the deb" in first.changed
    assert host.output("systemctl", "is-enabled", "spawnstall") == "enabled\n"
    host.output("trace-popen", "agent", "--check", "--config", "/etc/spawnstall/agent.yaml")
    assert yaml.safe_load(host.text("/etc/spawnstall/web.yml")) == {
        "tls_server_config": {
            "cert_file": "/etc/spawnstall/tls/server.crt",
            "key_file": "/etc/spawnstall/tls/server.key",
        }
    }
    assert (host.path / "etc/spawnstall/tls/server.key").stat().st_mode & 0o777 == 0o600
    rules = host.output("firewall-offline-cmd", "--list-rich-rules")
    assert all(
        f'ipset="spawnstall-{family}" service name="spawnstall" accept' in rules
        for family in ("ipv4", "ipv6")
    )
    assert "<entry>fd00::/8</entry>" in host.text("/etc/firewalld/ipsets/spawnstall-ipv6.xml")
    host.output("firewall-offline-cmd", "--check-config")

    again = host.play(**values)
    assert (again.succeeded, again.changed) == (True, set()), again.output

    upgrade = host.play(**{**values, "package": newer})
    assert upgrade.succeeded, upgrade.output
    changed = {"Copy the package", "Install the deb"}
    assert changed <= upgrade.changed <= {*changed, "Restart the agent"}
    assert host.output("dpkg-query", "-W", "-f", "${Version}", "spawnstall") == "0.3.0"
    assert "listen: 0.0.0.0:9848" in host.text("/etc/spawnstall/agent.yaml")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"firewall": "iptables"}, "value of spawnstall_firewall must be one of"),
        ({"tls_certificate": "/x.crt"}, "A certificate needs a key"),
    ],
    ids=["unknown firewall", "no key"],
)
def test_mistakes_are_named_and_nothing_is_installed(host: Host, values: dict[str, Any], named: str) -> None:
    played = host.play(**values)
    assert not played.succeeded
    assert named in " ".join(played.output.split())
    assert not played.changed
