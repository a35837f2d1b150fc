# SPDX-License-Identifier: Apache-2.0
"""Limits of RHEL 8.1's 4.18, 4.12 and RHEL 7's 3.10: without loops and BTF, all programs are simple enough.

``tests/kernels`` boots such kernels; these tests find on any kernel what they would reject.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import graphlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from probes import bpfcall, bytecode, compiled, compiler, loader
from probes import programs as bpf_programs
from probes.compiled import Compiled

pytestmark = pytest.mark.tracepoints

_INSTRUCTIONS = 4096
_WALKED = 131072  # BPF_COMPLEXITY_LIMIT_INSNS there, for all paths of one program
_LARGEST = 256  # half of the stack, from which they insert values
_NEWER_JUMPS = (0xA0, 0xB0, 0xC0, 0xD0)  # <, <= and their signed forms, since 4.14 (commit 92b31a9af73b)
# The helpers of RHEL 7's kernel by number (linux/bpf.h), and those that bcc replaces by probe_read there.
_HELPERS = {
    1: "map_lookup_elem",
    2: "map_update_elem",
    3: "map_delete_elem",
    4: "probe_read",
    5: "ktime_get_ns",
    8: "get_smp_processor_id",
    12: "tail_call",
    14: "get_current_pid_tgid",
    16: "get_current_comm",
    25: "perf_event_output",
    112: "probe_read_user",
    113: "probe_read_kernel",
}


class _Instruction(NamedTuple):
    code: int
    source: int
    offset: int
    value: int

    @property
    def jumps(self) -> bool:
        return self.code & 0x07 == 0x05 and not self.calls and not self.exits

    @property
    def always_jumps(self) -> bool:
        return self.code == 0x05

    @property
    def calls(self) -> bool:
        return self.code == 0x85

    @property
    def exits(self) -> bool:
        return self.code == 0x95


def _instructions(code: bytes) -> list[_Instruction]:
    return [
        _Instruction(opcode, registers >> 4, offset, value)
        for opcode, registers, offset, value in struct.iter_unpack("=BBhi", code)
    ]


@pytest.fixture
def unrolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this kernel reject loops, as those do."""

    class WithoutLoops(compiled.Compilation):
        def __init__(self, attempts: list[Any], **options: Any) -> None:
            super().__init__(attempts=attempts[-1:], **options)

        def result(self) -> Compiled:
            return dataclasses.replace(super().result(), refused="back-edge from insn 100 to 50")

    monkeypatch.setattr(loader, "Compilation", WithoutLoops)


