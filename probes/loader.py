"""Compiles, loads, attaches and reads the probes.

``Probes`` is the only door to the kernel side: it calls back with each record, and gives typed copies of the
maps. It knows nothing of metrics or terminals.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from probes import preflight
from probes.btf import Btf, BtfError
from probes.records import Counter, Program, RecordKind, Release, Setting, Slot, Spawn, table_type

__all__ = ["LoadError", "Options", "ProbeStatus", "Probes", "Record", "bcc_version"]

Record = Union[Spawn, Release]

_log = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_SOURCE = _HERE / "errpipe.bpf.c"
_SLOTS = 16
_OTHER = b"~other"
_SHARED_PROGRAMS = (b"release_next", b"pipe_made", b"dup_made")  # as enum shared_program
_NEWTASK = "task:task_newtask"
_NEEDED = (
    "syscalls:sys_enter_pipe2",
    "syscalls:sys_exit_pipe2",
    _NEWTASK,
    "syscalls:sys_enter_close",
    "syscalls:sys_enter_read",
    "syscalls:sys_exit_read",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "syscalls:sys_exit_execve",
)
"""Without one of these nothing can be followed."""

_HELPFUL = (
    "syscalls:sys_enter_socketpair",
    "syscalls:sys_exit_socketpair",
    "syscalls:sys_enter_dup",
    "syscalls:sys_exit_dup",
    "syscalls:sys_enter_dup3",
    "syscalls:sys_exit_dup3",
    "syscalls:sys_enter_fcntl",
    "syscalls:sys_exit_fcntl",
    "syscalls:sys_enter_unshare",
    "syscalls:sys_exit_execveat",
)
"""Without one of these some answers become unknown."""

_NOT_EVERYWHERE = {
    "HAVE_PIPE": ("syscalls:sys_enter_pipe", "syscalls:sys_exit_pipe"),  # not on arm64
    "HAVE_DUP2": ("syscalls:sys_enter_dup2", "syscalls:sys_exit_dup2"),  # not on arm64
    "HAVE_CLOSE_RANGE": ("syscalls:sys_enter_close_range",),  # since 5.9
}
"""By the compile-time name that says so: system calls that a kernel may not have."""

# Compile-time name: where the kernel keeps it.
_OFFSETS = {
    "OFF_TASK_FILES": ("task_struct", "files"),
    "OFF_TASK_TGID": ("task_struct", "tgid"),
    "OFF_TASK_SIGNAL": ("task_struct", "signal"),
    "OFF_SIGNAL_LIVE": ("signal_struct", "live"),
    "OFF_FILES_COUNT": ("files_struct", "count"),
    "OFF_FILES_FDT": ("files_struct", "fdt"),
    "OFF_FDT_MAX": ("fdtable", "max_fds"),
    "OFF_FDT_FD": ("fdtable", "fd"),
    "OFF_FDT_CLOEXEC": ("fdtable", "close_on_exec"),
    "OFF_FILE_PRIVATE": ("file", "private_data"),
    "OFF_FILE_MODE": ("file", "f_mode"),
    "OFF_FILE_INODE": ("file", "f_inode"),
    "OFF_INODE_NUMBER": ("inode", "i_ino"),
}


class LoadError(Exception):
    """The kernel refused the programs; one line that says which and why."""


@dataclass(frozen=True)
class ProbeStatus:
    """One program of the kernel side.

    runs, run_ns: how often and how long it has run, None unless the sysctl kernel.bpf_stats_enabled is on.
    """

    attached: bool
    runs: Optional[int]
    run_ns: Optional[int]


@dataclass(frozen=True)
class Options:
    """What one run of the probes traces and how much it may remember.

    threshold_ns: stalls of at least this reach user space.
    targets: only pipes made by processes that were named by ``add_target`` (and their descendants) count.
    every: every spawn and every foreign release reaches user space, not only those of a stall.
    use_btf: check each inherited copy in the child's own fd table; off only to test without.
    The sizes are entries of the maps and pages (a power of two) of each CPU's perf buffer.
    """

    threshold_ns: int
    targets: bool = False
    every: bool = False
    use_btf: bool = True
    max_spawns: int = 8192
    max_tables: int = 8192
    max_threads: int = 8192
    max_programs: int = 1024
    buffer_pages: int = 64


class Probes:
    """The loaded and attached probes; a context manager that detaches them at its end.

    Raises preflight.PreflightError or LoadError, each with a message for the user.
    """

    def __init__(self, options: Options, on_record: Callable[[Record], None]) -> None:
        tracefs = preflight.check()
        import bcc  # 70 MB of LLVM: only when probes are really loaded

        self._on_record = on_record
        self._limits = {
            "spawns": options.max_spawns,
            "tables": options.max_tables,
            "programs": options.max_programs,
        }
        self._offsets = _kernel_offsets() if options.use_btf else None
        self._bpf = self._load(bcc, tracefs, options)
        self._spawns = self._bpf.get_table(b"spawns", ctypes.c_uint64, Spawn)
        table = table_type(_SLOTS)
        self._tables = self._bpf.get_table(b"tables", ctypes.c_uint32, table)
        self._programs = self._bpf.get_table(b"programs", ctypes.c_char * 16, Program)
        self._counters = self._bpf.get_table(b"counters", ctypes.c_int, ctypes.c_uint64)
        for name, ours in (("spawns", Spawn), ("tables", table), ("programs", Program)):
            theirs = self._bpf[name.encode()].Leaf
            if ctypes.sizeof(theirs) != ctypes.sizeof(ours):
                raise LoadError(f"records.py and errpipe.h disagree about {name}: a broken install")
        self._attached = {name: self._attach(name) for name in _tracepoints(tracefs)}
        self._bpf[b"records"].open_perf_buffer(
            self._receive, page_cnt=options.buffer_pages, lost_cb=_ignore_lost
        )
        if _OTHER not in self.programs():
            self._programs[_comm_key(_OTHER)] = Program()
        self.set_threshold(options.threshold_ns)

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Begins to follow pipes; to be called when the first targets are set."""
        self._set(Setting.SELF, os.getpid())
        self._set(Setting.ENABLED, 1)

    def close(self) -> None:
        """Detaches the programs and frees the maps."""
        tracepoints = list(self._bpf.tracepoint_fds)
        # The kernel waits 70 ms for each tracepoint to be out of use; the waits overlap in part.
        with ThreadPoolExecutor(max(1, len(tracepoints))) as threads:
            list(threads.map(self._bpf.detach_tracepoint, tracepoints))
        self._bpf.cleanup()

    @property
    def sees_fd_tables(self) -> bool:
        """Whether inherited copies are checked in the kernel's own fd tables (needs BTF)."""
        return self._offsets is not None

    def poll(self, timeout_ms: int) -> None:
        """Waits at most that long for records and calls back with each."""
        self._bpf.perf_buffer_poll(timeout_ms)

    def set_threshold(self, nanoseconds: int) -> None:
        """Stalls of at least this reach user space from now on."""
        self._set(Setting.THRESHOLD_NS, nanoseconds)

    def _set(self, which: Setting, value: int) -> None:
        self._bpf[b"settings"][ctypes.c_int(which)] = ctypes.c_uint64(value)

    def add_target(self, pid: int) -> None:
        """Traces a process and what it forks from now on (with Options.targets)."""
        self._bpf[b"targets"][ctypes.c_uint32(pid)] = ctypes.c_uint8(1)

    def spawns(self) -> list[Spawn]:
        """Copies of the spawns in flight."""
        return [_copy(Spawn, spawn) for spawn in self._values(self._spawns)]

    def holders(self) -> Iterator[tuple[int, Any, Slot]]:
        """Each process that holds a copy of a write end: its pid, its table and its slot."""
        for key in list(self._tables.keys()):
            try:
                table = self._tables[key]
            except KeyError:
                continue  # ended in between
            for slot in table.slots:
                if slot.id:
                    yield key.value, table, slot

    def holds(self, pid: int, spawn_id: int) -> bool:
        """Whether a process is listed now as a holder of a spawn's write end."""
        try:
            slots = self._tables[ctypes.c_uint32(pid)].slots
        except KeyError:
            return False
        return any(slot.id == spawn_id for slot in slots)

    def programs(self) -> dict[bytes, Program]:
        """What was aggregated for each comm of a parent, ``~other`` being the rest."""
        found = {}
        for key in list(self._programs.keys()):
            with contextlib.suppress(KeyError):
                found[bytes(key.value)] = _copy(Program, self._programs[key])
        return found

    def forget_program(self, comm: bytes) -> None:
        """Drops what was aggregated for one comm (the self-test's)."""
        with contextlib.suppress(KeyError):
            del self._programs[_comm_key(comm)]

    def counters(self) -> dict[Counter, int]:
        """The kernel side's counters."""
        return {which: int(self._counters[ctypes.c_int(which)].value) for which in Counter}

    def map_entries(self) -> dict[str, tuple[int, int]]:
        """Entries now and at most of the maps that can fill up."""
        maps = {"spawns": self._spawns, "tables": self._tables, "programs": self._programs}
        return {name: (len(list(maps[name].keys())), limit) for name, limit in self._limits.items()}

    @staticmethod
    def _values(table: Any) -> Iterator[Any]:
        for key in list(table.keys()):
            with contextlib.suppress(KeyError):  # ended in between
                yield table[key]

    def _receive(self, _cpu: int, data: int, _size: int) -> None:
        kind = ctypes.c_uint32.from_address(data).value
        structure: type[Union[Spawn, Release]] = Spawn if kind == RecordKind.SPAWN else Release
        # The memory is the perf buffer's: copied before the callback returns.
        self._on_record(structure.from_buffer_copy(ctypes.string_at(data, ctypes.sizeof(structure))))

    def probes(self) -> dict[str, ProbeStatus]:
        """Each program by its tracepoint, as in ``syscalls:sys_enter_close``."""
        counts = Path("/proc/sys/kernel/bpf_stats_enabled")
        counted = counts.exists() and counts.read_text().strip() != "0"
        found = {}
        for tracepoint, attached in self._attached.items():
            runs = run_ns = None
            if counted and attached:
                function = self._bpf.funcs[_function(tracepoint)]
                lines = Path(f"/proc/self/fdinfo/{function.fd}").read_text().splitlines()
                fields = dict(line.split(":", 1) for line in lines if ":" in line)
                runs, run_ns = int(fields["run_cnt"]), int(fields["run_time_ns"])
            found[tracepoint] = ProbeStatus(attached, runs, run_ns)
        return found

    def _is_raw(self, tracepoint: str) -> bool:
        """A raw tracepoint gets the task, and so the fd table."""
        return tracepoint == _NEWTASK and self.sees_fd_tables

    def _attach(self, tracepoint: str) -> bool:
        function = _function(tracepoint)
        try:
            if self._is_raw(tracepoint):
                self._bpf.attach_raw_tracepoint(function, function)
            else:
                self._bpf.attach_tracepoint(tracepoint.encode(), fn_name=function)
        except Exception as error:  # bcc raises plain Exception
            if tracepoint in _NEEDED:
                self.close()
                raise LoadError(f"the kernel has no {tracepoint} for the probes: {error}") from error
            _log.error("no probe at %s: some stalls will be of unknown cause (%s)", tracepoint, error)
            return False
        return True

    def _load(self, bcc: Any, tracefs: Path, options: Options) -> Any:
        try:
            return self._compile(bcc, tracefs, _cflags(tracefs, options, self._offsets))
        except LoadError as first:
            # Verifiers before 5.3 take no loops (commit 2589726d12a1): try once more without any. Without BTF
            # too, which those kernels do not have: that keeps each program within their 4096 instructions.
            tell = _log.debug if self._offsets is None else _log.warning
            tell("retrying with unrolled loops, and without kernel types: %s", first)
            self._offsets = None
            try:
                return self._compile(bcc, tracefs, [*_cflags(tracefs, options, None), "-DUNROLL"])
            except LoadError:
                raise first from None

    def _compile(self, bcc: Any, tracefs: Path, flags: list[str]) -> Any:
        with tempfile.TemporaryDirectory(prefix="spawnstall-") as folder:
            shim = Path(folder) / "shim"
            shutil.copytree(_HERE / "shim", shim)
            (shim / "include/linux/version.h").write_text(_version_header(platform.release()))
            (shim / "include/uapi/linux/version.h").write_text("")
            with _kernel_source(shim), _captured_stderr(Path(folder) / "stderr") as said:
                try:
                    bpf = bcc.BPF(src_file=os.fsencode(_SOURCE), cflags=[*flags, f"-I{_HERE}"])
                    for tracepoint in _tracepoints(tracefs):
                        raw = self._is_raw(tracepoint)
                        kind = bcc.BPF.RAW_TRACEPOINT if raw else bcc.BPF.TRACEPOINT
                        bpf.load_func(_function(tracepoint), kind)
                    for index, name in enumerate(_SHARED_PROGRAMS):
                        program = bpf.load_func(name, bcc.BPF.TRACEPOINT)
                        bpf[b"shared"][ctypes.c_int(index)] = ctypes.c_int(program.fd)
                except Exception as error:  # bcc raises plain Exception
                    raise LoadError(f"the kernel did not take the probes: {error}{said()}") from error
        return bpf


