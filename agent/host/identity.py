# SPDX-License-Identifier: Apache-2.0
"""Identify a process: its executable, its user, and the container and pod in its cgroup path.

A pid may be reused after a process was seen: a process that started later is not identified.  Formats:
proc(5), cgroups(7); the cgroup paths are those of the container engines, for cgroup v1 and v2, with the
cgroupfs and systemd drivers.

Who may write to a cgroup can create others below it, with any name.  So only the outermost container of a
path counts: those inside it are its own word.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from agent.host.procfs import PROC, contents, pids, started
from agent.model import Container, Identity

__all__ = ["container_of", "identify", "running_containers"]

_MAX_EXE = 256
_LATE_NS = 20_000_000  # start times have a resolution of one tick, 10 ms
_CONTAINER = re.compile(r"(?:(?P<engine>[a-z-]+)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
_POD = re.compile(r"pod(?P<uid>[0-9a-f]{8}([-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?$")
_USER = re.compile(r"user(?:-(?P<slice>\d{1,10})\.slice|@(?P<service>\d{1,10})\.service)")
"""The cgroups of a user under systemd: user-1000.slice, and in it user@1000.service, which is delegated."""
_RUNTIMES = {
    "docker": "docker",
    "libpod": "podman",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
}
_PARENTS = {"docker": "docker", "libpod_parent": "podman"}
"""Runtime by parent directory, for container directories without a prefix (cgroupfs driver)."""


def identify(pid: int, seen: int, proc: Path = PROC) -> Optional[Identity]:
    """The identity of the process that had a pid at a time (CLOCK_MONOTONIC ns); None if it is gone."""
    folder = f"{proc}/{pid}"
    try:
        if started(pid, proc) > seen + _LATE_NS:
            return None
        exe = _executable(folder)
        uid = int(contents(f"{folder}/status").split(b"\nUid:", 1)[1].split(None, 1)[0])
        cgroup = contents(f"{folder}/cgroup").decode(errors="replace")
    except (OSError, ValueError, IndexError):
        return None  # it has exited, or is a kernel thread
    return Identity(exe, uid, container_of(cgroup))


def running_containers(proc: Path = PROC) -> Optional[set[Container]]:
    """The containers with a process now; None if a process hides its own from us."""
    found = set()
    for pid in pids(proc):
        try:
            container = container_of(contents(f"{proc}/{pid}/cgroup").decode(errors="replace"))
        except PermissionError:
            return None
        except OSError:  # it has exited
            continue
        if container is not None:
            found.add(container)
    return found


def _executable(folder: str) -> Optional[str]:
    try:
        # As the kernel reports it, including " (deleted)".
        return os.readlink(f"{folder}/exe")[:_MAX_EXE]  # noqa: PTH115
    except PermissionError:  # needs CAP_SYS_PTRACE, unlike user and cgroup
        return None


@functools.lru_cache(maxsize=1024)
def container_of(cgroup: str) -> Optional[Container]:
    """The container in the content of ``/proc/PID/cgroup``; the outermost one if containers are nested.

    The lines of cgroup v1 can differ: a container that root has created counts more than one of a user.
    """
    lines = [line.rpartition(":")[2].split("/") for line in cgroup.splitlines()]
    found = [container for container in map(_outermost, lines) if container is not None]
    return min(found, key=lambda container: container.user is not None, default=None)


def _outermost(parts: Sequence[str]) -> Optional[Container]:
    for place in range(1, len(parts)):
        found = _CONTAINER.fullmatch(parts[place])
        # conmon monitors a container from outside: libpod-conmon-ID.scope, crio-conmon-ID.scope.
        if found and not str(found["engine"]).endswith("conmon"):
            runtime = _RUNTIMES.get(found["engine"] or "") or _PARENTS.get(parts[place - 1])
            return Container(found["id"], runtime, _pod(parts[:place]), _user(parts[:place]))
    return None


def _user(parts: Iterable[str]) -> Optional[int]:
    """The unprivileged user to whom this part of the tree belongs, if any."""
    for part in parts:
        found = _USER.fullmatch(part)
        if found:
            return int(found["slice"] or found["service"]) or None
    return None


def _pod(parts: Iterable[str]) -> Optional[str]:
    for part in parts:
        found = _POD.search(part)
        if found:
            return found["uid"].replace("_", "-")
    return None
