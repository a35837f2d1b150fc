# SPDX-License-Identifier: Apache-2.0
"""Records with arbitrary bytes: counted, never a crash, never a wrong holder."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.host import procfs
from agent.model import Spawn, Stall
from agent.reports.objects import spawn_object, stall_object
from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer
from probes import loader, perfbuffer, records
from probes.records import Counter, RecordKind, parse
from tests.unit.reports.test_objects import CLOCK
from tests.unit.tracing.test_tracer import RELEASE, SPAWN, replace_probes

SECOND = 1_000_000_000
_STALLED = {
    **{"held": 1, "releases": 1, "created": SECOND, "forked": SECOND + 1},
    **{"parent_closed": SECOND + 2, "read_began": SECOND + 3, "own_released": SECOND + 4},
    "read_ended": 3 * SECOND,
}
_HELD = {**RELEASE, "acquired": SECOND + 1, "ns": 3 * SECOND - 1, "left": 0}
_PROCESS = records.process_type(4096)
_FOUND = 1 << 22  # no process has this pid
_NOTICE = {"kind": RecordKind.WAITING}


class Kernel(loader.Probes):
    """Fake probes that deliver the given bytes."""

    sent: list[bytes]
    waiting: list[records.Spawn]
    row: Any

    def __init__(self, _options: loader.Options, on_record: Any) -> None:
        self._on_record = on_record
        self._unreadable = 0
        self._sees_fd_tables = True
        self.sent = []
        self.waiting = []
        self.row = None

    def close(self) -> None:
        pass

    def poll(self, timeout_ms: int) -> None:
        for data in self.sent:
            self._receive(data)
        self.sent = []

    @property
    def open_files(self) -> None:
        return None

    def watched(self) -> list[records.Spawn]:
        return self.waiting

    def still_in_flight(self, spawns: Iterable[records.Spawn]) -> list[records.Spawn]:
        return list(spawns)

    def may_have_evicted_processes(self) -> bool:
        return False

    def process(self, pid: int) -> Any:
        return self.row

    def free(self, place: int, spawn_id: int) -> bool:
        return True

    def is_reading(self, place: int, spawn_id: int) -> bool:
        return True

    def spawns(self) -> list[records.Spawn]:
        return self.waiting

    def comm_stats(self) -> dict[bytes, records.CommStats]:
        return {}

    def execed(self, pid: int) -> int:
        return 0

    def counter(self, which: records.Counter) -> int:
        return self._unreadable if which is records.Counter.RECORDS_LOST else 0

    def unreadable(self) -> int:
        return self._unreadable


def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that fits into a field."""
    if issubclass(kind, ctypes.Array):
        if kind._type_ is ctypes.c_char:
            return st.binary(max_size=15)
        length = kind._length_
        return st.lists(_values(kind._type_), min_size=length, max_size=length).map(tuple)
    if issubclass(kind, ctypes.Structure):
        return _fields(kind, _HELD).map(kind.from_buffer_copy)
    bits = 8 * ctypes.sizeof(kind)
    edge = st.sampled_from([0, 1, 2, (1 << bits) - 1, 1 << (bits - 1)])
    return edge | st.integers(0, (1 << bits) - 1)