def _tracepoints(tracefs: Path) -> list[str]:
    """Every tracepoint that has a program on this kernel."""
    there = [names for names in _NOT_EVERYWHERE.values() if _has_all(tracefs, names)]
    return [*_NEEDED, *_HELPFUL, *itertools.chain.from_iterable(there)]


def _has_all(tracefs: Path, tracepoints: Sequence[str]) -> bool:
    return all(preflight.has_tracepoint(tracefs, name.replace(":", "/")) for name in tracepoints)


def _function(tracepoint: str) -> bytes:
    """The program's name in errpipe.bpf.c."""
    return tracepoint.split(":")[1].encode()


def _kernel_offsets() -> Optional[dict[str, int]]:
    """The compile-time offsets, or None where the kernel's BTF does not have them all."""
    try:
        btf = Btf()
        offsets = {name: btf.offset(*where) for name, where in _OFFSETS.items()}
        try:
            # 6.13 (commit 90ee6ed776c0) counts from zero: one reference is 0.
            offsets["OFF_FILE_COUNT"] = btf.offset("file", "f_ref")
            offsets["FILE_COUNT_ONE"] = 0
        except BtfError:
            offsets["OFF_FILE_COUNT"] = btf.offset("file", "f_count")
            offsets["FILE_COUNT_ONE"] = 1
        return offsets
    except BtfError as error:
        _log.warning("no kernel types, so inherited copies cannot be checked at a fork: %s", error)
        return None


