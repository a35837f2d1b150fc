# SPDX-License-Identifier: Apache-2.0
"""probes.loader: what it does without a kernel."""

from __future__ import annotations

import ctypes
import errno
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from probes import features, loader, perfevent
from probes.btf import Btf, BtfError
from probes.compiled import Attempt
from probes.loader import Options
from probes.preflight import UnsupportedError
from probes.processrows import ProcessRows
from probes.records import Spawn, process_type, watched_type
from probes.syscallfunctions import NoFunctionsError, SyscallFunctions

BASE = {
    "-DMAX_SPAWNS=4608",
    "-DMAX_PROCESSES=4608",
    "-DMAX_THREADS=4096",
    "-DMAX_COMMS=1024",
    "-DLRU_RESERVE=384",
}


@pytest.fixture
def tracefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tracefs of a kernel without tracepoints, on a machine with three CPUs."""
    monkeypatch.setattr(perfevent, "online_cpus", lambda: [0, 1, 3])
    return tmp_path


def flags(tracefs: Path, options: Options, offsets: Optional[dict[str, int]] = None) -> set[str]:
    found = loader._cflags(tracefs, options, offsets)
    assert len(found) == len(set(found))
    return set(found)


def test_a_kernel_without_anything_special(tracefs: Path) -> None:
    assert flags(tracefs, Options(threshold_ns=1)) == BASE


def test_options(tracefs: Path) -> None:
    options = Options(
        threshold_ns=1,
        only_targets=True,
        every=True,
        max_spawns=64,
        max_processes=2,
        max_threads=3,
        max_comms=4,
    )
    assert flags(tracefs, options) == {
        "-DTARGETS",
        "-DEVERY",
        "-DMAX_SPAWNS=64",
        "-DMAX_PROCESSES=2",
        "-DMAX_THREADS=3",
        "-DMAX_COMMS=4",
        "-DLRU_RESERVE=384",
    }


def test_stacks(tracefs: Path) -> None:
    options = Options(threshold_ns=1, stacks=True, max_stacks=64)
    assert flags(tracefs, options) == {*BASE, "-DSTACKS", "-DMAX_STACKS=64"}


def test_offsets(tracefs: Path) -> None:
    offsets = {"OFF_TASK_FILES": 2920, "FILE_COUNT_ONE": 0}
    assert flags(tracefs, Options(threshold_ns=1), offsets) == {
        *BASE,
        "-DBTF",
        "-DOFF_TASK_FILES=2920",
        "-DFILE_COUNT_ONE=0",
    }


class _Kernel93:
    """Types of a kernel like RHEL 9.3's; it has every member that is read."""

    def offset(self, structure: str, member: str) -> int:
        return 24 if (structure, member) == ("syscall_tp_t", "ret") else 16

    def function(self, name: str) -> int:
        raise BtfError(f"no function {name}")


def _no_functions(btf: Btf, programs: Sequence[str]) -> SyscallFunctions:
    raise NoFunctionsError("load: not supported")


def _functions(btf: Btf, programs: Sequence[str]) -> SyscallFunctions:
    return SyscallFunctions({name: f"fentry:{name}" for name in programs}, dict.fromkeys(programs, 1), [])


