# SPDX-License-Identifier: Apache-2.0
"""Clean roots of Debian releases, in which a package is installed and run on this kernel."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["TOOLS", "Root", "suites"]

TOOLS = ("mmdebstrap", "unshare", "chroot")
_INCLUDE = "bash-completion,ca-certificates,man-db,python3-venv,rpm,sudo,systemd"
# In a mount namespace of its own, so that nothing stays mounted. The mounts of /sys include tracefs. The root
# is a mount itself: where / is none, rpm 4.20 (Debian 13) runs no scriptlets.
_ENTER = """\
root=$1; shift
mount --bind "$root" "$root" || exit
for each in proc sys dev; do mount --rbind /$each "$root/$each" || exit; done
exec chroot "$root" "$@"
"""


def suites() -> list[str]:
    """The releases that are tried: this machine's, or those in SUITES."""
    chosen = os.environ.get("SUITES", "").split()
    return chosen or [platform.freedesktop_os_release()["VERSION_CODENAME"]]


class Root:
    """A root with what a host has (systemd, sudo, man, rpm), and nothing that a package of ours needs."""

    def __init__(self, suite: str, folder: Path) -> None:
        self.path = folder / suite
        command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={_INCLUDE}", suite, str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, done.stderr
        shutil.copy("/etc/resolv.conf", self.path / "etc" / "resolv.conf")

    def run(
        self, *command: str, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in it."""
        done = subprocess.run(
            self._enter(*command),
            env=_environ({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    @contextlib.contextmanager
    def background(
        self, *command: str, environ: Mapping[str, str], log: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command in it until the block ends, with its output in a file."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._enter(*command),
                env=_environ(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def copy(self, file: Path) -> str:
        """Copy a file into it; return its path there."""
        shutil.copy(file, self.path / "root" / file.name)
        return f"/root/{file.name}"

    def _enter(self, *command: str) -> list[str]:
        own_mounts = ["unshare", "--mount", "--propagation", "private"]
        return [*own_mounts, "sh", "-c", _ENTER, "sh", str(self.path), *command]


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "MANPAGER": "cat", **more}
