# SPDX-License-Identifier: Apache-2.0
"""Load the probes, receive their records and read their maps.

``Probes`` is the only interface to the kernel side: it calls back with each record, and returns typed copies
of what is in the maps.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from probes import features, perfevent, preflight
from probes.bpfmap import BpfMap
from probes.btf import Btf, BtfError
from probes.commstats import PLACES, STATS, TAKEN, CommTable, comm_type
from probes.compiled import Attempt, Compilation, Compiled, CompilerProcess, LoadError
from probes.openfiles import OpenFiles
from probes.perfbuffer import PerfBuffer
from probes.preflight import UnsupportedError
from probes.processrows import ProcessRows
from probes.records import (
    CommStats,
    Counter,
    Notice,
    Setting,
    Spawn,
    Stack,
    parse,
    process_type,
    watched_type,
)
from probes.stacks import ForkStacks
from probes.syscallfunctions import AT_FUNCTIONS, NoFunctionsError, SyscallFunctions, find

__all__ = [
    "CompilerProcess",
    "LoadError",
    "Loading",
    "MapUse",
    "Options",
    "ProbeStatus",
    "Probes",
    "Record",
    "Ways",
    "find_ways",
]

Record = Union[Spawn, Notice]

_log = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_SUBJECTS = ("errpipe", "tables", "spawns", "release", "pipes", "fork", "read", "openfiles")
_SOURCES = tuple(_HERE / f"{subject}.bpf.c" for subject in _SUBJECTS)
"""Compiled as one text, in this order."""

_SYSCALLS = "syscalls:"
_UNROLL = "-DUNROLL"
_AT_TRACEPOINTS = "the probes are attached to tracepoints, not to the functions of the system calls"
_NO_TYPES = "the kernel's types are missing, so inherited copies cannot be checked at a fork"
# As enum shared_program, enter_program and exit_program.
_TAILS = {
    "shared": ("let_go_next",),
    "at_enter": ("dup_over", "closing"),
    "at_exit": ("pipe_made", "dup_made"),
}


class _Copy(NamedTuple):
    """A tail-called program that is loaded once more at functions, for a function of another type.

    called_by: its map of tail calls, which it uses in place of the original's; like: the program that calls
    it.
    """

    name: str
    of: str
    called_by: str
    like: str


_COPIES = (
    _Copy("let_go_range", "let_go_next", "range_rest", "sys_exit_close_range"),
    _Copy("socketpair_made", "pipe_made", "socketpair_rest", "sys_exit_socketpair"),
)
_LRU_RESERVE = 128
"""Free entries of an LRU map that each CPU can reserve for itself."""
_OPEN_FILES = "open_files"
_OPEN_FILES_KIND = "bpf_iter_task_file"
_ASKED = "asked"
_NEWTASK = "task:task_newtask"


@dataclass(frozen=True)
class ProbeStatus:
    """The state of one program.

    runs, run_ns: number and total time of its runs; None unless the sysctl kernel.bpf_stats_enabled is on.
    """

    attached: bool
    runs: Optional[int]
    run_ns: Optional[int]


class MapUse(NamedTuple):
    """The entries of a map, and how many it has evicted since the start; None: it evicts none."""

    entries: int
    max_entries: int
    evictions: Optional[int]


SELF_TEST_THRESHOLD_NS = 1_000_000
"""The self-test's stall is longer than this."""


@dataclass(frozen=True)
class Options:
    """What the probes trace, and the sizes of their maps.

    threshold_ns: stalls of at least this duration are sent to user space.
    only_targets: only pipes created by processes named with ``add_target`` and by their descendants are
    followed.
    every: all spawns are sent to user space, not only the long ones.
    stacks: the user stack of each fork that gives a foreign process a copy is kept.
    use_btf: False only for tests of what happens without the kernel's types (misplaced arguments are noticed
    nevertheless).
    tracepoints: use the tracepoints of the system calls even if the kernel accepts programs at their
    functions, which cost less.
    max_*: entries of the maps (max_spawns: a multiple of 512, or 64).
    buffer_pages: maximum pages of each CPU's perf buffer, a power of two (perfbuffer.py).
    """

    threshold_ns: int = SELF_TEST_THRESHOLD_NS
    only_targets: bool = False
    every: bool = False
    stacks: bool = False
    use_btf: bool = True
    tracepoints: bool = False
    max_spawns: int = 4608
    max_processes: int = 4608
    max_threads: int = 4096
    max_comms: int = 1024
    max_stacks: int = 8192
    buffer_pages: int = 1024


