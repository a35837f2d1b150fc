# SPDX-License-Identifier: Apache-2.0
"""Checks of the machine before anything is loaded; each failure is one line with its remedy."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from pathlib import Path

from probes import features
from probes.bpfcall import BPF_SYSCALL

__all__ = [
    "PreflightError",
    "UnsupportedError",
    "check",
    "find_tracefs",
]

_CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 21, 38, 39
_HOST_PID_NAMESPACE = 0xEFFFFFFC
"""Inode of the host's pid namespace, since 3.8 (PROC_PID_INIT_INO, include/linux/proc_ns.h)."""


class PreflightError(Exception):
    """Something is missing; the message is one line with the remedy."""


class UnsupportedError(PreflightError):
    """This host cannot be traced, and privileges do not help: the kernel lacks eBPF or a required tracepoint,
    misplaces the arguments of system calls (RHEL 9.3), or bcc cannot be imported.
    """


def check(sys_root: Path = Path("/sys"), proc: Path = Path("/proc")) -> Path:
    """Return the folder of tracefs; raise PreflightError for the first thing that is missing."""
    _check_capabilities(proc)
    _check_pid_namespace(proc)
    _check_bpf()
    tracefs = find_tracefs(sys_root)
    for name in features.missing(tracefs):
        raise UnsupportedError(
            f"this kernel ({platform.release()}) has no tracepoint {name}: it needs CONFIG_FTRACE_SYSCALLS"
        )
    return tracefs


def find_tracefs(sys_root: Path = Path("/sys")) -> Path:
    """Return where tracefs is mounted; raise PreflightError if it is not."""
    for folder in (sys_root / "kernel/tracing", sys_root / "kernel/debug/tracing"):
        try:
            if (folder / "events").is_dir():
                return folder
        except PermissionError as error:
            raise PreflightError(
                f"{folder} cannot be read: run as root, or grant CAP_DAC_READ_SEARCH"
            ) from error
    raise PreflightError(
        "tracefs is not mounted: run 'mount -t tracefs tracefs /sys/kernel/tracing'"
        " (in a container: add '-v /sys/kernel/tracing:/sys/kernel/tracing')"
    )


def _check_capabilities(proc: Path) -> None:
    effective = 0
    for line in (proc / "self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)

    def has(capability: int) -> bool:
        return bool(effective >> capability & 1)

    if has(_CAP_SYS_ADMIN) or (has(_CAP_BPF) and has(_CAP_PERFMON)):
        return
    if os.geteuid() != 0:
        raise PreflightError("tracing needs root: run it with sudo")
    raise PreflightError(
        "this root user lacks the capabilities for tracing: grant CAP_SYS_ADMIN,"
        " or CAP_BPF and CAP_PERFMON (in a container: --privileged)"
    )


def _check_pid_namespace(proc: Path) -> None:
    """The kernel side reports pids of the host's namespace, /proc those of the current one."""
    try:
        inode = (proc / "self/ns/pid").stat().st_ino
    except FileNotFoundError:  # a kernel without pid namespaces
        return
    if inode != _HOST_PID_NAMESPACE:
        raise PreflightError(
            "this pid namespace is not the host's, so the kernel's pids do not match /proc:"
            " start the container with --pid=host (Kubernetes: hostPID: true)"
        )


def _check_bpf() -> None:
    number = BPF_SYSCALL.get(platform.machine())
    if number is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(number, -1, None, 0)  # an invalid command: EINVAL if the kernel has eBPF
    code = ctypes.get_errno()
    if code == errno.ENOSYS:
        raise UnsupportedError(
            f"this kernel ({platform.release()}) has no eBPF:"
            " RHEL/CentOS 7.6 or later, or Linux 4.10 or later, is required"
        )
    if code in (errno.EPERM, errno.EACCES):
        raise PreflightError(
            "the bpf() system call is forbidden, by a seccomp profile or kernel lockdown"
            " (in a container: --privileged, or a seccomp profile that allows bpf)"
        )
