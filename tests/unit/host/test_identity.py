# SPDX-License-Identifier: Apache-2.0
"""agent.host.identity: fake /proc trees, and the cgroup paths of the container engines."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Optional

import pytest

from agent.host import identity
from agent.host.identity import container_of, identify, running_containers
from agent.model import Container, Identity

A, B = "a1" * 32, "b2" * 32
POD = "0a1b2c3d-0000-1111-2222-334455667788"
SLICE = "kubepods-burstable-pod" + POD.replace("-", "_") + ".slice"


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("0::/user.slice/user-0.slice/session-1.scope", None),
        ("0::/", None),
        ("", None),
        # docker: cgroup v1 by cgroupfs, v2 by systemd
        (f"12:pids:/docker/{A}\n11:cpu:/docker/{A}", Container(A, "docker", None)),
        (f"0::/system.slice/docker-{A}.scope", Container(A, "docker", None)),
        # podman; conmon, which monitors a container, is not part of it
        (f"0::/machine.slice/libpod-{A}.scope/container", Container(A, "podman", None)),
        (f"0::/libpod_parent/libpod-{A}", Container(A, "podman", None)),
        (
            f"9:name=systemd:/libpod_parent/libpod-{A}\n0::/libpod_parent/libpod-{A}",
            Container(A, "podman", None),
        ),
        # seen from another cgroup namespace
        (f"0::/../libpod-{A}.scope/container", Container(A, "podman", None)),
        (f"0::/machine.slice/libpod-conmon-{A}.scope", None),
        # Kubernetes
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-{A}.scope",
            Container(A, "containerd", POD),
        ),
        (f"0::/kubepods.slice/{SLICE}/crio-{A}.scope", Container(A, "cri-o", POD)),
        (f"0::/kubepods.slice/{SLICE}/crio-conmon-{A}.scope", None),
        (f"3:cpu:/kubepods/burstable/pod{POD}/{A}", Container(A, None, POD)),
        # hybrid: only the lines of v1 have it
        (f"0::/\n1:name=systemd:/docker/{A}", Container(A, "docker", None)),
        # inside a container, names are the container's own word
        (f"0::/docker/{A}/docker/{B}", Container(A, "docker", None)),
        (f"0::/system.slice/docker-{A}.scope/libpod-{B}.scope", Container(A, "docker", None)),
        (f"0::/kubepods.slice/{SLICE}/crio-{A}.scope/pod{POD[::-1]}/{B}", Container(A, "cri-o", POD)),
        (f"0::/docker/{A}/user.slice/user-7.slice/libpod-{B}.scope", Container(A, "docker", None)),
        # of a user: rootless podman, or a name that the user made up
        (
            f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
            Container(A, "podman", None, 1000),
        ),
        (
            f"0::/user.slice/user-1000.slice/user@1000.service/user@0.service/{A}",
            Container(A, None, None, 1000),
        ),
        (f"0::/user.slice/user@33.service/docker-{A}.scope", Container(A, "docker", None, 33)),
        (f"0::/user.slice/user-0.slice/session-1.scope/libpod-{A}.scope", Container(A, "podman", None)),
        (f"1:name=systemd:/user.slice/user-7.slice/{B}\n0::/docker/{A}", Container(A, "docker", None)),
        # names chosen by others
        (f"0::/{A}x", None),
        (f"0::/x{A[:-1]}", None),
        (f"0::/a:b/docker-{A}.scope", Container(A, "docker", None)),
        (f"0::/evil-{A}.scope", Container(A, None, None)),
    ],
)
def test_container_of(cgroup: str, expected: Optional[Container]) -> None:
    assert container_of(cgroup) == expected


def _process(proc: Path, pid: int, began: int, cgroup: str = "0::/") -> None:
    """A process that started at a CLOCK_MONOTONIC time in ns."""
    folder = proc / str(pid)
    folder.mkdir()
    asleep = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    ticks = (began + asleep) * os.sysconf("SC_CLK_TCK") // 1_000_000_000
    fields = " ".join(["S", *["0"] * 18, str(ticks), "0"])
    (folder / "stat").write_text(f"{pid} (a) b) {fields}\n")
    (folder / "exe").symlink_to("/usr/bin/" + "x" * 300)
    (folder / "status").write_text("Name:\tx\nUid:\t33\t33\t33\t33\n")
    (folder / "cgroup").write_text(cgroup)


def test_identify(tmp_path: Path) -> None:
    now = time.monotonic_ns()
    _process(tmp_path, 7, now - 10**9, f"0::/docker/{A}")
    found = identify(7, now, tmp_path)
    assert found == Identity(("/usr/bin/" + "x" * 300)[:256], 33, Container(A, "docker", None))


def test_an_executable_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic_ns()
    _process(tmp_path, 7, now - 10**9, f"0::/docker/{A}")

    def refuse(_path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "readlink", refuse)
    assert identify(7, now, tmp_path) == Identity(None, 33, Container(A, "docker", None))


def test_a_process_that_started_later_is_not_identified(tmp_path: Path) -> None:
    now = time.monotonic_ns()
    _process(tmp_path, 7, now)
    assert identify(7, now - 100_000_000, tmp_path) is None
    assert identify(7, now, tmp_path) is not None


@pytest.mark.parametrize("missing", ["stat", "exe", "status", "cgroup"])
def test_a_process_that_exits_while_it_is_read(missing: str, tmp_path: Path) -> None:
    _process(tmp_path, 7, time.monotonic_ns())
    (tmp_path / "7" / missing).unlink()
    assert identify(7, time.monotonic_ns(), tmp_path) is None


def test_this_process() -> None:
    found = identify(os.getpid(), time.monotonic_ns())
    assert found is not None and found.exe is not None
    assert found.uid == os.getuid()
    assert Path(found.exe).samefile("/proc/self/exe")


def test_running_containers(tmp_path: Path) -> None:
    scope = f"/docker-{A}.scope"
    for pid, path in ((1, "/init.scope"), (5, scope), (6, scope)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::{path}\n")
    (tmp_path / "7").mkdir()  # it has exited meanwhile
    assert running_containers(tmp_path) == {Container(A, "docker", None)}


def test_running_containers_that_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> bytes:
        raise PermissionError

    (tmp_path / "1").mkdir()
    monkeypatch.setattr(identity, "contents", refuse)
    assert running_containers(tmp_path) is None
