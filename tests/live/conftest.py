# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the live tests."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.lab import Lab
from tests.python27 import install


@pytest.fixture
def lab(repo_root: Path, tmp_path: Path) -> Lab:
    """Run programs under the tracer."""
    return Lab(repo_root, tmp_path)


@pytest.fixture(scope="session")
def python27(repo_root: Path) -> str:
    """The path of a real Python 2.7."""
    return os.fspath(install(repo_root))


@pytest.fixture(scope="session")
def native_storm(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the compiled native_storm."""
    binary = tmp_path_factory.mktemp("native") / "native_storm"
    source = repo_root / "tests" / "programs" / "native_storm.c"
    subprocess.run(["gcc", "-O2", "-pthread", "-o", str(binary), str(source)], check=True)
    return os.fspath(binary)


@pytest.fixture(scope="session")
def compiled(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile a program of tests/programs once; arguments: its name without .c, and libraries."""
    folder = tmp_path_factory.mktemp("compiled")

    @functools.cache
    def compile_program(name: str, *libraries: str) -> str:
        binary = folder / name
        source = repo_root / "tests" / "programs" / f"{name}.c"
        options = ["-O2", "-pthread", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *options, "-o", str(binary), str(source), *libraries], check=True)
        return os.fspath(binary)

    return compile_program
