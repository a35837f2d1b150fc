# SPDX-License-Identifier: Apache-2.0
"""The wheel in a clean virtual environment, outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent import __version__
from tests import foreign
from tests.live.lab import PYTHON, Lab, json_lines

pytestmark = pytest.mark.alone

_NOT_OURS = (".git", ".venv", ".cache", "node_modules", "build", "*.egg-info", "tests")


class Installed:
    """A virtual environment with the wheel, used from an empty folder."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.prefix = folder / "venv"
        self._folder = folder / "elsewhere"
        self._folder.mkdir()
        # bcc comes from the distribution.
        subprocess.run([PYTHON, "-m", "venv", "--system-site-packages", str(self.prefix)], check=True)
        pip = [str(self.prefix / "bin" / "pip"), "install", "--quiet", str(wheel)]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """trace-popen, with more variables in its environment."""
        command = [str(self.prefix / "bin" / "trace-popen"), *arguments]
        environ = {**os.environ, **variables}
        return subprocess.run(
            command, cwd=self._folder, env=environ, capture_output=True, text=True, check=False, timeout=120
        )


def _build(checkout: Path, folder: Path, **environ: str) -> Path:
    """Build the wheel by config/wheel.sh."""
    done = subprocess.run(
        ["sh", checkout / "config" / "wheel.sh", folder],
        env={**os.environ, "PYTHON": sys.executable, "SOURCE_DATE_EPOCH": "1700000000", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    return _build(repo_root, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the wheel."""
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_another_checkout_makes_the_same_bytes(repo_root: Path, wheel: Path, tmp_path: Path) -> None:
    """In another folder, at another time, with other modes, locale, time zone and order of hashing."""
    source = tmp_path / "a copy"
    shutil.copytree(repo_root, source, ignore=shutil.ignore_patterns(*_NOT_OURS))
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o660)
        os.utime(path, (1, 1))
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=source, check=True)
    other = {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    assert _build(source, tmp_path / "wheels", **other).read_bytes() == wheel.read_bytes()


def test_every_file_of_the_packages_is_in_it(repo_root: Path, wheel: Path) -> None:
    """Except the documents for readers of the source."""
    there = set(zipfile.ZipFile(wheel).namelist())
    ours = [path for package in ("agent", "probes") for path in (repo_root / package).rglob("*")]
    expected = {
        str(path.relative_to(repo_root))
        for path in ours
        if path.is_file() and path.suffix not in (".pyc", ".md")
    }
    assert {
        "probes/errpipe.bpf.c",
        "probes/shim/include/linux/types.h",
        "agent/render/agent_html.html",
    } <= expected
    assert expected <= there
    assert not {name for name in there if name.startswith(("tests/", "dashboards/", "config/"))}


def test_files_beside_the_packages(repo_root: Path, installed: Installed) -> None:
    share = installed.prefix / "share"
    same = {
        "man/man1/trace-popen.1": "config/manual/trace-popen.1",
        "man/man1/trace-popen-agent.1": "config/manual/trace-popen-agent.1",
        "man/man5/trace-popen-agent.yaml.5": "config/manual/trace-popen-agent.yaml.5",
        "bash-completion/completions/trace-popen.bash": "config/manual/trace-popen.bash",
        "zsh/site-functions/_trace-popen": "config/manual/_trace-popen",
        "spawnstall/agent.yaml": "config/agent.yaml",
        "spawnstall/systemd": "config/systemd",
        "spawnstall/podman": "config/podman",
        "spawnstall/kubernetes": "config/kubernetes",
        "spawnstall/seccomp": "config/seccomp",
        "spawnstall/prometheus": "config/prometheus",
        "spawnstall/dashboards": "dashboards/generated",
        "spawnstall/provisioning": "dashboards/provisioning",
    }
    for name, source in same.items():
        there = repo_root / source
        files = [there] if there.is_file() else [path for path in there.rglob("*") if path.is_file()]
        assert files
        for file in files:
            place = share / name / file.relative_to(there) if there.is_dir() else share / name
            assert place.read_bytes() == file.read_bytes(), place


def test_it_finds_its_own_files(installed: Installed) -> None:
    assert installed.run("--version").stdout == f"trace-popen {__version__}\n"
    assert installed.run("agent", "--check").stdout == "built-in defaults: OK\n"
    config = str(installed.prefix / "share" / "spawnstall" / "agent.yaml")
    assert installed.run("agent", "--config", config, "--check").stdout == f"{config}: OK\n"


def test_it_traces_beside_packages_of_the_same_names(lab: Lab, installed: Installed, tmp_path: Path) -> None:
    program = lab.program("fork_beside_popen.py", "--force", "1", "--plain", "0", "--live", "0.3")
    report = tmp_path / "report.json"
    variables = foreign.environment(tmp_path / "foreign")
    own = ["env", *(f"--unset={name}" for name in variables)]
    done = installed.run("--json", "-o", str(report), "--", *own, *program, **variables)
    assert done.returncode == 0, done.stderr
    (printed,) = [line for line in json_lines(done.stdout) if line.get("worker")]
    (stall,) = [line for line in json_lines(report.read_text()) if line["type"] == "stall"]
    assert (stall["child"]["pid"], stall["holders"][0]["pid"]) == (printed["child"], printed["worker"])


def test_pytest_finds_the_plugin(installed: Installed, tmp_path: Path) -> None:
    """Beside packages of the same names, which can be those of the tests."""
    variables = foreign.environment(tmp_path / "foreign")
    variables["PYTHONPATH"] += os.pathsep + str(Path(pytest.__file__).parents[1])
    command = [
        str(installed.prefix / "bin" / "python"),
        "-m",
        "pytest",
        "--spawnstall-agent",
        "http://127.0.0.1:1",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no agent answers at http://127.0.0.1:1" in done.stderr
