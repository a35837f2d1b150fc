# SPDX-License-Identifier: Apache-2.0
"""The tracer in this process: without BTF, and on kernels that it must reject."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.model import Cause, Confirmation, Spawn, Stall
from agent.tracing.prepared import TraceError, TracerOptions
from agent.tracing.tracer import Tracer
from probes import compiled, features, loader, preflight, records
from probes.btf import Btf, BtfError
from probes.compiled import Compiled
from probes.syscallfunctions import NoFunctionsError, SyscallFunctions, find
from tests.live.lab import PYTHON, Lab, json_lines

_SPAWNS = "import os, subprocess\nfor _ in range(5): subprocess.run(['/bin/true']); os.pipe()"


def test_every_probe_attaches_and_the_self_test_passes() -> None:
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None
        assert {name for name, status in tracer.probes().items() if not status.attached} == set()


@pytest.mark.tracepoints
def test_without_btf_a_confirmed_holder_is_named(lab: Lab) -> None:
    """Inherited copies are only assumed then, so a holder is named only if /proc confirms it."""
    stalls: list[Stall] = []
    spawns: list[Spawn] = []
    with Tracer(TracerOptions(use_btf=False, every=True), stalls.append, spawns.append) as tracer:
        assert tracer.start() is None
        command = lab.program("fork_beside_popen.py", "--force", "3", "--live", "1.5")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            while program.poll() is None:
                tracer.run_once(0.05)
            assert program.stdout is not None
            printed = json_lines(program.stdout.read())
        tracer.drain()
    workers = {line["child"]: line["worker"] for line in printed if line.get("worker")}
    found = {stall.spawn.child: stall.culprit for stall in stalls if stall.ended is not None}
    assert {child: found[child].pid for child in workers} == workers
    for child in workers:
        assert found[child].cause is Cause.FORKED
        assert found[child].confirmation is Confirmation.CONFIRMED


def test_self_test_fails_if_arguments_are_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on RHEL 9.3, where every system call argument was eight bytes beyond its place in the format."""
    plain = loader._cflags

    def shifted(*arguments: object) -> list[str]:
        return [*plain(*arguments), "-DFAULT_SHIFTED_ARGUMENTS"]  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "_cflags", shifted)
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        began = time.monotonic()
        wrong = tracer.start()
        assert time.monotonic() - began < 5
    assert wrong is not None


def test_probes_are_all_at_functions_or_all_at_tracepoints() -> None:
    expected = "syscalls:"
    names = features.tracepoints(preflight.find_tracefs())
    with contextlib.suppress(BtfError, NoFunctionsError):
        find(Btf(), [name.removeprefix(expected) for name in names if name.startswith(expected)])
        expected = ("fentry:", "fexit:")  # type: ignore[assignment]
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        places = [place for place in tracer.probes() if not place.startswith(("sched:", "task:"))]
        assert [place for place in places if not place.startswith(expected)] == []


def test_no_child_inherits_the_probes() -> None:
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None
        links = {
            int(fd.name): str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()
        }
        ours = [fd for fd, link in links.items() if "bpf" in link]
        assert len(ours) > 30
        assert [fd for fd in ours if os.get_inheritable(fd)] == []


@pytest.mark.tracepoints
def test_at_tracepoints_on_request() -> None:
    with Tracer(TracerOptions(tracepoints=True), lambda stall: None) as tracer:
        assert tracer.start() is None
        assert {place.split(":")[0] for place in tracer.probes()} == {"syscalls", "sched", "task"}


