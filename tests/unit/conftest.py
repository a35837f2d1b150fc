# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the unit tests."""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.cli.outputs import Reports
from agent.reports.types import ReportObject, StatusObject
from agent.serve.status import Status
from tests import contract
from tests.unit.certificates import Authority, Pair


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def in_memory() -> Iterator[Path]:
    """A folder for files that are written thousands of times, which a disk takes seconds for."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of the tests' own."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    """A certificate of the server's, signed by it."""
    return authority.sign("server")


class _NoCompiler:
    """Stands for loader.CompilerProcess."""

    def __enter__(self) -> _NoCompiler:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def ask(self, wanted: Mapping[str, Any]) -> None:
        pass

    def answer(self) -> tuple[dict[str, Any], list[int]]:
        return {"error": "unit tests do not compile"}, []


@pytest.fixture(autouse=True)
def published_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object that a test makes trace-popen or the agent write has the shape of the published schema."""
    write, read = Reports._write, Status.read

    def write_checked(self: Reports, report: ReportObject) -> None:
        contract.checked(json.loads(json.dumps(report)))
        write(self, report)

    def read_checked(self: Status) -> StatusObject:
        status = read(self)
        contract.checked_status(json.loads(json.dumps(status)))
        return status

    monkeypatch.setattr(Reports, "_write", write_checked)
    monkeypatch.setattr(Status, "read", read_checked)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit tests need neither bcc nor root, so that none starts bcc's compiler."""
    monkeypatch.setattr("probes.loader.CompilerProcess", _NoCompiler)
