"""Who a process is beyond its comm: executable, user, and the container and pod that its cgroup path tells.

A pid can have been taken by another process since it was seen: who began too late is not who was meant, and
the answer is then None.  Formats: proc(5), cgroups(7); paths as the container engines really make them, for
cgroup v1 and v2, with the cgroupfs and the systemd driver.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from agent.host.procfs import PROC, contents
from agent.model import Container, Identity

__all__ = ["container_of", "identify"]

_EXE_LENGTH = 256
_LATE_NS = 20_000_000  # a start time is cut to ticks of 10 ms
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
"""By the folder above a container that has no prefix (cgroupfs driver)."""


def identify(pid: int, seen: int, proc: Path = PROC) -> Optional[Identity]:
    """The identity of the process that had a pid at a time (CLOCK_MONOTONIC ns); None when it is gone."""
    folder = f"{proc}/{pid}"
    try:
        stat = contents(f"{folder}/stat")
        ticks = int(stat[stat.rindex(b")") + 2 :].split()[19])
        if _monotonic_ns(ticks) > seen + _LATE_NS:
            return None
        exe = _executable(folder)
        uid = int(contents(f"{folder}/status").split(b"\nUid:", 1)[1].split(None, 1)[0])
        cgroup = contents(f"{folder}/cgroup").decode(errors="replace")
    except (OSError, ValueError, IndexError):
        return None  # gone meanwhile, or a kernel thread
    return Identity(exe, uid, container_of(cgroup))


def _executable(folder: str) -> Optional[str]:
    try:
        # As the kernel has it, " (deleted)" and all.
        return os.readlink(f"{folder}/exe")[:_EXE_LENGTH]  # noqa: PTH115
    except PermissionError:  # it takes CAP_SYS_PTRACE; user and cgroup do not
        return None


@functools.lru_cache(maxsize=1024)
def container_of(cgroup: str) -> Optional[Container]:
    """The container of a process by its ``/proc/PID/cgroup``; the innermost one when they are nested."""
    for line in cgroup.splitlines():
        parts = line.rpartition(":")[2].split("/")
        for place in range(len(parts) - 1, 0, -1):
            found = _CONTAINER.fullmatch(parts[place])
            # conmon watches a container from outside: libpod-conmon-ID.scope, crio-conmon-ID.scope.
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
    """A start time in ticks since boot, on the clock that stands still while the machine sleeps."""
    asleep = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK") - asleep