@dataclass(frozen=True)
class Ways:
    """How the probes can be loaded and attached on this kernel.

    attempts: best first; knows_types: whether the kernel's types are known;
    why_no_iterator: why there will be no iterator over open files; None: there will be one, unless the kernel
    refuses it;
    why_no_tracepoints: why the tracepoints of system calls cannot be used; None: they can.
    """

    attempts: Sequence[Attempt]
    knows_types: bool
    why_no_iterator: Optional[str]
    why_no_tracepoints: Optional[str]


def find_ways(tracefs: Path, options: Options) -> Ways:
    """Find out how the probes can be attached.  Raises preflight.UnsupportedError."""
    btf = _kernel_types()
    no_tracepoints = None
    if btf is not None and features.arguments_are_misplaced(btf):
        no_tracepoints = _no_tracepoints(options)
    if not options.use_btf:
        btf = None
    offsets = _kernel_offsets(btf) if btf is not None else None
    iterators: dict[str, int] = {}
    why_no_iterator: Optional[str] = "the kernel's types are unknown"
    if btf is not None and offsets is not None:
        iterators, why_no_iterator = _iterators(btf)
    attempts = _attempts(tracefs, options, offsets, None if options.tracepoints else btf, iterators)
    if no_tracepoints is not None:
        attempts = [attempt for attempt in attempts if not _reads_at_tracepoints(attempt)]
        if not attempts:
            raise UnsupportedError(no_tracepoints)
    return Ways(attempts, offsets is not None, why_no_iterator, no_tracepoints)


class Loading:
    """Probes that another process is compiling, loading and attaching.

    process: that process, which the caller waits for; default: a new one.
    ways: how they can be attached.
    Raises preflight.PreflightError, whose message is for the user.
    """

    def __init__(self, options: Options, process: Optional[CompilerProcess] = None) -> None:
        self.options = options
        self.tracefs = preflight.check()
        with contextlib.ExitStack() as undo:
            if process is None:
                process = undo.enter_context(CompilerProcess())
            self.ways = find_ways(self.tracefs, options)
            for feature in features.lost(self.tracefs):
                _log.warning("this kernel lacks %s: %s", feature.name, feature.without)
            self._compilation = Compilation(
                process=process,
                sources=_SOURCES,
                attempts=self.ways.attempts,
                needed=[_function(name) for name in features.needed()],
                maps=lambda attempt: _mirrors(options, attempt),
                tracefs=self.tracefs,
            )
            self._process = undo.pop_all()

    def result(self) -> Compiled:
        """Wait for the programs; to be called once.  Raises preflight.PreflightError or LoadError."""
        with self._process:
            try:
                compiled = self._compilation.result()
            except LoadError as error:
                if self.ways.why_no_tracepoints is None:
                    raise
                raise UnsupportedError(f"{error}; {self.ways.why_no_tracepoints}") from error
        _log.debug("the probes were %s", "in the cache" if compiled.cached else "compiled")
        if compiled.refused is None:
            return compiled
        if _UNROLL not in compiled.attempt.flags:
            _log.warning("%s: %s", _AT_TRACEPOINTS, compiled.refused)
        else:
            log = _log.warning if self.ways.knows_types else _log.debug
            log("the probes use neither loops nor the kernel's types: %s", compiled.refused)
        return compiled


