# SPDX-License-Identifier: Apache-2.0
"""probes.syscallfunctions: which functions, and where their arguments are."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest

from probes import fentry
from probes.btf import Btf
from probes.syscallfunctions import NoFunctionsError, find
from tests.unit.btfbuilder import FUNC, FUNC_PROTO, Builder

_X86 = ("r10", "dx", "si", "di")  # in the order of the kernel's structure
_PROGRAMS = ("sys_enter_close_range", "sys_exit_read")


@pytest.fixture
def built() -> Builder:
    """Types of a kernel that accepts these programs, on both machines."""
    built = Builder()
    number = built.integer()
    built.structure("bpf_tramp_image", [("image", number, 0)])
    built.structure("pt_regs", [(name, number, 64 * place) for place, name in enumerate((*_X86, "regs"))])
    built.structure("kiocb", [("ki_filp", number, 64)])
    return built


def _btf(built: Builder, folder: Path, functions: Iterable[str]) -> Btf:
    prototype = built.add(FUNC_PROTO)
    for function in functions:
        built.add(FUNC, function, prototype)
    file = folder / "vmlinux"
    file.write_bytes(built.bytes())
    return Btf(file)


class _Kernel:
    """Refuses programs at some functions; asked: the places that it was asked about."""

    def __init__(self, btf: Btf, refused: Sequence[str] = ()) -> None:
        self.asked: list[dict[int, int]] = []
        self._refused = {btf.function(name) for name in refused}

    def problem(self, places: Mapping[int, int]) -> Optional[str]:
        self.asked.append(dict(places))
        return "[Errno 1] Operation not permitted" if self._refused & set(places) else None


@pytest.mark.parametrize(
    ("machine", "prefix", "offsets"),
    [("x86_64", "__x64_sys_", (24, 16, 8, 0)), ("aarch64", "__arm64_sys_", (32, 40, 48, 56))],
)
def test_functions_and_arguments(
    machine: str,
    prefix: str,
    offsets: tuple[int, ...],
    built: Builder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    btf = _btf(built, tmp_path, [f"{prefix}read", f"{prefix}close_range"])
    kernel = _Kernel(btf)
    monkeypatch.setattr(fentry, "problem", kernel.problem)
    found = find(btf, _PROGRAMS)
    assert found.events == {
        "sys_enter_close_range": f"fentry:{prefix}close_range",
        "sys_exit_read": f"fexit:{prefix}read",
    }
    assert found.ids == {name: btf.function(name) for name in (f"{prefix}close_range", f"{prefix}read")}
    arguments = [f"-DOFF_ARGUMENT_{place}={offset}" for place, offset in enumerate(offsets)]
    assert found.flags == ["-DFENTRY", *arguments]
    assert kernel.asked == [dict.fromkeys(found.ids.values(), offsets[0])]


@pytest.mark.parametrize(
    ("named", "refused", "used"),
    [
        (["pipe_read"], [], "pipe_read"),
        (["anon_pipe_read", "pipe_read"], [], "anon_pipe_read"),
        (["anon_pipe_read", "pipe_read"], ["anon_pipe_read"], "pipe_read"),
        (["pipe_read"], ["pipe_read"], "__x64_sys_read"),
    ],
)
def test_the_function_that_reads_pipes_replaces_the_system_calls(
    named: list[str],
    refused: list[str],
    used: str,
    built: Builder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    btf = _btf(built, tmp_path, ["__x64_sys_read", "__x64_sys_close_range", *named])
    kernel = _Kernel(btf, refused)
    monkeypatch.setattr(fentry, "problem", kernel.problem)
    found = find(btf, _PROGRAMS)
    assert found.events["sys_exit_read"] == f"fexit:{used}"
    assert found.events["sys_enter_close_range"] == "fentry:__x64_sys_close_range"
    assert found.ids[used] == btf.function(used)
    assert found.flags[5:] == ([] if used == "__x64_sys_read" else ["-DPIPE_READ", "-DOFF_KIOCB_FILE=8"])
    # Its first argument is not a struct pt_regs.
    assert {btf.function(name): 8 for name in named[:1]} in kernel.asked


def test_one_function_is_missing(built: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(NoFunctionsError, match="no function __x64_sys_read"):
        find(_btf(built, tmp_path, ["__x64_sys_close_range"]), _PROGRAMS)


def test_kernel_that_frees_code_in_which_a_thread_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(NoFunctionsError, match="no struct bpf_tramp_image"):
        find(_btf(Builder(), tmp_path, ["__x64_sys_close_range", "__x64_sys_read"]), _PROGRAMS)


def test_kernel_that_refuses(built: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    btf = _btf(built, tmp_path, ["__x64_sys_close_range", "__x64_sys_read"])
    monkeypatch.setattr(fentry, "problem", _Kernel(btf, ["__x64_sys_read"]).problem)
    with pytest.raises(NoFunctionsError, match="Operation not permitted"):
        find(btf, _PROGRAMS)


def test_another_machine(built: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with pytest.raises(NoFunctionsError, match="s390x"):
        find(_btf(built, tmp_path, []), _PROGRAMS)