@pytest.mark.tracepoints
def test_kernel_with_only_the_required_features(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing features are not compiled in, and the lost functions are reported."""
    monkeypatch.setattr(features, "has_tracepoint", lambda _tracefs, name: name in features.needed())
    lost = [
        feature.without
        for feature in features.FEATURES
        if feature.tracepoints and not feature.required and not feature.field
    ]
    with Tracer(TracerOptions(tracepoints=True), lambda stall: None) as tracer:
        assert tracer.start() is None
        assert set(tracer.probes()) == set(features.needed())
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.rpartition(": ")[2] for line in logged] == [
        text.rpartition(": ")[2] for text in lost if text
    ]


@pytest.mark.tracepoints
def test_functions_that_the_kernel_rejects_in_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If a function cannot be attached to, the programs attach to tracepoints, and a line reports it."""
    functions = SyscallFunctions({"sys_enter_read": "fentry:no_such_function"}, {"no_such_function": 1}, [])
    monkeypatch.setattr(loader, "find", lambda btf, programs: functions)
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None
        assert {place.split(":")[0] for place in tracer.probes()} == {"syscalls", "sched", "task"}
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "attached to tracepoints" in warning


def _refuse(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Make one program attach to a tracepoint that does not exist, as on a kernel without it."""
    plain = loader._plain_events

    def events(tracefs: Path) -> dict[str, str]:
        found = plain(tracefs)
        return {**found, **{name: "syscalls:no_such_event" for name in found if found[name] == refused}}

    monkeypatch.setattr(loader, "_plain_events", events)


@pytest.mark.tracepoints
def test_probe_that_does_not_attach_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, "syscalls:sys_enter_dup")
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None
        attached = {name: status.attached for name, status in tracer.probes().items()}
    assert attached.pop("syscalls:sys_enter_dup") is False
    assert set(attached.values()) == {True}


@pytest.mark.tracepoints
def test_without_a_needed_probe_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    _refuse(monkeypatch, "syscalls:sys_enter_close")
    with pytest.raises(TraceError, match="syscalls:no_such_event"):
        Tracer(TracerOptions(), lambda stall: None)


def test_pid_filter_counts_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that is left behind makes every later process with that pid pay for the look-ups."""
    made: list[Compiled] = []

    class WithPidFilter(compiled.Compilation):
        def __init__(self, maps: Callable[[Any], dict[str, Any]], **options: Any) -> None:
            one_more = {"pid_filter": (ctypes.c_int, ctypes.c_uint32)}
            super().__init__(maps=lambda attempt: {**maps(attempt), **one_more}, **options)

        def result(self) -> Compiled:
            made.append(super().result())
            return made[0]

    monkeypatch.setattr(loader, "Compilation", WithPidFilter)
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None
        read, write = os.pipe()
        with ThreadPoolExecutor(4) as threads:  # two threads can create a process's row at the same time
            list(threads.map(lambda _: subprocess.run([PYTHON, "-c", _SPAWNS], check=True), range(20)))
        os.close(read)
        os.close(write)
        maps = made[0].maps
        deadline = time.monotonic() + 10
        while True:  # other processes start and end between the two looks
            counted = sum(entry.value for _key, entry in maps["pid_filter"].items())
            processes = maps["processes"].count()
            if counted == processes or time.monotonic() > deadline:
                break
        assert counted == processes


def test_run_times_of_the_probes() -> None:
    sysctl = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = sysctl.read_text()
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None
        try:
            sysctl.write_text("1")
            subprocess.run(["/bin/true"], check=True)
            exits = tracer.probes()["sched:sched_process_exit"]
            assert exits.runs and exits.run_ns
            assert exits.run_ns / exits.runs < 1_000_000
            sysctl.write_text("0")
            assert tracer.probes()["sched:sched_process_exit"].runs is None
        finally:
            sysctl.write_text(before)


def test_the_first_of_many_records_wakes_the_tracer() -> None:
    """The records of the next 20 ms wait in the buffer until it looks, which spares a wake-up for each."""
    source = "import subprocess\ninput()\nfor _ in range(5): subprocess.run(['/bin/true'])\nprint()\ninput()"
    found: list[loader.Record] = []
    with (
        loader.Probes(loader.Options(every=True, only_targets=True), found.append) as probes,
        subprocess.Popen([PYTHON, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent,
    ):
        assert parent.stdin is not None and parent.stdout is not None
        probes.start()
        probes.add_target(parent.pid)
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        began = time.monotonic()
        probes.poll(10_000)
        assert time.monotonic() - began < 5
        assert found
        parent.stdout.readline()
        probes.poll(0)
        time.sleep(0.05)
        probes.poll(0)
        spawns = [record for record in found if isinstance(record, records.Spawn)]
        notices = [record for record in found if isinstance(record, records.Notice)]
        assert len(spawns) == 5
        assert 1 <= len(notices) <= 4
        assert {notice.kind for notice in notices} == {records.RecordKind.SENT}
        parent.stdin.write(b"\n")
