# SPDX-License-Identifier: Apache-2.0
"""podman without a registry: a separate engine in .cache/, the project's image, running containers."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.live.lab import Object, json_lines

__all__ = ["CREATED", "REVISION", "TOOLS", "TRACEFS", "Container", "Engine"]

TOOLS = ("podman", "runc", "debootstrap")
REVISION, CREATED = "0" * 40, "2026-11-26T00:00:00Z"
TRACEFS = ("--volume", "/sys/kernel/tracing:/sys/kernel/tracing:ro")
_IMAGE, _BUILD = "localhost/spawnstall:e2e", "localhost/spawnstall-build:e2e"
# What https://github.com/debuerreotype/debuerreotype leaves out of Debian's slim images.
_DOCUMENTS = [f"usr/share/{name}/*" for name in ("doc", "groff", "info", "lintian", "locale", "man")]
_CACHES = ["var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "var/lib/apt/lists/*"]
_SLIM = "".join(f"path-exclude /{path}\n" for path in _DOCUMENTS)
_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Engine:
    """An engine that keeps images between runs, and first removes what a killed run left behind."""

    image = _IMAGE

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / ".cache" / "podman"
        self._folder.mkdir(parents=True, exist_ok=True)
        conf = self._folder / "containers.conf"
        conf.write_text(_CONF)
        self._environ = {**os.environ, "CONTAINERS_CONF": str(conf)}
        # podman accepts at most 50 characters, and a storage requires the same path each time.
        run_root = f"/run/spawnstall-e2e-{zlib.crc32(bytes(root)):08x}"
        storage = ("--root", str(self._folder / "storage"), "--runroot", run_root)
        self._podman = ["podman", *storage, "--storage-driver", _driver(self._folder)]
        self("rm", "--all", "--force")

    def __call__(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float = 60,
        environ: Mapping[str, str] = {},
    ) -> subprocess.CompletedProcess[str]:
        """Run podman."""
        done = subprocess.run(
            [*self._podman, *arguments],
            cwd=self._root,
            env={**self._environ, **environ},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0 or not check, f"podman {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def build(self) -> None:
        """Build the image of the Dockerfile: half a minute, or seconds if only our code changed."""
        base = self._base()
        wheels = self._wheels()
        options = ("--format", "docker", "--network", "host", "--volume", f"{wheels}:/wheels:ro")
        arguments = {"BASE_IMAGE": base, "PIP_FIND_LINKS": "/wheels", "PIP_NO_INDEX": "1"}
        arguments |= {"REVISION": REVISION, "CREATED": CREATED}
        values = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        # A tag keeps the layers of the first stage for the next build.
        for name, target in ((_BUILD, ["--target", "build"]), (_IMAGE, [])):
            self("build", *options, *values, *target, "--tag", name, ".", timeout=600)
        self("image", "prune", "--force")

    @contextlib.contextmanager
    def container(
        self, *options: str, command: Sequence[str] = (), environ: Mapping[str, str] = {}
    ) -> Iterator[Container]:
        """Run a container of the image in the background until the block ends."""
        done = self("run", "--detach", *options, self.image, *command, environ=environ)
        running = Container(self, done.stdout.strip())
        try:
            yield running
        finally:
            self("rm", "--force", "--time", "0", running.id)

    def _base(self) -> str:
        """Create an image like Debian's slim one, because there is no registry."""
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        name = f"localhost/spawnstall-slim:{suite}"
        if self("image", "exists", name, check=False).returncode != 0:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                root = Path(folder, "root")
                _shell(["debootstrap", "--variant=minbase", suite, str(root)])
                (root / "etc" / "dpkg" / "dpkg.cfg.d" / "slim").write_text(_SLIM)
                left_out = [f"--exclude=./{path}" for path in (*_DOCUMENTS, *_CACHES)]
                _shell(["tar", "-C", str(root), *left_out, "-cf", f"{folder}/root.tar", "."])
                self("import", f"{folder}/root.tar", name, timeout=300)
        return name

    def _wheels(self) -> Path:
        """Download what pip needs in the image with the host's pip and its settings."""
        locked = self._root / "config" / "requirements.txt"
        folder = self._folder / f"wheels-{zlib.crc32(locked.read_bytes()):08x}"
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=self._folder) as fresh:
                download = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"]
                _shell([*download, "--dest", f"{fresh}/wheels", "-r", str(locked)])
                Path(fresh, "wheels").rename(folder)
        return folder


class Container:
    """A container, running or ended."""

    def __init__(self, engine: Engine, identifier: str) -> None:
        self._engine = engine
        self.id = identifier

    @property
    def state(self) -> Object:
        """Return the state from podman inspect: Status, Pid (on the host), ExitCode."""
        (found,) = json.loads(self._engine("inspect", self.id).stdout)
        state: Object = found["State"]
        return state

    def log(self) -> str:
        """Return its output so far."""
        done = self._engine("logs", self.id)
        return done.stdout + done.stderr

    def objects(self) -> list[Object]:
        """Return the JSON objects in its output."""
        return json_lines(self.log())

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; return its exit status."""
        deadline = time.monotonic() + seconds
        while (state := self.state)["Status"] == "running":
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)
        return int(state["ExitCode"])

    def execute(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in it (podman exec)."""
        return self._engine("exec", self.id, *command, **options)

    def stop(self) -> int:
        """Send SIGTERM; return the exit status, 137 if it had to be killed after half a minute."""
        self._engine("stop", "--time", "30", self.id)
        return self.wait()


def _shell(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def _driver(folder: Path) -> str:
    """Return the storage driver: overlays cannot be nested, as when the tests run in a container."""
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    kind = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "vfs" if kind == "overlayfs" else "overlay"
