# SPDX-License-Identifier: Apache-2.0
"""Holders that do unusual things with their copy: they are followed, with the right cause."""

from __future__ import annotations

import ctypes

import pytest

from probes.btf import VMLINUX_BTF
from tests.live.lab import TOLERANCE_SECONDS, Lab

_TRICKS = [
    "dup",
    "dup2",
    "dupfd",
    "replaced",
    "setfd",
    "fionclex",
    "fioclex",
    "close_range",
    "thread_exec",
    "leader_exit",
    "grandchild",
]


def _can_close_on_exec_by_range() -> bool:
    """Return whether the kernel supports it, by a call for fds that do not exist."""
    number, first, last, flags = 436, 1 << 20, 1 << 20, 1 << 2  # SYS_close_range, CLOSE_RANGE_CLOEXEC
    return bool(ctypes.CDLL(None).syscall(number, first, last, flags) == 0)


@pytest.mark.parametrize("trick", _TRICKS)
def test_unusual_holder(lab: Lab, trick: str) -> None:
    if trick == "close_range" and not _can_close_on_exec_by_range():
        pytest.skip("this kernel has no close_range with CLOSE_RANGE_CLOEXEC (since 5.11)")
    traced = lab.trace(lab.program("holder_tricks.py", trick))
    [spawn] = traced.spawns()
    [truth] = [line for line in traced.printed if line["kind"] == "truth"]
    grandchild = [line["pid"] for line in traced.printed if line["kind"] == "grandchild"]
    [stall] = traced.of("stall")
    first = stall["holders"][0]
    if trick == "thread_exec" and not VMLINUX_BTF.exists():
        assert first["pid"] in (None, spawn["holder"])  # found if /proc shows it
        assert first["cause"] == "unknown"  # whether the exit of a leader is the exit of the process
        return
    assert first["pid"] == (grandchild[0] if grandchild else spawn["holder"])
    assert first["cause"] == truth["cause"]
    assert stall["stall_seconds"] == pytest.approx(spawn["kept"], abs=2 * TOLERANCE_SECONDS)


def test_copies_at_more_fds_than_are_followed_are_not_guessed(lab: Lab) -> None:
    traced = lab.trace(lab.program("holder_tricks.py", "many_dups"))
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    first = stall["holders"][0]
    assert first["pid"] in (spawn["holder"], None)
    assert first["cause"] in ("forked", "unknown", "passed")


def test_holder_that_has_the_pid_of_the_own_child(lab: Lab) -> None:
    """The pid was reused: the child had ended long before."""
    traced = lab.trace(lab.program("reused_pid.py"))
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    first = stall["holders"][0]
    assert first["pid"] == spawn["child"] != spawn["worker"]
    assert (first["cause"], first["comm"]) == ("forked", "python3")
    assert stall["holders"][1]["pid"] == spawn["worker"]
    assert stall["stall_seconds"] > spawn["kept"]