class Probes:
    """The loaded and attached probes; a context manager that detaches them on exit.

    source: options to load probes with, or probes that are being loaded.
    Raises preflight.PreflightError or LoadError, whose messages are for the user.
    """

    def __init__(self, source: Union[Options, Loading], on_record: Callable[[Record], None]) -> None:
        loading = source if isinstance(source, Loading) else Loading(source)
        options, tracefs = loading.options, loading.tracefs
        self._compiled = loading.result()
        used = self._compiled.attempt
        self._sees_fd_tables = "-DBTF" in used.flags
        self._on_record = on_record
        self._unreadable = 0
        self._limits = {
            "spawns": options.max_spawns,
            "processes": options.max_processes,
            "programs": options.max_comms,
        }
        maps = self._compiled.maps
        self._spawns: BpfMap[Spawn] = maps["spawns"]
        self._processes = ProcessRows(maps["processes"], self.counter)
        self._stacks = ForkStacks(maps["stacks"]) if options.stacks else None
        for function, problem in self._compiled.attached.items():
            if problem is not None:
                _log.error("cannot attach a probe to %s: some causes will be unknown (%s)", function, problem)
        self._places = {
            place if place.startswith(AT_FUNCTIONS) else name: _function(name)
            for name in features.tracepoints(tracefs)
            for place in [used.functions[_function(name)]]
        }
        try:
            self._buffer = PerfBuffer(maps["records"], maps["notices"], options.buffer_pages, self._receive)
        except OSError as error:
            self._compiled.close()
            raise LoadError(
                f"cannot create the buffers for records: {error.strerror}: {_remedy(error)}"
            ) from error
        self._comms = CommTable(maps, options.max_comms)
        self.set_threshold(options.threshold_ns)
        link = self._compiled.iterators.get(_OPEN_FILES)
        self._open_files = None if link is None else OpenFiles(link, maps[_ASKED])
        self._why_no_iterator: Optional[str] = None
        if link is None:
            refused = self._compiled.no_iterators.get(_OPEN_FILES, self._compiled.refused)
            self._why_no_iterator = loading.ways.why_no_iterator or refused
            _log.debug("no iterator over the open files: %s", self._why_no_iterator)

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to follow pipes; to be called after the first targets are added."""
        self._set(Setting.SELF, os.getpid())
        self._set(Setting.ENABLED, 1)

    def close(self) -> None:
        """Detach the programs and free the maps."""
        self._buffer.close()
        self._compiled.close()

    @property
    def sees_fd_tables(self) -> bool:
        """Whether the kernel side reads fd tables, and so sees foreign holders (needs BTF)."""
        return self._sees_fd_tables

    @property
    def bcc_version(self) -> str:
        """Version of the bcc that compiled the probes."""
        return self._compiled.bcc_version

    @property
    def open_files(self) -> Optional[OpenFiles]:
        """Finds the current holders of pipes; None without such an iterator (Linux 5.8 and BTF)."""
        return self._open_files

    @property
    def why_no_iterator(self) -> Optional[str]:
        """Why ``open_files`` is None; None if it is not."""
        return self._why_no_iterator

    def poll(self, timeout_ms: int) -> None:
        """Wait at most that long for records, and call back with each."""
        self._buffer.poll(timeout_ms)

    def set_threshold(self, nanoseconds: int) -> None:
        """Set Options.threshold_ns."""
        self._set(Setting.THRESHOLD_NS, nanoseconds)

    def _set(self, which: Setting, value: int) -> None:
        self._compiled.maps["settings"].set(int(which), value)

    def add_target(self, pid: int) -> None:
        """Trace a process and the children that it forks from now on (with Options.only_targets)."""
        self._compiled.maps["targets"].set(pid, 1)

    def spawns(self) -> list[Spawn]:
        """Return copies of all spawns in flight, and of the pipes that may become an errpipe."""
        places = [int.from_bytes(key, sys.byteorder) for key, _id in self._compiled.maps["places"].items()]
        return self._spawns_at(places)

    def watched(self) -> list[Spawn]:
        """Return copies of the spawns whose parent a foreign process may be stalling now."""
        found = self._compiled.maps["watched"].get(0)
        assert found is not None  # an element of an array
        # A spawn stays in the set when it gets another own child, which resets held.
        return [spawn for spawn in self._spawns_at(_places(found)) if spawn.held]

    def still_in_flight(self, spawns: Collection[Spawn]) -> list[Spawn]:
        """Return fresh copies of those of the spawns that have not been freed."""
        ids = {spawn.id for spawn in spawns}
        return [spawn for spawn in self._spawns_at(spawn.index for spawn in spawns) if spawn.id in ids]

    def _spawns_at(self, places: Iterable[int]) -> list[Spawn]:
        found = (self._spawns.get(place) for place in places)
        return [spawn for spawn in found if spawn is not None and spawn.id]

    def is_reading(self, place: int, spawn_id: int) -> bool:
        """Return whether the parent has not returned from the read on its errpipe."""
        found = self._spawns.get(place)
        return found is not None and found.id == spawn_id and not found.read_ended and not found.outcome

    def free(self, place: int, spawn_id: int) -> bool:
        """Free the place of a spawn that has ended, or cannot end; return whether it was still there."""
        found = self._spawns.get(place)
        if found is None or found.id != spawn_id:
            return False
        self._spawns.set(place, Spawn())
        self._compiled.maps["places"].delete(place)
        return True

    def process(self, pid: int) -> Optional[Any]:
        """Return the row of a process that may hold copies (records.process_type), or None."""
        return self._processes.get(pid)

    def may_have_evicted_processes(self) -> bool:
        """Return whether the map of processes may have been full once, so that a process lost its row."""
        return self._processes.count().at_most > 0

    def processes(self) -> Iterator[tuple[int, Any]]:
        """Yield pid and row of each process that may hold copies."""
        return self._processes.items()

    def may_hold(self, process: Any, place: int, created: int) -> bool:
        """Return whether a process inherited a copy of a spawn's write end, and may still have it.

        process: its row; place, created: of the spawn.
        """
        word = process.may_hold.words[place // 64]
        return bool(word >> place % 64 & 1) and process.born > created

    def execed(self, pid: int) -> int:
        """Return when a process called exec after it released a copy by close; 0: not known."""
        found = self._compiled.maps["execs"].get(pid)
        return int(found.value) if found is not None else 0

    def fork_stack(self, stack: int, born: int) -> tuple[int, ...]:
        """Return the addresses of a fork's stack, innermost first; empty if it was not kept.

        stack, born: of a row, or stack and acquired of a release (with Options.stacks).
        """
        return self._stacks.addresses(stack, born) if self._stacks is not None else ()

    def make_room_for_stacks(self) -> None:
        """Delete the stacks of forks whose processes no longer have a row."""
        if self._stacks is not None:
            self._stacks.make_room({process.stack for _, process in self.processes()})

    def comm_stats(self) -> dict[bytes, CommStats]:
        """Return the statistics of each comm of a parent; ``~other`` has those that found no room."""
        return self._comms.all()

    def forget_comm(self, comm: bytes) -> None:
        """Delete the statistics of a comm."""
        self._comms.forget(comm)

    def counters(self) -> dict[Counter, int]:
        """Return all counters of the kernel side."""
        values = [value.value for _key, value in self._compiled.maps["counters"].items()]
        # An unreadable record is lost, too.
        values[Counter.RECORDS_LOST] += self._unreadable
        return {which: values[which] for which in Counter}

    def misses(self) -> int:
        """Return how often a program did not run because another one was running on its CPU.

        0 before Linux 5.12, which does not count this.
        """
        return sum(self._fdinfo(function).get("recursion_misses", 0) for function in self._places.values())

    def counter(self, which: Counter) -> int:
        """Return one counter, with a single look-up."""
        value = self._compiled.maps["counters"].get(int(which))
        assert value is not None  # an element of an array
        return int(value.value) + (self._unreadable if which is Counter.RECORDS_LOST else 0)

    def map_uses(self) -> dict[str, MapUse]:
        """Return the use of the maps that can fill up, by their exported names."""
        rows = self._processes.count()
        limits = self._limits
        return {
            "spawns": MapUse(self._compiled.maps["places"].count(), limits["spawns"], None),
            "processes": MapUse(rows.entries, limits["processes"], rows.at_least),
            "programs": MapUse(self._comms.count(), limits["programs"], None),
        }

    def probes(self) -> dict[str, ProbeStatus]:
        """Return the programs by place, for example ``fentry:__x64_sys_close``."""
        counts = Path("/proc/sys/kernel/bpf_stats_enabled")
        counted = counts.exists() and counts.read_text().strip() != "0"
        found = {}
        for place, function in self._places.items():
            attached = self._compiled.attached[function] is None
            runs = run_ns = None
            if counted and attached:
                info = self._fdinfo(function)
                runs, run_ns = info["run_cnt"], info["run_time_ns"]
            found[place] = ProbeStatus(attached, runs, run_ns)
        return found

    def _fdinfo(self, function: str) -> dict[str, int]:
        """The numbers in the fdinfo of a program."""
        lines = Path(f"/proc/self/fdinfo/{self._compiled.programs[function]}").read_text().splitlines()
        fields = (line.partition(":") for line in lines)
        return {name: int(value) for name, _, value in fields if value.strip().isdecimal()}

    def _receive(self, data: bytes) -> None:
        record = parse(data)
        if record is None:
            self._unreadable += 1
            _log.warning("discarded an invalid record of %d bytes: %s", len(data), data[:16].hex())
        else:
            self._on_record(record)


def _mirrors(options: Options, attempt: Attempt) -> dict[str, tuple[Any, Any]]:
    """Types of key and value of each map of an attempt that is read here, or only kept open."""
    unrolled = _UNROLL in attempt.flags
    mirrors: dict[str, tuple[Any, Any]] = {
        "spawns": (ctypes.c_int, Spawn),
        "places": (ctypes.c_uint32, ctypes.c_uint64),
        "watched": (ctypes.c_int, watched_type(options.max_spawns)),
        "processes": (ctypes.c_uint32, process_type(options.max_spawns, has_sets=not unrolled)),
        "execs": (ctypes.c_uint32, ctypes.c_uint64),
        STATS: (ctypes.c_int if unrolled else comm_type, CommStats),
        "counters": (ctypes.c_int, ctypes.c_uint64),
        "settings": (ctypes.c_int, ctypes.c_uint64),
        "records": (ctypes.c_int, ctypes.c_int),
        "notices": (ctypes.c_int, ctypes.c_int),
        # The kernel empties a map of tail calls when no process has it open.
        **dict.fromkeys(_TAILS, (ctypes.c_int, ctypes.c_int)),
        **{each.called_by: (ctypes.c_int, ctypes.c_int) for each in _COPIES},
        "newtask_rest": (ctypes.c_int, ctypes.c_int),
    }
    if options.only_targets:
        mirrors["targets"] = (ctypes.c_uint32, ctypes.c_uint8)
    if options.stacks:
        mirrors["stacks"] = (ctypes.c_int, Stack)
    if unrolled:
        mirrors[PLACES] = (comm_type, ctypes.c_uint32)
        mirrors[TAKEN] = (ctypes.c_uint32, ctypes.c_uint8)
    if attempt.iterators:
        mirrors[_ASKED] = (ctypes.c_uint64, ctypes.c_uint64)
    return mirrors


def _attempts(
    tracefs: Path,
    options: Options,
    offsets: Optional[dict[str, int]],
    functions_of: Optional[Btf],
    iterators: dict[str, int],
) -> list[Attempt]:
    """The ways to compile and attach, best first.

    functions_of: types to find the functions of the system calls in, None: do not use them;
    iterators: loaded by each attempt with the kernel's types.
    """
    include = f"-I{_HERE}"
    tracepoints = features.tracepoints(tracefs)
    plain = _plain_events(tracefs)
    # Before 5.3 (commit 2589726d12a1) the verifier accepts no loops; such kernels have no types either.
    without_types = Attempt(
        [*_cflags(tracefs, options, None), include, _UNROLL],
        plain,
        _TAILS,
    )
    if offsets is None:
        return [without_types]
    flags = [*_cflags(tracefs, options, offsets), include]
    newtask = _function(_NEWTASK)
    # A raw tracepoint gets the task, which has the fd table.
    plain = {**plain, newtask: f"raw:{newtask}"}
    tails = {**_TAILS, "newtask_rest": [newtask]}
    attempts = [Attempt(flags, plain, tails, iterators=iterators), without_types]
    calls = [_function(name) for name in tracepoints if name.startswith(_SYSCALLS)]
    functions = _syscall_functions(functions_of, calls) if functions_of else None
    if functions is not None:
        copied = [each for each in _COPIES if each.like in functions.events]
        at_functions = Attempt(
            [*flags, *functions.flags],
            {**plain, **functions.events},
            {**tails, **{each.called_by: [each.name] for each in copied}},
            functions.ids,
            iterators,
            like={
                **dict.fromkeys(_TAILS["at_enter"], "sys_enter_close"),
                **dict.fromkeys(_TAILS["at_exit"], "sys_exit_pipe2"),
                **{each.name: each.like for each in copied},
            },
            copies={each.name: each.of for each in copied},
            renamed={each.name: {_tails_with(each.of): each.called_by} for each in copied},
        )
        attempts.insert(0, at_functions)
    return attempts


def _tails_with(program: str) -> str:
    return next(name for name, each in _TAILS.items() if program in each)


def _reads_at_tracepoints(attempt: Attempt) -> bool:
    """Whether a program reads the arguments or the result of a system call at its tracepoint."""
    return any(event.startswith(_SYSCALLS) for event in attempt.functions.values())


def _no_tracepoints(options: Options) -> str:
    """What to say on a kernel like RHEL 9.3's."""
    functions = "set probes.attach to auto, or " if options.tracepoints else ""
    return (
        f"this kernel ({platform.release()}) passes the arguments of system calls to programs at tracepoints"
        f" in the wrong place, as RHEL 9.3 does: {functions}boot a later kernel, such as RHEL 9.4's"
    )


