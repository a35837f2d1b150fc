# SPDX-License-Identifier: Apache-2.0
"""The kernel features in use: since when they exist, how they are detected, what is lost without them.

Version numbers decide nothing, because distributions backport: each feature is probed for.  The preflight,
the loader and the table in README.md (``python -m probes.features`` prints it) all use ``FEATURES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from probes.btf import Btf, BtfError

__all__ = [
    "FEATURES",
    "Feature",
    "arguments_are_misplaced",
    "flags",
    "has_tracepoint",
    "kernel_offsets",
    "lost",
    "missing",
    "needed",
    "table",
    "tracepoints",
]


@dataclass(frozen=True)
class Feature:
    """A feature that a kernel has or lacks.

    since: version of Linux, with the commit if that is not obvious, and of RHEL.
    detected: how, if not by its tracepoints.
    without: what is lost without it; empty if there is nothing to trace then.
    required: without it there is no tracing.
    tracepoints: the feature needs all of them; field: and this field of the first one.
    flag: the compile-time name that is defined if the kernel has the feature.
    """

    name: str
    since: str
    detected: str = ""
    without: str = ""
    required: bool = False
    tracepoints: tuple[str, ...] = ()
    field: str = ""
    flag: str = ""

    def is_there(self, tracefs: Path) -> bool:
        """Return whether the kernel has the tracepoints and the field."""
        there = all(has_tracepoint(tracefs, tracepoint) for tracepoint in self.tracepoints)
        return there and (not self.field or self.field in _fields(tracefs, self.tracepoints[0]))


_EXIT = "sched:sched_process_exit"

FEATURES = (
    Feature(
        "eBPF with LRU maps",
        "4.10, RHEL 7.6",
        "bpf(2) with an invalid command fails with EINVAL",
        "no tracing: `trace-popen --pid` only searches /proc",
        required=True,
    ),
    Feature(
        "programs at the tracepoints of system calls",
        "4.14 (cf5f5cea2706), RHEL 7.6",
        "the kernel attaches one",
        "no tracing",
    ),
    Feature(
        "more than one program at a tracepoint",
        "4.15 (e87c6bc3852b)",
        "the kernel attaches one where another tracer has its own",
        "no tracing while another tracer, or another agent, has a program at the same tracepoint",
    ),
    Feature(
        "the tracepoints of pipes, processes and reads",
        "3.10, with CONFIG_FTRACE_SYSCALLS",
        without="no tracing",
        required=True,
        tracepoints=(
            "syscalls:sys_enter_pipe2",
            "syscalls:sys_exit_pipe2",
            "task:task_newtask",
            "syscalls:sys_enter_close",
            "syscalls:sys_enter_read",
            "syscalls:sys_exit_read",
            "sched:sched_process_exec",
            _EXIT,
        ),
    ),
    Feature(
        "the tracepoints of dup, dup3 and fcntl",
        "3.10",
        without="copies that dup or fcntl makes are not followed; their holders are found only by a search",
        tracepoints=(
            "syscalls:sys_enter_dup",
            "syscalls:sys_exit_dup",
            "syscalls:sys_enter_dup3",
            "syscalls:sys_enter_fcntl",
            "syscalls:sys_exit_fcntl",
        ),
        flag="HAVE_DUP",
    ),
    Feature(
        "the tracepoints of socketpair",
        "3.10",
        without="spawns by Rust's Command with pre_exec are not counted",
        tracepoints=("syscalls:sys_enter_socketpair", "syscalls:sys_exit_socketpair"),
        flag="HAVE_SOCKETPAIR",
    ),
    Feature(
        "the tracepoint of unshare",
        "3.10",
        without="a thread that stops sharing its process's fd table is not noticed",
        tracepoints=("syscalls:sys_enter_unshare",),
        flag="HAVE_UNSHARE",
    ),
    Feature(
        "the exit of execve",
        "3.10; on x86_64 4.17 (fa697140f9a2), because the system call table had an assembler stub there",
        without="the error of a failed exec is unknown",
        tracepoints=("syscalls:sys_exit_execve",),
        flag="HAVE_EXECVE",
    ),
    Feature(
        "the system call execveat",
        "3.19; on x86_64 its tracepoints 4.17, as those of execve",
        tracepoints=("syscalls:sys_exit_execveat",),
        flag="HAVE_EXECVEAT",
    ),
    Feature(
        "the system call pipe",
        "always; not on arm64",
        tracepoints=("syscalls:sys_enter_pipe", "syscalls:sys_exit_pipe"),
        flag="HAVE_PIPE",
    ),
    Feature(
        "the system call dup2",
        "always; not on arm64",
        tracepoints=("syscalls:sys_enter_dup2",),
        flag="HAVE_DUP2",
    ),
    Feature(
        "the system call close_range",
        "5.9",
        tracepoints=("syscalls:sys_enter_close_range", "syscalls:sys_exit_close_range"),
        flag="HAVE_CLOSE_RANGE",
    ),
    Feature(
        "the end of a process's last thread",
        "6.16",
        "sched_process_exit has the field `group_dead`",
        "the count of live threads is read: two that exit at once can both be taken for the last one (without"
        " kernel types, the main thread is)",
        tracepoints=(_EXIT,),
        field="group_dead",
        flag="GROUP_DEAD",
    ),
    Feature(
        "the kernel's types",
        "5.4 (341dfcf8d78e), RHEL 8.3, with CONFIG_DEBUG_INFO_BTF",
        "/sys/kernel/btf/vmlinux has every structure member that is read",
        "only parents and their own children are followed; holders come from /proc",
        flag="BTF",
    ),
    Feature(
        "arguments of system calls where the format files of their tracepoints say",
        "always, except in RHEL 9.3 (5.14.0-362): its `trace_entry` has grown, so the arguments are 8 bytes"
        " beyond that place, and the kernel refuses a program that reads there",
        "the kernel's types: `ret` has the same offset in `syscall_tp_t` and `syscall_trace_exit`",
        "no tracing at tracepoints, only at functions",
    ),
    Feature(
        "raw tracepoints",
        "4.17 (c4f6699dfcb8)",
        "the kernel takes the programs",
        "as without the kernel's types",
    ),
    Feature(
        "loops in programs, and a million instructions to verify",
        "5.3 (2589726d12a1), RHEL 8.3",
        "the kernel takes the programs",
        "as without the kernel's types",
    ),
    Feature(
        "programs at functions",
        "5.5 (fec56f5890d9), on arm64 6.0; not used without `bpf_tramp_image` (5.12, e21aa341785c, RHEL 8.5),"
        " because the kernel then frees code in which a thread may be sleeping",
        "the kernel accepts a program at the entry and one at the exit of each system call's function",
        "uninvolved system calls cost more",
        flag="FENTRY",
    ),
    Feature(
        "a function that reads pipes",
        "`anon_pipe_read` since 6.15, `pipe_read` before",
        "the kernel accepts a program there",
        "reads of files and sockets cost more",
        flag="PIPE_READ",
    ),
    Feature(
        "an iterator over open files",
        "5.8 (eaaacd23910f), RHEL 8.10 and 9",
        "the kernel's types have `bpf_iter_task_file`, and the kernel accepts the program",
        "holders come from /proc, for stalls of at least a quarter of a second",
    ),
)


@dataclass(frozen=True)
class _Members:
    """Members of kernel structures by the compile-time name of their offset, and constants to define."""

    offsets: Mapping[str, tuple[str, str]]
    constants: Mapping[str, int] = field(default_factory=dict)


_MEMBERS: tuple[tuple[_Members, ...], ...] = (
    (
        _Members(
            {
                "OFF_TASK_FILES": ("task_struct", "files"),
                "OFF_TASK_TGID": ("task_struct", "tgid"),
                "OFF_TASK_LEADER": ("task_struct", "group_leader"),
                "OFF_TASK_COMM": ("task_struct", "comm"),
                "OFF_TASK_PID": ("task_struct", "pid"),
                "OFF_TASK_EXIT_CODE": ("task_struct", "exit_code"),
                "OFF_TASK_SIGNAL": ("task_struct", "signal"),
                "OFF_SIGNAL_LIVE": ("signal_struct", "live"),
                "OFF_FILES_COUNT": ("files_struct", "count"),
                "OFF_FILES_FDT": ("files_struct", "fdt"),
                "OFF_FDT_MAX": ("fdtable", "max_fds"),
                "OFF_FDT_FD": ("fdtable", "fd"),
                "OFF_FDT_CLOEXEC": ("fdtable", "close_on_exec"),
                "OFF_FDT_OPEN": ("fdtable", "open_fds"),
                "OFF_FILE_PRIVATE": ("file", "private_data"),
                "OFF_FILE_MODE": ("file", "f_mode"),
                "OFF_FILE_INODE": ("file", "f_inode"),
                "OFF_INODE_NUMBER": ("inode", "i_ino"),
                "OFF_PIPE_WRITERS": ("pipe_inode_info", "writers"),
            }
        ),
    ),
    (
        _Members(
            {"OFF_PIPE_HEAD": ("pipe_inode_info", "head"), "OFF_PIPE_TAIL": ("pipe_inode_info", "tail")}
        ),
        # Before 5.5 (8cefc107ca54) a pipe has the number of buffers in use.
        _Members(
            {
                "OFF_PIPE_NRBUFS": ("pipe_inode_info", "nrbufs"),
                "OFF_PIPE_CURBUF": ("pipe_inode_info", "curbuf"),
                "OFF_PIPE_BUFFERS": ("pipe_inode_info", "buffers"),
            }
        ),
    ),
    (
        # Since 6.13 (90ee6ed776c0) the count of a file with one reference is zero.
        _Members({"OFF_FILE_COUNT": ("file", "f_ref")}, {"FILE_COUNT_ONE": 0}),
        _Members({"OFF_FILE_COUNT": ("file", "f_count")}, {"FILE_COUNT_ONE": 1}),
    ),
)
"""From each group the first alternative is used whose members the kernel's types all have."""


