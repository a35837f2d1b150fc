"""probes.syscallfunctions: which functions, and where their arguments are."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import pytest

from probes import fentry
from probes.btf import Btf
from probes.syscallfunctions import NoFunctionsError, find
from tests.unit.btfbuilder import FUNC, FUNC_PROTO, Builder

_X86 = ("r10", "dx", "si", "di")  # in this order in the kernel's structure
_PROGRAMS = ("sys_enter_close_range", "sys_exit_read")


@pytest.fixture
def built() -> Builder:
    """The types of a kernel that can do it, on both machines."""
    built = Builder()
    number = built.integer()
    built.structure("bpf_tramp_image", [("image", number, 0)])
    built.structure("pt_regs", [(name, number, 64 * place) for place, name in enumerate((*_X86, "regs"))])
    return built


def _btf(built: Builder, folder: Path, functions: Iterable[str]) -> Btf:
    prototype = built.add(FUNC_PROTO)
    for function in functions:
        built.add(FUNC, function, prototype)
    file = folder / "vmlinux"
    file.write_bytes(built.bytes())
    return Btf(file)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], int]]:
    """What the kernel was asked to take; it takes everything."""
    asked: list[tuple[list[int], int]] = []

    def problem(functions: Iterable[int], offset: int) -> Optional[str]:
        asked.append((list(functions), offset))
        return None

    monkeypatch.setattr(fentry, "problem", problem)
    return asked


@pytest.mark.parametrize(
    ("machine", "prefix", "offsets"),
    [("x86_64", "__x64_sys_", (24, 16, 8, 0)), ("aarch64", "__arm64_sys_", (32, 40, 48, 56))],
)
def test_functions_and_arguments(
    machine: str,
    prefix: str,
    offsets: tuple[int, ...],
    built: Builder,
    asked: list[tuple[list[int], int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    btf = _btf(built, tmp_path, [f"{prefix}read", f"{prefix}close_range"])
    found = find(btf, _PROGRAMS)
    assert found.events == {
        "sys_enter_close_range": f"fentry:{prefix}close_range",
        "sys_exit_read": f"fexit:{prefix}read",
    }
    assert found.ids == {name: btf.function(name) for name in (f"{prefix}close_range", f"{prefix}read")}
    arguments = [f"-DOFF_ARGUMENT_{place}={offset}" for place, offset in enumerate(offsets)]
    assert found.flags == ["-DFENTRY", *arguments]
    assert asked == [(list(found.ids.values()), offsets[0])]


def test_one_function_is_missing(built: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(NoFunctionsError, match="no function __x64_sys_read"):
        find(_btf(built, tmp_path, ["__x64_sys_close_range"]), _PROGRAMS)


def test_kernel_that_frees_what_a_thread_sleeps_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(NoFunctionsError, match="no struct bpf_tramp_image"):
        find(_btf(Builder(), tmp_path, ["__x64_sys_close_range", "__x64_sys_read"]), _PROGRAMS)


def test_kernel_that_refuses(built: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(fentry, "problem", lambda functions, offset: "[Errno 1] Operation not permitted")
    with pytest.raises(NoFunctionsError, match="Operation not permitted"):
        find(_btf(built, tmp_path, ["__x64_sys_close_range", "__x64_sys_read"]), _PROGRAMS)


def test_another_machine(built: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with pytest.raises(NoFunctionsError, match="not known for s390x"):
        find(_btf(built, tmp_path, []), _PROGRAMS)
