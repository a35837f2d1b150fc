"""Takes records from a perf buffer: one ring of each CPU, mapped into this process.

The kernel writes, we read and move the tail.  Layout: perf_event_open(2), "MMAP layout", PERF_RECORD_SAMPLE.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
from collections.abc import Callable

from probes import perfevent
from probes.bpfmap import BpfMap

__all__ = ["PerfBuffer"]

_TYPE_SOFTWARE, _BPF_OUTPUT, _SAMPLE_RAW = 1, 10, 1 << 10
_MAX_PAGES = 4096  # 16 MiB, of all rings
_HEAD_AT, _TAIL_AT = 1024, 1032  # in the ring's first page
_RECORD_SAMPLE = 9
_HEADER = struct.Struct("=IHH")  # struct perf_event_header: type, misc, size
_LENGTH = struct.Struct("=I")
_SMALLEST = _HEADER.size + _LENGTH.size  # a record with nothing in it; the kernel's are multiples of 8 bytes


class _Ring:
    """One CPU's."""

    def __init__(self, cpu: int, pages: int) -> None:
        attributes = perfevent.Attributes(
            type=_TYPE_SOFTWARE,
            config=_BPF_OUTPUT,
            sample_period=1,
            sample_type=_SAMPLE_RAW,
            wakeup_events=1,
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
        """Gives each record that has come, in its order."""
        head, tail = self._head.value, self._tail.value
        came = self._bytes(tail, head - tail)
        self._tail.value = head  # at once: there is room for more while these are looked at
        at = 0
        while at < len(came):
            kind, size = _RECORD_SAMPLE, 0
            if len(came) - at >= _HEADER.size:
                kind, _misc, size = _HEADER.unpack_from(came, at)
            if not _SMALLEST <= size <= len(came) - at:
                receive(b"")  # nothing that the kernel writes: where the next one begins is not known either
                return
            if kind == _RECORD_SAMPLE:
                [length] = _LENGTH.unpack_from(came, at + _HEADER.size)
                receive(came[at + _SMALLEST : at + min(_SMALLEST + length, size)])
            at += size

    def close(self) -> None:
        """Unmaps it."""
        del self._head, self._tail
        self._memory.close()
        os.close(self.fd)

    def _bytes(self, at: int, length: int) -> bytes:
        """A part of the ring, which may begin at its end and go on at its beginning."""
        start = at % self._size
        first = min(length, self._size - start)
        begin = mmap.PAGESIZE
        return (
            self._memory[begin + start : begin + start + first] + self._memory[begin : begin + length - first]
        )


class PerfBuffer:
    """The rings of all CPUs that are online, entered into a BPF_MAP_TYPE_PERF_EVENT_ARRAY.

    pages: of each ring at most, a power of two; fewer where there are many CPUs, or where that is more than
    may be locked.  receive(record) is called with the bytes of each.  Raises OSError.
    """

    def __init__(self, array: BpfMap[ctypes.c_int], pages: int, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self._rings: dict[int, _Ring] = {}
        self._poll = select.epoll()
        cpus = perfevent.online_cpus()
        while pages > 1 and pages * len(cpus) > _MAX_PAGES:
            pages //= 2
        for cpu in cpus:
            ring = _largest_ring(cpu, pages)
            self._rings[ring.fd] = ring
            self._poll.register(ring.fd, select.EPOLLIN)
            array.set(cpu, ring.fd)

    def poll(self, timeout_ms: int) -> None:
        """Waits at most that long for records, and gives them."""
        for fd, _event in self._poll.poll(timeout_ms / 1000):
            self._rings[fd].take(self._receive)

    def close(self) -> None:
        """Gives the rings back."""
        self._poll.close()
        for ring in self._rings.values():
            ring.close()


def _largest_ring(cpu: int, pages: int) -> _Ring:
    try:
        return _Ring(cpu, pages)
    except PermissionError:  # others have locked some of kernel.perf_event_mlock_kb
        if pages == 1:
            raise
        return _largest_ring(cpu, pages // 2)