@pytest.fixture
def kernel93(tracefs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in features.needed():
        folder = tracefs / "events" / name.replace(":", "/")
        folder.mkdir(parents=True)
        (folder / "format").touch()
    monkeypatch.setattr(loader, "Btf", _Kernel93)
    monkeypatch.setattr(loader, "find", _functions)
    return tracefs


def test_no_program_reads_arguments_at_tracepoints_if_they_are_misplaced(kernel93: Path) -> None:
    [attempt] = loader.find_ways(kernel93, Options()).attempts
    assert "fentry:sys_enter_close" in attempt.functions.values()
    assert {place.split(":")[0] for place in attempt.functions.values()} == {"fentry", "sched", "raw"}


def test_what_other_functions_tail_call_is_loaded_again_not_compiled_again(kernel93: Path) -> None:
    for call in ("close_range", "socketpair"):
        for side in ("enter", "exit"):
            folder = kernel93 / f"events/syscalls/sys_{side}_{call}"
            folder.mkdir(parents=True)
            (folder / "format").touch()
    [attempt] = loader.find_ways(kernel93, Options()).attempts
    assert attempt.copies == {"let_go_range": "let_go_next", "socketpair_made": "pipe_made"}
    assert attempt.tails["range_rest"] == ["let_go_range"]
    assert attempt.renamed["let_go_range"] == {"shared": "range_rest"}
    assert attempt.like["socketpair_made"] == "sys_exit_socketpair"


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (Options(), "boot a later kernel"),
        (Options(tracepoints=True), "set probes.attach to auto"),
        (Options(use_btf=False), "boot a later kernel"),
    ],
)
def test_misplaced_arguments_without_functions_are_one_line(
    options: Options, cure: str, kernel93: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not options.tracepoints and options.use_btf:
        monkeypatch.setattr(loader, "find", _no_functions)
    with pytest.raises(UnsupportedError, match=r"RHEL 9\.3") as caught:
        loader.find_ways(kernel93, options)
    assert cure in str(caught.value)
    assert "\n" not in str(caught.value)


def test_misplaced_arguments_are_named_if_the_functions_are_refused_in_the_end(
    kernel93: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise loader.LoadError("the kernel refused the probes: Operation not permitted")

    monkeypatch.setattr("probes.preflight.check", lambda: kernel93)
    monkeypatch.setattr(loader, "Compilation", lambda **_: SimpleNamespace(result=refuse))
    with pytest.raises(UnsupportedError, match=r"not permitted; .*RHEL 9\.3") as caught:
        loader.Loading(Options()).result()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EPERM, "CAP_PERFMON"),
        (errno.EMFILE, "LimitNOFILE="),
        (errno.ENOMEM, "MemoryMax="),
    ],
)
def test_a_kernel_that_gives_no_rings_is_one_line(
    number: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    maps = dict.fromkeys(("spawns", "processes", "comm_stats", "records", "notices"))
    compiled = SimpleNamespace(
        attempt=Attempt([], {}),
        refused=None,
        cached=False,
        maps=maps,
        attached={},
        close=lambda: closed.append(1),
    )

    def refuse(*_arguments: object) -> None:
        raise OSError(number, "perf_event_open: no")

    monkeypatch.setattr("probes.preflight.check", lambda: Path("/nowhere"))
    compilation = SimpleNamespace(result=lambda: compiled)
    monkeypatch.setattr(loader, "Compilation", lambda **_: compilation)
    monkeypatch.setattr(loader, "_attempts", lambda *_: [])
    monkeypatch.setattr(loader, "PerfBuffer", refuse)
    with pytest.raises(loader.LoadError) as caught:
        loader.Probes(Options(threshold_ns=1, use_btf=False), lambda record: None)
    assert "perf_event_open: no" in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    assert closed == [1]


class _Maps(loader.Probes):
    """Probes with a test's maps."""

    def __init__(self, **maps: Any) -> None:
        self._compiled = SimpleNamespace(maps=maps)  # type: ignore[assignment]
        self._spawns = maps.get("spawns", {})
        self._processes = ProcessRows(maps.get("processes", {}), self.counter)
        self._stacks = None
        self._unreadable = 0


def _key(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


def test_the_spawns_in_flight_are_at_the_places_that_are_taken() -> None:
    spawns = {2: Spawn(id=7), 5: Spawn(id=0), 9: Spawn(id=8)}
    probes = _Maps(places={_key(2): 1, _key(5): 2, _key(3): 4}, spawns=spawns)
    assert [spawn.id for spawn in probes.spawns()] == [7]  # one place has been freed, one spawn is missing


def test_the_spawns_that_are_still_in_flight() -> None:
    probes = _Maps(spawns={2: Spawn(id=7, outcome=1), 5: Spawn(id=0), 9: Spawn(id=11)})
    before = [Spawn(index=2, id=7), Spawn(index=5, id=8), Spawn(index=9, id=10), Spawn(index=10, id=9)]
    assert [(spawn.id, spawn.outcome) for spawn in probes.still_in_flight(before)] == [(7, 1)]


@pytest.mark.parametrize("places", [[], [0], [63, 64], [1, 62, 127, 500]])
def test_the_spawns_that_are_watched(places: list[int]) -> None:
    words = watched_type(512)()
    for place in places:
        words.words[place // 64] |= 1 << place % 64
    probes = _Maps(watched={0: words}, spawns={place: Spawn(id=place + 1, held=1) for place in range(512)})
    assert [spawn.id for spawn in probes.watched()] == [place + 1 for place in places]


@pytest.mark.parametrize(
    ("spawn", "is_reading"),
    [
        (Spawn(id=7), True),
        (Spawn(id=7, read_ended=5), False),
        (Spawn(id=7, outcome=1), False),
        (Spawn(id=8), False),  # the place is another spawn's
        (None, False),
    ],
)
def test_whether_a_parent_is_still_reading(spawn: Optional[Spawn], is_reading: bool) -> None:
    assert _Maps(spawns={} if spawn is None else {2: spawn}).is_reading(2, 7) is is_reading


def test_who_may_hold_a_copy() -> None:
    """A process that was forked after the pipe was created, and whose bit is set."""
    process = process_type(512)(born=10)
    process.may_hold.words[1] = 1 << 36
    probes = _Maps(processes={5: process})
    found = probes.process(5)
    assert probes.may_hold(found, 100, created=9)
    assert not probes.may_hold(found, 100, created=10)  # the bit is an earlier spawn's
    assert not probes.may_hold(found, 99, created=9)
    assert not probes.may_hold(found, 36, created=9)
    assert probes.process(6) is None


def test_every_process_with_its_pid() -> None:
    one, other = process_type(64)(born=1), process_type(64)(born=2)
    probes = _Maps(processes={_key(7): one, _key(1 << 20): other})
    assert {pid: process.born for pid, process in probes.processes()} == {7: 1, 1 << 20: 2}


def test_when_a_process_called_exec_after_a_release() -> None:
    probes = _Maps(execs={5: ctypes.c_uint64(99), 6: ctypes.c_uint64(0)})
    assert [probes.execed(pid) for pid in (5, 6, 7)] == [99, 0, 0]


@pytest.mark.parametrize(
    ("table", "enum"),
    [("shared", "shared_program"), ("at_enter", "enter_program"), ("at_exit", "exit_program")],
)
def test_programs_are_tail_called_in_the_order_of_the_header(table: str, enum: str, repo_root: Path) -> None:
    header = (repo_root / "probes" / "errpipe.h").read_text()
    *names, _end = header.split(f"enum {enum} {{")[1].split("}")[0].replace(",", "").split()
    assert [name.upper() for name in loader._TAILS[table]] == names


def test_bcc_is_not_loaded_here(repo_root: Path) -> None:
    modules = "probes.loader, agent.tracing.tracer, agent.serve.daemon, agent.cli.main"
    code = f"import sys, {modules}; sys.exit('bcc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=repo_root, check=True)
