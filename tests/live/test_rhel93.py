# SPDX-License-Identifier: Apache-2.0
"""A kernel like RHEL 9.3's: the arguments of system calls are not where the tracepoints' format files say.

The offset in the running kernel's types is changed for it; no such kernel is needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.tracing.prepared import TraceError, TracerOptions
from agent.tracing.tracer import Tracer
from probes import loader, preflight
from probes.btf import Btf
from probes.compiled import CompilerProcess
from tests.live.lab import Lab, json_lines

_PROGRAM = """\
from probes import loader, syscallfunctions

class Misplaced(loader.Btf):
    def offset(self, structure, member):
        return super().offset(structure, member) + 8 * ((structure, member) == ("syscall_tp_t", "ret"))

def find(btf, programs):
    raise syscallfunctions.NoFunctionsError("load: not supported")

loader.Btf, loader.find = Misplaced, find
from agent.cli.main import main
main()
"""
"""trace-popen on aarch64, where the kernel accepts no programs at functions."""


class _Misplaced(Btf):
    """The types of the running kernel, with what programs at tracepoints get changed as in RHEL 9.3."""

    def offset(self, structure: str, member: str) -> int:
        moved = 8 if (structure, member) == ("syscall_tp_t", "ret") else 0
        return super().offset(structure, member) + moved


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Change the types; return the requests to compile and load that are made from now on."""
    requests: list[Mapping[str, Any]] = []
    plain = CompilerProcess.ask

    def ask(process: CompilerProcess, wanted: Mapping[str, Any]) -> None:
        requests.append(wanted)
        plain(process, wanted)

    monkeypatch.setattr(loader, "Btf", _Misplaced)
    monkeypatch.setattr(CompilerProcess, "ask", ask)
    return requests


def test_only_functions_are_used(asked: list[Mapping[str, Any]]) -> None:
    try:
        loader.find_ways(preflight.find_tracefs(), loader.Options())
    except preflight.UnsupportedError as error:
        assert "9.3" in str(error)  # this kernel has no programs at functions
        assert not asked
        return
    with Tracer(TracerOptions(), lambda stall: None) as tracer:
        assert tracer.start() is None
        assert {place.split(":")[0] for place in tracer.probes()} == {"fentry", "fexit", "sched", "task"}
    [request] = asked
    assert len(request["attempts"]) == 1


@pytest.mark.parametrize("options", [TracerOptions(tracepoints=True), TracerOptions(use_btf=False)])
def test_nothing_is_loaded_at_tracepoints(options: TracerOptions, asked: list[Mapping[str, Any]]) -> None:
    with pytest.raises(TraceError, match=r"RHEL 9\.3") as caught:
        Tracer(options, lambda stall: None)
    assert caught.value.no_ebpf
    assert asked == []


def test_a_process_is_watched_in_proc(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "misplaced.py").write_text(_PROGRAM)
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "10", "--plain", "0")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        time.sleep(0.3)
        done = subprocess.run(
            [sys.executable, tmp_path / "misplaced.py", "--pid", str(program.pid), "--json"],
            env={**os.environ, "PYTHONPATH": str(lab.root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    [line] = done.stderr.splitlines()
    assert "RHEL 9.3" in line and "boot a later kernel" in line and "polling /proc" in line
    stalls = [one for one in json_lines(done.stdout) if one["type"] == "stall"]
    assert stalls[-1]["state"] == "ended"
    assert [holder["cause"] for holder in stalls[-1]["holders"]] == ["forked"]
