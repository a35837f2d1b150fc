# SPDX-License-Identifier: Apache-2.0
"""Identify a process: its executable, its user, and the container and pod in its cgroup path.

A pid may be reused after a process was seen: a process that started later is not identified.  Formats:
proc(5), cgroups(7); the cgroup paths are those of the container engines, for cgroup v1 and v2, with the
cgroupfs and systemd drivers.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from agent.host.procfs import PROC, contents, stat_field
from agent.model import Container, Identity

__all__ = ["container_of", "identify"]

_MAX_EXE = 256
_STARTTIME = 22  # the field of /proc/PID/stat
_LATE_NS = 20_000_000  # start times have a resolution of one tick, 10 ms
_CONTAINER = re.compile(r"(?:(?P<engine>[a-z-]+)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
_POD = re.compile(r"pod(?P<uid>[0-9a-f]{8}([-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?$")
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
        if _monotonic_ns(stat_field(pid, _STARTTIME, proc)) > seen + _LATE_NS:
            return None
        exe = _executable(folder)
        uid = int(contents(f"{folder}/status").split(b"\nUid:", 1)[1].split(None, 1)[0])
        cgroup = contents(f"{folder}/cgroup").decode(errors="replace")
    except (OSError, ValueError, IndexError):
        return None  # it has exited, or is a kernel thread
    return Identity(exe, uid, container_of(cgroup))


def _executable(folder: str) -> Optional[str]:
    try:
        # As the kernel reports it, including " (deleted)".
        return os.readlink(f"{folder}/exe")[:_MAX_EXE]  # noqa: PTH115
    except PermissionError:  # needs CAP_SYS_PTRACE, unlike user and cgroup
        return None


@functools.lru_cache(maxsize=1024)
def container_of(cgroup: str) -> Optional[Container]:
    """The container in the content of ``/proc/PID/cgroup``; the innermost one if containers are nested."""
    for line in cgroup.splitlines():
        parts = line.rpartition(":")[2].split("/")
        for place in range(len(parts) - 1, 0, -1):
            found = _CONTAINER.fullmatch(parts[place])
            # conmon monitors a container from outside: libpod-conmon-ID.scope, crio-conmon-ID.scope.
            if found and not str(found["engine"]).endswith("conmon"):
                runtime = _RUNTIMES.get(found["engine"] or "") or _PARENTS.get(parts[place - 1])
                return Container(found["id"], runtime, _pod(parts[:place]))
    return None


def _pod(parts: Iterable[str]) -> Optional[str]:
    for part in parts:
        found = _POD.search(part)
        if found:
            return found["uid"].replace("_", "-")
    return None


def _monotonic_ns(ticks: int) -> int:
    """Convert a start time (ticks since boot) to CLOCK_MONOTONIC, which stops during suspend."""
    suspended = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK") - suspended