def _iterators(btf: Btf) -> tuple[dict[str, int], Optional[str]]:
    """Attempt.iterators, and why there is none over open files (None: there is one)."""
    try:
        return {_OPEN_FILES: btf.function(_OPEN_FILES_KIND)}, None
    except BtfError as error:  # before 5.8 (commit eaaacd23910f)
        return {}, str(error)


def _syscall_functions(btf: Btf, programs: Sequence[str]) -> Optional[SyscallFunctions]:
    try:
        return find(btf, programs)
    except NoFunctionsError as error:
        _log.debug("%s: %s", _AT_TRACEPOINTS, error)
        return None


def _plain_events(tracefs: Path) -> dict[str, str]:
    """The tracepoint of each program, by the program's name."""
    return {_function(name): name for name in features.tracepoints(tracefs)}


def _function(tracepoint: str) -> str:
    """The name of a tracepoint's program in the sources."""
    return tracepoint.split(":")[1]


def _kernel_types() -> Optional[Btf]:
    """The kernel's types, or None."""
    try:
        return Btf()
    except BtfError as error:
        _log.warning("%s: %s", _NO_TYPES, error)
        return None


def _kernel_offsets(btf: Btf) -> Optional[dict[str, int]]:
    """The compile-time offsets, or None if the kernel's BTF lacks one."""
    try:
        return features.kernel_offsets(btf)
    except BtfError as error:
        _log.warning("%s: %s", _NO_TYPES, error)
        return None