def _cflags(tracefs: Path, options: Options, offsets: Optional[dict[str, int]]) -> list[str]:
    defines = {
        "SLOTS": _SLOTS,
        "MAX_SPAWNS": options.max_spawns,
        "MAX_TABLES": options.max_tables,
        "MAX_THREADS": options.max_threads,
        "MAX_PROGRAMS": options.max_programs,
    }
    names = []
    if offsets is not None:
        names.append("BTF")
        defines.update(offsets)
    names += [name for name, tracepoints in _NOT_EVERYWHERE.items() if _has_all(tracefs, tracepoints)]
    if "group_dead" in preflight.tracepoint_fields(tracefs, "sched/sched_process_exit"):
        names.append("GROUP_DEAD")
    if options.targets:
        names.append("TARGETS")
    if options.every:
        names.append("EVERY")
    return [f"-D{name}" for name in names] + [f"-D{name}={value}" for name, value in defines.items()]


def _version_header(release: str) -> str:
    """linux/version.h for a kernel release such as ``5.14.0-362.el9.x86_64``."""
    numbers = [int(number) for number in re.findall(r"\d+", release)[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return (
        f"#define LINUX_VERSION_CODE {(major << 16) + (minor << 8) + min(patch, 255)}\n"
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
    )


@contextlib.contextmanager
def _kernel_source(folder: Path) -> Iterator[None]:
    """Shows bcc our few headers instead of a kernel tree."""
    name = "BCC_KERNEL_SOURCE"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _captured_stderr(path: Path) -> Iterator[Callable[[], str]]:
    """Keeps what clang and the verifier print; the value tells its first line, for the error message."""
    sys.stderr.flush()
    saved = os.dup(2)
    with path.open("w+b") as file:
        os.dup2(file.fileno(), 2)

        def said() -> str:
            lines = path.read_text(errors="replace").strip().splitlines()
            _log.debug("bcc said: %s", "\n".join(lines[-200:]))
            return f" ({lines[0][:200]})" if lines else ""

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _comm_key(comm: bytes) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * 16).from_buffer_copy(comm.ljust(16, b"\0"))


def _copy(structure: Any, value: Any) -> Any:
    return structure.from_buffer_copy(value)


def _ignore_lost(_count: int) -> None:
    """The kernel side counts what did not fit, exactly and at once (RECORDS_LOST)."""


def bcc_version() -> str:
    """Version of the bcc that is used."""
    import bcc

    return str(getattr(bcc, "__version__", "unknown"))