def kernel_offsets(btf: Btf) -> dict[str, int]:
    """Return the compile-time offsets and constants.  Raises BtfError if a member is missing."""
    found: dict[str, int] = {}
    for alternatives in _MEMBERS:
        found.update(_first_of(btf, alternatives))
    return found


def _first_of(btf: Btf, alternatives: Sequence[_Members]) -> dict[str, int]:
    for members in alternatives:
        try:
            offsets = {name: btf.offset(*where) for name, where in members.offsets.items()}
        except BtfError as error:
            problem = error
        else:
            return {**offsets, **members.constants}
    raise problem


def arguments_are_misplaced(btf: Btf) -> bool:
    """Return whether the arguments of system calls are elsewhere than the format files say (RHEL 9.3).

    A format file describes syscall_trace_enter or syscall_trace_exit; a program gets a syscall_tp_t.
    """
    try:
        return btf.offset("syscall_tp_t", "ret") != btf.offset("syscall_trace_exit", "ret")
    except BtfError:  # not known: the self-test finds out
        return False


def has_tracepoint(tracefs: Path, name: str) -> bool:
    """Return whether the kernel has a tracepoint, such as ``sched:sched_process_exec``."""
    return (tracefs / "events" / name.replace(":", "/") / "format").is_file()


def _fields(tracefs: Path, name: str) -> frozenset[str]:
    """Return the names of a tracepoint's fields, from its format file."""
    text = (tracefs / "events" / name.replace(":", "/") / "format").read_text()
    declarations = (line.split(";")[0] for line in text.splitlines() if line.strip().startswith("field:"))
    return frozenset(declaration.split()[-1].split("[")[0].lstrip("*") for declaration in declarations)


