# SPDX-License-Identifier: Apache-2.0
"""Read records and notices from perf buffers: rings of each CPU, mapped into this process.

A notice wakes this side at once; records wait until it looks, or until their ring is half full.  The kernel
writes and moves the head; this side reads and moves the tail.  Layout: perf_event_open(2), "MMAP layout",
PERF_RECORD_SAMPLE.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
from collections.abc import Callable, Sequence

from probes import perfevent
from probes.bpfmap import BpfMap

__all__ = ["PerfBuffer"]

_TYPE_SOFTWARE, _BPF_OUTPUT, _SAMPLE_RAW = 1, 10, 1 << 10
_WATERMARK = 1 << 14  # of struct perf_event_attr: wakeup_events is in bytes
_MAX_PAGES = 4096  # of all rings together: 16 MiB
_HEAD_AT, _TAIL_AT = 1024, 1032  # in the ring's first page
_RECORD_SAMPLE = 9
_HEADER = struct.Struct("=IHH")  # struct perf_event_header: type, misc, size
_LENGTH = struct.Struct("=I")
_SMALLEST = _HEADER.size + _LENGTH.size  # an empty record


class _Ring:
    """The ring of one CPU."""

    def __init__(self, cpu: int, pages: int, wakeup_bytes: int) -> None:
        """wakeup_bytes: how many unread bytes make the fd readable."""
        attributes = perfevent.Attributes(
            type=_TYPE_SOFTWARE,
            config=_BPF_OUTPUT,
            sample_period=1,
            sample_type=_SAMPLE_RAW,
            flags=_WATERMARK,
            wakeup_events=wakeup_bytes,
        )
        self.fd = perfevent.open_event(attributes, cpu)
        self._size = pages * mmap.PAGESIZE
        try:
            self._memory = mmap.mmap(self.fd, mmap.PAGESIZE + self._size)
        except OSError:
            os.close(self.fd)
            raise
        self._head = ctypes.c_uint64.from_buffer(self._memory, _HEAD_AT)
        self._tail = ctypes.c_uint64.from_buffer(self._memory, _TAIL_AT)
        perfevent.enable(self.fd)

    def take(self, receive: Callable[[bytes], None]) -> None:
        """Call receive with each new record, in order; with b"" if the ring is damaged."""
        head, tail = self._head.value, self._tail.value
        if head == tail:
            return
        data = self._bytes(tail, head - tail)
        self._tail.value = head  # first, so that the kernel has room while these are handled
        at = 0
        while at < len(data):
            kind, size = _RECORD_SAMPLE, 0
            if len(data) - at >= _HEADER.size:
                kind, _misc, size = _HEADER.unpack_from(data, at)
            if not _SMALLEST <= size <= len(data) - at:
                receive(b"")  # not a record of the kernel, so the position of the next one is unknown
                return
            if kind == _RECORD_SAMPLE:
                [length] = _LENGTH.unpack_from(data, at + _HEADER.size)
                receive(data[at + _SMALLEST : at + min(_SMALLEST + length, size)])
            at += size

    def close(self) -> None:
        """Unmap the ring."""
        del self._head, self._tail
        self._memory.close()
        os.close(self.fd)

    def _bytes(self, at: int, length: int) -> bytes:
        """Return a part of the ring, which may wrap around."""
        start = at % self._size
        first = min(length, self._size - start)
        begin = mmap.PAGESIZE
        return (
            self._memory[begin + start : begin + start + first] + self._memory[begin : begin + length - first]
        )


class PerfBuffer:
    """The rings of all online CPUs, entered into two maps of the type BPF_MAP_TYPE_PERF_EVENT_ARRAY.

    pages: maximum for each ring of records, a power of two; rings are smaller if there are many CPUs, or if
    the process may not lock as much memory.  receive(record) is called with the bytes of each record and
    notice.  Raises OSError.
    """

    def __init__(
        self,
        records: BpfMap[ctypes.c_int],
        notices: BpfMap[ctypes.c_int],
        pages: int,
        receive: Callable[[bytes], None],
    ) -> None:
        self._receive = receive
        cpus = perfevent.online_cpus()
        while pages > 1 and pages * len(cpus) > _MAX_PAGES:
            pages //= 2
        self._rings = _rings(cpus, pages)
        self._poll = select.epoll()
        for cpu, of_records, of_notices in zip(cpus, self._rings[::2], self._rings[1::2]):
            for array, ring in ((records, of_records), (notices, of_notices)):
                self._poll.register(ring.fd, select.EPOLLIN)
                array.set(cpu, ring.fd)

    def poll(self, timeout_ms: int) -> None:
        """Wait at most that long for a notice or many records, and call receive with all that there are."""
        self._poll.poll(timeout_ms / 1000)
        for ring in self._rings:
            ring.take(self._receive)

    def close(self) -> None:
        """Unmap all rings."""
        self._poll.close()
        for ring in self._rings:
            ring.close()


def _rings(cpus: Sequence[int], pages: int) -> list[_Ring]:
    """Two rings for each CPU, of records and of notices; those of records have the same size everywhere."""
    made: list[_Ring] = []
    try:
        for cpu in cpus:
            made.append(_Ring(cpu, pages, pages * mmap.PAGESIZE // 2))
            made.append(_Ring(cpu, 1, 1))
    except OSError as error:
        for ring in made:
            ring.close()
        # PermissionError: beyond kernel.perf_event_mlock_kb for each CPU, which others use too.
        if not isinstance(error, PermissionError) or pages == 1:
            raise
        return _rings(cpus, pages // 2)
    return made
