# SPDX-License-Identifier: Apache-2.0
"""Cached compiled programs: loaded without bcc, and only if they are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from probes import bytecode
from probes.cache import Cache
from probes.loader import Loading, Options


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CACHE_DIRECTORY", str(folder))
    return folder


def _is_cached(options: Options) -> bool:
    compiled = Loading(options).result()
    compiled.close()
    return compiled.cached


def test_the_second_start_compiles_nothing(folder: Path) -> None:
    plain, every = Options(threshold_ns=1), Options(threshold_ns=1, every=True)
    assert [_is_cached(plain), _is_cached(plain)] == [False, True]
    assert [_is_cached(every), _is_cached(every), _is_cached(plain)] == [False, True, True]
    assert len(list(folder.iterdir())) == 2


def test_cached_programs_pass_the_self_test() -> None:
    for _ in range(2):
        with Tracer(TracerOptions(), lambda stall: None) as tracer:
            assert tracer.start() is None


def test_cached_programs_that_the_kernel_refuses_are_compiled_again(folder: Path) -> None:
    options = Options(threshold_ns=1)
    assert not _is_cached(options)
    [file] = folder.iterdir()
    kept = Cache(folder)
    content = kept.get(file.stem)
    assert content is not None
    good = bytecode.Bytecode.decode(content)
    wrong = dict.fromkeys(good.programs, b"\x95" + bytes(7))  # exit, without a result
    kept.put(file.stem, bytecode.Bytecode(good.compiler, good.maps, wrong).encode())
    assert not _is_cached(options)
    assert kept.get(file.stem) == content
    assert _is_cached(options)


def test_cached_programs_load_without_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(threshold_ns=1)
    assert not _is_cached(options)
    hidden = tmp_path / "hidden"
    (hidden / "bcc").mkdir(parents=True)
    (hidden / "bcc" / "__init__.py").write_text("raise ImportError('hidden')\n")
    monkeypatch.setenv("PYTHONPATH", str(hidden), prepend=":")
    assert _is_cached(options)
