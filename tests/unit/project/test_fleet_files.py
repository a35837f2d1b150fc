# SPDX-License-Identifier: Apache-2.0
"""The deployment files in config/: valid for the tools that read them, and consistent with each other."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional

import kubernetes_validate
import pytest
import yaml

from agent import __version__
from agent.cli.arguments import agent_parser
from agent.settings import agentfile

CAPABILITIES = {"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"}
NAME = "spawnstall"


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make setup-e2e")
    return found


def _run(*command: object, cwd: Optional[Path] = None) -> subprocess.CompletedProcess[str]:
    words = list(map(str, command))
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, cwd=cwd)


def _sections(text: str) -> dict[str, dict[str, str]]:
    """The sections of a unit file; the last value of a repeated key."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#", ";"), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.fixture
def unit(repo_root: Path) -> str:
    """The text of the systemd unit."""
    return (repo_root / "config/systemd/spawnstall.service").read_text()


@pytest.fixture
def quadlet(repo_root: Path) -> str:
    """The text of the quadlet."""
    return (repo_root / "config/podman/spawnstall.container").read_text()


@pytest.fixture
def kinds(repo_root: Path) -> dict[str, dict[str, Any]]:
    """Every Kubernetes object by its kind."""
    paths = (repo_root / "config/kubernetes").glob("*.yaml")
    return {document["kind"]: document for path in paths for document in _documents(path)}