def _cflags(tracefs: Path, options: Options, offsets: Optional[dict[str, int]]) -> list[str]:
    defines = {
        "MAX_SPAWNS": options.max_spawns,
        "MAX_PROCESSES": options.max_processes,
        "MAX_THREADS": options.max_threads,
        "MAX_COMMS": options.max_comms,
        "LRU_RESERVE": _LRU_RESERVE * len(perfevent.online_cpus()),
    }
    names = []
    if offsets is not None:
        names.append("BTF")
        defines.update(offsets)
    names += features.flags(tracefs)
    if options.only_targets:
        names.append("TARGETS")
    if options.every:
        names.append("EVERY")
    if options.stacks:
        names.append("STACKS")
        defines["MAX_STACKS"] = options.max_stacks
    return [f"-D{name}" for name in names] + [f"-D{name}={value}" for name, value in defines.items()]


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "allow more open files (ulimit -n, LimitNOFILE=)"
    if error.errno == errno.ENOMEM:
        return "allow more memory (MemoryMax=, the container's limit)"
    return (
        "this needs CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8), a seccomp profile that allows"
        " perf_event_open, and locked memory (ulimit -l, LimitMEMLOCK=)"
    )


def _places(found: Any) -> Iterator[int]:
    """The places in a set (records.watched_type)."""
    for number, word in enumerate(found.words):
        while word:
            yield number * 64 + (word & -word).bit_length() - 1
            word &= word - 1
