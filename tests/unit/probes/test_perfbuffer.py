# SPDX-License-Identifier: Apache-2.0
"""probes.perfbuffer: the size of its rings; tests/live checks their contents."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from probes import perfbuffer, perfevent


class _Machine:
    """The number of CPUs, the pages that may be locked in all, and the rings that are open."""

    def __init__(self) -> None:
        self.cpus = 2
        self.allowed = 1 << 20
        self.rings: list[int] = []
        self.bells: list[int] = []
        self.fds: list[int] = []

    def ring(self, cpu: int, pages: int, wakeup_bytes: int) -> Any:
        if pages > self.allowed:
            raise PermissionError(1, "Operation not permitted")
        self.allowed -= pages
        fd = socket.socket().detach()
        sizes = self.bells if wakeup_bytes == 1 else self.rings

        def close() -> None:
            os.close(fd)
            self.fds.remove(fd)
            self.allowed += pages
            sizes.remove(pages)

        self.fds.append(fd)
        sizes.append(pages)
        return SimpleNamespace(fd=fd, close=close)

    def array(self, place: int) -> Any:
        """The map of the rings that are created as number ``place`` of two for each CPU."""

        def enter(cpu: int, fd: int) -> None:
            assert fd == self.fds[2 * cpu + place]

        return SimpleNamespace(set=enter)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Machine]:
    made = _Machine()
    monkeypatch.setattr(perfbuffer, "_Ring", made.ring)
    monkeypatch.setattr(perfevent, "online_cpus", lambda: list(range(made.cpus)))
    yield made
    for fd in made.fds:
        os.close(fd)


def _open(machine: _Machine, pages: int) -> None:
    perfbuffer.PerfBuffer(machine.array(0), machine.array(1), pages, lambda record: None)


@pytest.mark.parametrize(("cpus", "pages"), [(1, 1024), (4, 1024), (5, 512), (32, 128), (33, 64), (128, 32)])
def test_all_rings_together_are_bounded(machine: _Machine, cpus: int, pages: int) -> None:
    machine.cpus = cpus
    _open(machine, 1024)
    assert machine.rings == [pages] * cpus
    assert machine.bells == [1] * cpus


def test_the_rings_are_as_large_as_may_be_locked(machine: _Machine) -> None:
    """One that takes all leaves too little for the other CPUs."""
    machine.allowed = 100
    _open(machine, 128)
    assert (machine.rings, machine.bells, machine.allowed) == ([32, 32], [1, 1], 34)


def test_nothing_may_be_locked(machine: _Machine) -> None:
    machine.allowed = 3
    with pytest.raises(PermissionError):
        _open(machine, 128)
    assert machine.fds == []