def tracepoints(tracefs: Path) -> list[str]:
    """Return the tracepoints that have a program on this kernel."""
    there = [feature for feature in FEATURES if not feature.field and feature.is_there(tracefs)]
    return [name for feature in there for name in feature.tracepoints]


def flags(tracefs: Path) -> list[str]:
    """Return the compile-time names of the features that are detected by their tracepoints."""
    there = (feature for feature in FEATURES if feature.tracepoints and feature.is_there(tracefs))
    return [feature.flag for feature in there if feature.flag]


def needed() -> list[str]:
    """Return the required tracepoints."""
    return [name for feature in FEATURES if feature.required for name in feature.tracepoints]


def missing(tracefs: Path) -> list[str]:
    """Return the required tracepoints that the kernel lacks."""
    return [name for name in needed() if not has_tracepoint(tracefs, name)]


def lost(tracefs: Path) -> Iterator[Feature]:
    """Yield the optional features whose tracepoints the kernel lacks, if their absence loses something."""
    for feature in FEATURES:
        matters = feature.without and not feature.required and not feature.field
        if matters and not feature.is_there(tracefs):
            yield feature


def table() -> str:
    """Return the table of all features in Markdown."""
    rows = [("feature", "since Linux", "detected", "without it"), ("---",) * 4]
    for feature in FEATURES:
        detected = feature.detected or "by its tracepoints"
        without = feature.without or "nothing: the kernel lacks this system call"
        rows.append((feature.name, feature.since, detected, without))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(table(), end="")