@pytest.fixture
def bpf_of_4_12(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bpf(2) refuse in this process what 4.12 does not know, and a log of any length."""

    def bpf(command: int, attributes: ctypes.Structure) -> int:
        if command > 14:  # BPF_OBJ_GET_INFO_BY_FD, 4.13
            raise OSError(errno.EINVAL, "4.12 lacks this command")
        if any(bytes(attributes)[48:]):
            raise OSError(errno.E2BIG, "4.12's union bpf_attr is shorter")
        if command == 0 and any(bytes(attributes)[24:]):
            raise OSError(errno.EINVAL, "4.12 knows no names")
        if getattr(attributes, "log_level", 0):
            raise OSError(errno.ENOSPC, "the log is too long")
        return bpfcall.bpf(command, attributes)

    for module in (bytecode, bpf_programs):
        monkeypatch.setattr(module, "bpf", bpf)


@pytest.fixture(params=["host", "command"])
def loaded(
    request: pytest.FixtureRequest, unrolled: None, bpf_of_4_12: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[compiler.Loaded]:
    """Compile and load as the agent does, and as trace-popen -- COMMAND --all does."""
    asked: list[dict[str, Any]] = []
    plain = compiled.CompilerProcess.ask

    def ask(process: compiled.CompilerProcess, request: Mapping[str, Any]) -> None:
        asked.append(dict(request))
        plain(process, request)

    monkeypatch.setattr(compiled.CompilerProcess, "ask", ask)
    more = request.param == "command"
    options = loader.Options(threshold_ns=1, only_targets=more, every=more)
    with loader.Probes(options, lambda record: None) as probes:
        assert not probes.sees_fd_tables
    [body] = asked
    attempt = body["attempts"][0]
    loaded = compiler.load(compiler.compile_(body, attempt, []), attempt)
    yield loaded
    loaded.close()


@pytest.fixture
def programs(loaded: compiler.Loaded) -> dict[str, list[_Instruction]]:
    """Return the programs as clang compiled them, before the kernel changes them."""
    programs = {name: _instructions(code) for name, code in loaded.bytecode.programs.items()}
    assert {"sys_enter_close", "task_newtask", "let_go_next", "closing"} <= set(programs)
    return programs


def test_programs_are_short(programs: dict[str, list[_Instruction]]) -> None:
    lengths = {name: len(program) for name, program in programs.items()}
    assert {name: length for name, length in lengths.items() if length > _INSTRUCTIONS} == {}
    assert max(lengths.values()) > 1000  # they are the unrolled ones


def test_programs_have_no_loops(programs: dict[str, list[_Instruction]]) -> None:
    for name, program in programs.items():
        after: dict[int, list[int]] = {}
        for place, step in enumerate(program):
            after[place] = [] if step.exits or step.always_jumps else [place + 1]
            if step.jumps:
                after[place].append(place + 1 + step.offset)
        try:
            graphlib.TopologicalSorter(after).prepare()
        except graphlib.CycleError as error:
            pytest.fail(f"{name}: {error}")


def test_programs_use_nothing_newer(programs: dict[str, list[_Instruction]]) -> None:
    for name, program in programs.items():
        assert [step for step in program if step.code & 0x07 == 0x06] == [], f"{name}: 32-bit jumps"
        newer = [step for step in program if step.jumps and step.code & 0xF0 in _NEWER_JUMPS]
        assert newer == [], f"{name}: comparisons"
        calls = [step for step in program if step.calls]
        assert [step for step in calls if step.source] == [], f"{name}: calls of own functions"
        assert {step.value for step in calls} <= set(_HELPERS), name


def test_maps_have_names(loaded: compiler.Loaded) -> None:
    """Though the kernel does not know them: each map of a program is found by its name."""
    assert {"spawns", "calls", "readers"} <= set(loaded.maps)
    assert len(loaded.maps) == len(loaded.bytecode.maps)


def test_inserted_values_are_small(loaded: compiler.Loaded) -> None:
    """Before 4.18 (commit d71962f3e627) a program inserts values from its stack only."""
    hashes = [layout for layout in loaded.bytecode.maps if layout.type in (1, 9)]
    assert len(hashes) > 10
    assert {layout.name: layout.value_size for layout in hashes if layout.value_size > _LARGEST} == {}


def test_programs_are_walked_quickly(loaded: compiler.Loaded) -> None:
    """Measured by this kernel's verifier, which prunes a little more than theirs."""
    for name, fd in loaded.programs.items():
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        info = dict(line.split(":", 1) for line in lines if ":" in line)
        if "verified_insns" not in info:
            pytest.skip("this kernel does not tell (since 5.16)")
        assert int(info["verified_insns"]) < _WALKED, name


def test_unrolled_programs_pass_the_self_test(unrolled: None) -> None:
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None


def test_pipes_that_a_parent_leaves_at_its_exit_are_no_loss(unrolled: None) -> None:
    code = "import os; os.pipe(); os.fork()"
    with Tracer(TracerOptions(targets=(os.getpid(),)), lambda stall: None) as tracer:
        assert tracer.start() is None
        subprocess.run([sys.executable, "-c", code], check=True)
        tracer.drain()
        assert tracer.counters()["spawns_unfinished"] == 0
        with tracer._reading_maps:
            assert tracer._probes.spawns() == []