def _fields(structure: Any, values: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A valid record with some fields changed to any values."""
    changes: dict[str, st.SearchStrategy[Any]] = {}
    for name, kind in structure._fields_:
        changes[name] = _values(kind)
    of = st.sampled_from(sorted(changes))
    some = st.lists(of, max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: changes[name] for name in names})
    )
    return some.map(lambda changed: bytes(structure(**{**values, **changed})))


_RECORDS = st.one_of(
    _fields(records.Notice, _NOTICE),
    _fields(records.Spawn, {**SPAWN, **_STALLED}),
    _fields(records.Spawn, {**SPAWN, **_STALLED, "last": (records.Release(**_HELD),)}),
    st.binary(max_size=600),
    st.builds(
        lambda data, length: data[:length], _fields(records.Spawn, {**SPAWN, **_STALLED}), st.integers(0, 600)
    ),
)


@pytest.mark.parametrize("every", [False, True])
@given(sent=st.lists(_RECORDS, max_size=6))
def test_any_record_is_judged_or_counted(every: bool, sent: list[bytes]) -> None:
    stalls: list[Stall] = []
    spawns: list[Spawn] = []
    with pytest.MonkeyPatch.context() as patch:
        replace_probes(patch, Kernel)
        tracer = Tracer(TracerOptions(every=every), stalls.append, spawns.append)
    with tracer:
        kernel = tracer._probes
        assert isinstance(kernel, Kernel)
        kernel.sent = list(sent)
        tracer.run_once(0.001)
        tracer._judge(1 << 65)
    read = [parse(data) for data in sent]
    assert kernel.unreadable() == read.count(None)
    seen = {
        (record.id, release.pid, bytes(release.comm))
        for record in read
        if isinstance(record, records.Spawn)
        for release in record.last
        if release.pid
    }
    for stall in stalls:
        for holder in stall.holders:
            assert holder.pid is None or (stall.spawn.id, holder.pid, holder.comm) in seen
        json.dumps(stall_object(stall, CLOCK), allow_nan=False)
    for spawn in spawns:
        json.dumps(spawn_object(spawn, (), CLOCK), allow_nan=False)


_LAST = st.lists(_values(records.Release), min_size=4, max_size=4).map(tuple)
_WAITING = {**_STALLED, "read_ended": 0, "outcome": 0, "reading": 1}


@given(
    data=_fields(records.Spawn, {**SPAWN, **_WAITING}),
    last=_LAST,
    row=st.none() | _fields(_PROCESS, {"born": SECOND + 2}),
)
def test_any_watched_spawn_and_row_can_be_looked_at(data: bytes, last: Any, row: Optional[bytes]) -> None:
    """It names only a process that a search has found, or whose release the spawn keeps."""
    waiting = records.Spawn.from_buffer_copy(data)
    waiting.last = last
    if parse(bytes(waiting)) is None:  # another kernel side wrote it
        return
    waiting.index %= 4096
    stalls = _looked_at(waiting, None if row is None else _PROCESS.from_buffer_copy(row))
    for stall in stalls:
        seen = {_FOUND, *(release.pid for release in waiting.last), None}
        assert {holder.pid for holder in stall.holders} <= seen
        json.dumps(stall_object(stall, CLOCK), allow_nan=False)


def test_the_unchanged_watched_spawn_is_a_stall() -> None:
    stalls = _looked_at(records.Spawn(**{**SPAWN, **_WAITING}), None)
    assert {holder.pid for stall in stalls for holder in stall.holders} == {_FOUND}


def _looked_at(waiting: records.Spawn, row: Any) -> list[Stall]:
    """The stalls after two looks at a watched spawn."""
    stalls: list[Stall] = []
    with pytest.MonkeyPatch.context() as patch:
        replace_probes(patch, Kernel)
        patch.setattr(procfs, "pids", lambda: [_FOUND])
        patch.setattr(
            procfs, "write_ends", lambda pid, links, most: ({inode: [5] for inode in links.values()}, True)
        )
        patch.setattr(procfs, "still_has", lambda pid, fds, inode: True)
        with Tracer(TracerOptions(), stalls.append) as tracer:
            kernel = tracer._probes
            assert isinstance(kernel, Kernel)
            kernel.waiting = [waiting]
            kernel.row = row
            tracer._look(3 * SECOND, 60 * SECOND)
            tracer._look(4 * SECOND, 60 * SECOND)
            stalls += tracer.ongoing
            tracer._judge(1 << 65)
    return stalls


def test_the_unchanged_records_are_a_stall() -> None:
    """Without this, the test above would show little."""
    stalls: list[Stall] = []
    with pytest.MonkeyPatch.context() as patch:
        replace_probes(patch, Kernel)
        tracer = Tracer(TracerOptions(), stalls.append)
    with tracer:
        kernel = tracer._probes
        assert isinstance(kernel, Kernel)
        kernel.sent = [
            bytes(records.Notice(**_NOTICE)),
            bytes(records.Spawn(**{**SPAWN, **_STALLED, "last": (records.Release(**_HELD),)})),
        ]
        tracer.run_once(0.001)
        tracer._judge(1 << 65)
    [stall] = stalls
    assert (stall.culprit.pid, stall.culprit.comm) == (RELEASE["pid"], RELEASE["comm"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        bytes(8),
        bytes(records.Spawn(**SPAWN))[:-1],
        bytes(records.Spawn(**{**SPAWN, "kind": 4})),
        bytes(records.Notice(**_NOTICE))[:-1],
        bytes(records.Notice(**{**_NOTICE, "kind": 4})),
        bytes(records.Spawn(**{**SPAWN, "outcome": 4})),
        bytes(records.Spawn(**{**SPAWN, "own_how": 4})),
        bytes(records.Spawn(**{**SPAWN, "last": (records.Release(**{**RELEASE, "how": 4}),)})),
        bytes(records.Spawn(**{**SPAWN, "last": (*[records.Release()] * 3, records.Release(how=4))})),
    ],
)
def test_bytes_that_are_not_a_record(data: bytes) -> None:
    assert parse(data) is None


def test_unreadable_records_are_lost_records(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(loader.Options(threshold_ns=1), lambda record: None)
    kernel.sent = [b"", b"garbage"]
    kernel.poll(1)
    counted = [(bytes(4), ctypes.c_uint64(number)) for number in range(len(Counter))]

    compiled = SimpleNamespace(maps={"counters": SimpleNamespace(items=lambda: counted)})
    monkeypatch.setattr(kernel, "_compiled", compiled, raising=False)
    found = kernel.counters()
    assert found[Counter.RECORDS_LOST] == Counter.RECORDS_LOST + 2
    assert found[Counter.SPAWNS_REFUSED] == Counter.SPAWNS_REFUSED


# -- the ring --


@contextlib.contextmanager
def _ring(content: bytes, tail: int, head: int) -> Iterator[perfbuffer._Ring]:
    """A ring of one page with this content, as written by the kernel."""
    ring = object.__new__(perfbuffer._Ring)
    ring.fd = os.open(os.devnull, os.O_RDONLY)
    ring._size = mmap.PAGESIZE
    ring._memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    ring._memory[mmap.PAGESIZE :] = content
    ring._head = ctypes.c_uint64.from_buffer(ring._memory, 1024)
    ring._tail = ctypes.c_uint64.from_buffer(ring._memory, 1032)
    ring._head.value, ring._tail.value = head, tail
    yield ring
    ring.close()


@example(content=b"\0", tail=8, length=64)  # a size of 0
@example(content=b"\x09\0\0\0\0\0\xff\xff", tail=8, length=64)  # a size beyond the end
@given(
    content=st.binary(min_size=1, max_size=64),
    tail=st.integers(0, 1 << 40),
    length=st.integers(0, mmap.PAGESIZE),
)
def test_reading_a_ring_of_garbage_ends(content: bytes, tail: int, length: int) -> None:
    full = (content * mmap.PAGESIZE)[: mmap.PAGESIZE]
    taken: list[bytes] = []
    with _ring(full, tail, tail + length) as ring:
        ring.take(taken.append)
        assert ring._tail.value == ring._head.value
    assert sum(map(len, taken)) <= length
    if content == b"\0" and length:
        assert taken == [b""]  # which is counted as unreadable


@given(
    samples=st.lists(st.binary(max_size=300), max_size=8),
    others=st.lists(st.integers(0, 8), max_size=8),
    start=st.integers(0, 1 << 40).map(lambda number: number & ~7),
)
def test_a_ring_returns_what_was_written(samples: list[bytes], others: list[int], start: int) -> None:
    written = b""
    for number, data in enumerate(samples):
        room = -(-(len(data) + 12) // 8) * 8
        written += (struct.pack("=IHHI", 9, 0, room, len(data)) + data).ljust(room, b"\xaa")
        if number < len(others):  # a record of another kind, such as PERF_RECORD_LOST
            written += struct.pack("=IHH", 2, 0, 16 + 8 * others[number]) + bytes(8 + 8 * others[number])
    content = bytearray(mmap.PAGESIZE)
    for number, byte in enumerate(written):
        content[(start + number) % mmap.PAGESIZE] = byte
    taken: list[bytes] = []
    with _ring(bytes(content), start, start + len(written)) as ring:
        ring.take(taken.append)
    assert taken == samples
