# SPDX-License-Identifier: Apache-2.0
"""probes.preflight: what is missing, and the remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes import preflight
from probes.preflight import PreflightError, check, find_tracefs
from tests.unit.samples import FakeProc

ADMIN, PERFMON, BPF = 1 << 21, 1 << 38, 1 << 39


def proc_with(root: Path, capabilities: int) -> Path:
    folder = FakeProc(root).root / "self"
    folder.mkdir()
    (folder / "status").write_text(
        f"Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\tffffffffffffffff\nCapEff:\t{capabilities:016x}\n"
    )
    return root


@pytest.mark.parametrize("capabilities", [ADMIN, BPF | PERFMON, ADMIN | BPF, (1 << 41) - 1])
def test_enough_capabilities(capabilities: int, tmp_path: Path) -> None:
    preflight._check_capabilities(proc_with(tmp_path, capabilities))


@pytest.mark.parametrize("capabilities", [0, BPF, PERFMON, ~(ADMIN | BPF) & (1 << 41) - 1])
@pytest.mark.parametrize(
    ("user", "cure"), [(1000, "run it with sudo"), (0, "CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON")]
)
def test_too_few_capabilities(
    capabilities: int, user: int, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(PreflightError) as caught:
        check(tmp_path, proc_with(tmp_path, capabilities))
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["kernel/tracing", "kernel/debug/tracing"])
def test_where_tracefs_is_mounted(place: str, tmp_path: Path) -> None:
    (tmp_path / place / "events").mkdir(parents=True)
    assert find_tracefs(tmp_path) == tmp_path / place


def test_its_own_mount_point_comes_first(tmp_path: Path) -> None:
    for place in ("kernel/tracing", "kernel/debug/tracing"):
        (tmp_path / place / "events").mkdir(parents=True)
    assert find_tracefs(tmp_path) == tmp_path / "kernel/tracing"


def test_no_tracefs(tmp_path: Path) -> None:
    (tmp_path / "kernel/tracing").mkdir(parents=True)  # the mount point without a mount
    with pytest.raises(PreflightError, match="mount -t tracefs tracefs /sys/kernel/tracing"):
        find_tracefs(tmp_path)


def test_tracefs_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(PreflightError, match=r"kernel/tracing .*CAP_DAC_READ_SEARCH"):
        find_tracefs(tmp_path)


def test_the_hosts_pid_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = proc_with(tmp_path, ADMIN)
    preflight._check_pid_namespace(proc)  # a kernel without pid namespaces
    (proc / "self/ns").mkdir()
    (proc / "self/ns/pid").touch()
    monkeypatch.setattr(preflight, "_HOST_PID_NAMESPACE", (proc / "self/ns/pid").stat().st_ino)
    preflight._check_pid_namespace(proc)


def test_another_pid_namespace(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, ADMIN)
    (proc / "self/ns").mkdir()
    (proc / "self/ns/pid").touch()
    with pytest.raises(PreflightError, match="--pid=host") as caught:
        check(tmp_path, proc)
    assert "\n" not in str(caught.value)