@pytest.fixture
def pod(kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The pod spec of the DaemonSet."""
    spec: dict[str, Any] = kinds["DaemonSet"]["spec"]["template"]["spec"]
    return spec


def _verified(folder: Path, text: str) -> str:
    """What systemd-analyze reports about a unit; its programs need not be installed."""
    file = folder / f"{NAME}.service"
    file.write_text(re.sub(r"(?m)^(Exec\w+=-?)/\S+", r"\1/bin/true", text))
    done = _run(_tool("systemd-analyze"), "verify", "--man=no", file)
    return done.stderr or "failed" * (done.returncode != 0)


def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    assert _verified(tmp_path, unit) == ""
    assert "Unknown key 'Wacthdog'" in _verified(tmp_path, unit.replace("[Install]", "Wacthdog=3\n[Install]"))


def test_the_unit_is_hardened(repo_root: Path) -> None:
    path = repo_root / "config/systemd/spawnstall.service"
    done = _run(_tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", "--threshold=30", path)
    assert done.returncode == 0, done.stdout


def test_the_unit_starts_the_agent(unit: str) -> None:
    _program, name, *arguments = _sections(unit)["Service"]["ExecStart"].split()
    assert name == "agent"
    assert agent_parser().parse_args(arguments).config == "/etc/spawnstall/agent.yaml"


def test_the_units_comment_on_the_watchdog(unit: str) -> None:
    timeout = int(_sections(unit)["Service"]["WatchdogSec"])
    assert f"every {timeout // 2} s (half the timeout)" in unit


def test_systemd_accepts_the_output_of_quadlet(repo_root: Path, quadlet: str, tmp_path: Path) -> None:
    generator = repo_root / ".cache/quadlet"
    if not generator.exists():
        pytest.skip("podman's quadlet is not installed: make setup-e2e")
    units = tmp_path / "units"
    units.mkdir()

    def generate(text: str) -> subprocess.CompletedProcess[str]:
        (units / f"{NAME}.container").write_text(text)
        return _run("env", f"QUADLET_UNIT_DIRS={units}", generator, "--dryrun")

    done = generate(quadlet)
    assert done.returncode == 0, done.stderr
    assert _verified(tmp_path, done.stdout.partition("---\n")[2]) == ""
    assert generate(quadlet.replace("[Service]", "ReadOnyl=true\n[Service]")).returncode != 0


@pytest.mark.parametrize("version", ["1.30", "1.34", kubernetes_validate.latest_version()])
def test_kubernetes_accepts_the_manifests(repo_root: Path, version: str) -> None:
    for document in _documents(repo_root / "config/kubernetes/spawnstall.yaml"):
        kubernetes_validate.validate(document, version, strict=True)


def test_validation_finds_a_typo(pod: dict[str, Any], kinds: dict[str, dict[str, Any]]) -> None:
    pod["hostPid"] = pod.pop("hostPID")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(kinds["DaemonSet"], kubernetes_validate.latest_version(), strict=True)


def test_references_of_the_pod(pod: dict[str, Any], kinds: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Names match within the pod, and between the pod and the other objects."""
    (container,) = pod["containers"]
    (copier,) = pod["initContainers"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["name"] for each in (container, copier) for mount in each["volumeMounts"]}
    assert mounts == volumes
    profile = container["securityContext"]["seccompProfile"]["localhostProfile"]
    assert Path(copier["command"][1]).name == profile
    file = tmp_path / "agent.yaml"
    file.write_text(kinds["ConfigMap"]["data"]["agent.yaml"])
    web = agentfile.load(file).web
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("web", web.port)
    assert web.host == "0.0.0.0"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "web"}
    labels = kinds["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    monitor = kinds["PodMonitor"]["spec"]
    assert (
        monitor["selector"]["matchLabels"] == kinds["DaemonSet"]["spec"]["selector"]["matchLabels"] == labels
    )
    assert monitor["podMetricsEndpoints"][0]["port"] == "web"
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels


def test_openshift_allows_what_the_pod_requests(
    pod: dict[str, Any], kinds: dict[str, dict[str, Any]]
) -> None:
    allows = kinds["SecurityContextConstraints"]
    assert allows["users"] == [f"system:serviceaccount:{NAME}:{pod['serviceAccountName']}"]
    assert allows["allowHostPID"] and allows["allowHostDirVolumePlugin"]
    used = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert used == set(allows["volumes"])
    asked = pod["containers"][0]["securityContext"]
    assert set(asked["capabilities"]["add"]) <= set(allows["allowedCapabilities"])
    assert f"localhost/{asked['seccompProfile']['localhostProfile']}" in allows["seccompProfiles"]


def test_compose_accepts_its_file(repo_root: Path, tmp_path: Path) -> None:
    file = repo_root / "config/compose/compose.yaml"
    done = _run(_tool("docker-compose"), "config", "--quiet", cwd=file.parent)
    assert (done.returncode, done.stderr) == (0, "")
    slip = tmp_path / "compose.yaml"
    slip.write_text(file.read_text().replace("read_only:", "readonly:"))
    assert "readonly" in _run(_tool("docker-compose"), "-f", slip, "config", "--quiet").stderr
    for service in yaml.safe_load(file.read_text())["services"].values():
        for source in (volume.split(":")[0] for volume in service["volumes"]):
            if source.startswith("."):
                assert (file.parent / source).exists(), source
        if "build" in service:
            assert (file.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_the_same_capabilities_everywhere(
    repo_root: Path, unit: str, quadlet: str, pod: dict[str, Any], kinds: dict[str, dict[str, Any]]
) -> None:
    service = _sections(unit)["Service"]
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert {name.removeprefix("CAP_") for name in service[key].split()} == CAPABILITIES
    assert set(_sections(quadlet)["Container"]["AddCapability"].split()) == CAPABILITIES
    compose = yaml.safe_load((repo_root / "config/compose/compose.yaml").read_text())
    assert set(compose["services"]["agent"]["cap_add"]) == CAPABILITIES
    assert set(pod["containers"][0]["securityContext"]["capabilities"]["add"]) == CAPABILITIES
    assert set(kinds["SecurityContextConstraints"]["allowedCapabilities"]) == CAPABILITIES


def test_the_same_version_everywhere(repo_root: Path) -> None:
    files = {
        "Dockerfile": r"ARG VERSION=(\S+)",
        "config/rpm/Containerfile": r"ARG VERSION=(\S+)",
        "config/podman/spawnstall.container": r"Image=\S+:(\S+)",
        "config/rpm/spawnstall.spec": r"(?m)^Version: +(\S+)",
        "config/compose/compose.yaml": r"image: spawnstall:(\S+)",
        "config/kubernetes/spawnstall.yaml": r"image: \S+:(\S+)",
        "config/INSTALL.md": r"spawnstall:([\d.]+\d)",
        "pyproject.toml": r'(?m)^version = "(\S+)"',
        "CHANGELOG.md": r"## (\S+) .*\n(?s:.*)",
    }
    for name, pattern in files.items():
        assert set(re.findall(pattern, (repo_root / name).read_text())) == {__version__}, name


def test_the_seccomp_profile(repo_root: Path) -> None:
    """tests/e2e/test_container.py tests its effect."""
    profile = json.loads((repo_root / "config/seccomp/spawnstall.json").read_text())
    names = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert len(names) == len(set(names))
    assert {"bpf", "perf_event_open", "process_vm_readv", "ptrace"} <= set(names)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {rule["action"] for rule in profile["syscalls"]} == {"SCMP_ACT_ALLOW"}
    escapes = {
        "mount",
        "unshare",
        "setns",
        "keyctl",
        "init_module",
        "kexec_load",
        "open_by_handle_at",
        "clone3",
    }
    assert not escapes & set(names)


def test_links_and_paths_of_the_install_page(repo_root: Path) -> None:
    page = repo_root / "config" / "INSTALL.md"
    text = page.read_text()
    titles = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 10
    for link in links:
        path, _, anchor = link.partition("#")
        assert (page.parent / path).exists() if path else anchor in titles, link
    named = re.findall(r"(?<![\w/.])(?:config|tests)/[\w./-]+\w", text)
    assert len(named) > 8
    for name in named:
        assert (repo_root / name).exists(), name
