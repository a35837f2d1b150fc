"""The structures of ``errpipe.h`` as ctypes, and the names of their flags.

``loader`` compares every size with the compiled program, so a drift between the two files cannot go unseen.
All times are CLOCK_MONOTONIC nanoseconds; 0 means "not yet".
"""

from __future__ import annotations

import ctypes
import sys
from enum import IntEnum, IntFlag
from typing import Optional, Union

__all__ = [
    "BUCKET_BOUNDS_NS",
    "COPIES",
    "LEFT_UNKNOWN",
    "STACK_DEPTH",
    "Counter",
    "How",
    "Outcome",
    "Program",
    "RecordKind",
    "Release",
    "Setting",
    "Slot",
    "SlotFlag",
    "Spawn",
    "Stack",
    "parse",
    "table_type",
]

COPIES = 3
"""Copies of one write end that one table can hold and follow."""

STACK_DEPTH = 32
"""Frames of a user stack that are kept."""

LEFT_UNKNOWN = (1 << 64) - 1
"""In Release.left: the kernel's count of copies was not to be had."""

_COMM_LEN = 16
_BUCKETS = 23

BUCKET_BOUNDS_NS = tuple(64_000 << bucket for bucket in range(_BUCKETS - 1))
"""Upper bounds (inclusive) of a histogram's buckets but the last, which has none."""


class RecordKind(IntEnum):
    """First word of every record in the perf buffer."""

    SPAWN = 1
    RELEASE = 2
    EXECED = 3


class How(IntEnum):
    """How a holder's last copy ended."""

    CLOSE = 1
    EXEC = 2
    EXIT = 3


class SlotFlag(IntFlag):
    """What is known of a table's copies of one errpipe."""

    CLOEXEC_0 = 1 << 0  # of fds[0], and so on
    CLOEXEC_1 = 1 << 1
    CLOEXEC_2 = 1 << 2
    CLOSED_0 = 1 << 3
    CLOSED_1 = 1 << 4
    CLOSED_2 = 1 << 5
    PARENT = 1 << 8
    OWN = 1 << 9
    DESCENDANT = 1 << 10
    EXECED = 1 << 11
    UNSURE = 1 << 12
    LET_GO = 1 << 13


class Outcome(IntEnum):
    """How a spawn ended; 0 while it has not."""

    OK = 1
    EXEC_FAILED = 2
    ABANDONED = 3


class Counter(IntEnum):
    """Index into the map ``counters``."""

    SLOTS_OVERFLOWED = 0
    RECORDS_LOST = 1
    PROGRAMS_FULL = 2
    TABLES_SHARED = 3
    UPDATES_FAILED = 4
    SPAWNS_ADDED = 5
    SPAWNS_DELETED = 6
    TABLES_ADDED = 7
    TABLES_DELETED = 8
    STACKS_LOST = 9


class Setting(IntEnum):
    """Index into the map ``settings``."""

    THRESHOLD_NS = 0
    ENABLED = 1
    SELF = 2


class Slot(ctypes.Structure):
    """What one file descriptor table has of one errpipe; fds are -1 where there is none."""

    _fields_ = [
        ("id", ctypes.c_uint64),
        ("read_fd", ctypes.c_int32),
        ("fds", ctypes.c_int32 * COPIES),
        ("flags", ctypes.c_uint32),
        ("claim", ctypes.c_uint32),
    ]


class Release(ctypes.Structure):
    """The end of a holder's last copy."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("how", ctypes.c_uint32),
        ("id", ctypes.c_uint64),
        ("ns", ctypes.c_uint64),
        ("acquired", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("parent", ctypes.c_uint32),
        ("forker", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("left", ctypes.c_uint64),
        ("stack", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("comm", ctypes.c_char * _COMM_LEN),
    ]


class Spawn(ctypes.Structure):
    """One life of an errpipe."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("cloexec", ctypes.c_uint8),
        ("reading", ctypes.c_uint8),
        ("eof", ctypes.c_uint8),
        ("ended", ctypes.c_uint8),
        ("read_cut", ctypes.c_uint8),
        ("held", ctypes.c_uint8),
        ("copy_lost", ctypes.c_uint8),
        ("outcome", ctypes.c_uint8),
        ("known", ctypes.c_uint32),
        ("is_socket", ctypes.c_uint8),
        ("killed", ctypes.c_uint8),
        ("unused", ctypes.c_uint8 * 2),
        ("id", ctypes.c_uint64),
        ("file", ctypes.c_uint64),
        ("pipe", ctypes.c_uint64),
        ("inode", ctypes.c_uint64),
        ("created", ctypes.c_uint64),
        ("forked", ctypes.c_uint64),
        ("parent_closed", ctypes.c_uint64),
        ("read_began", ctypes.c_uint64),
        ("own_released", ctypes.c_uint64),
        ("read_ended", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("own_pid", ctypes.c_uint32),
        ("read_tid", ctypes.c_uint32),
        ("read_fd", ctypes.c_int32),
        ("write_fd", ctypes.c_int32),
        ("exec_error", ctypes.c_int32),
        ("own_how", ctypes.c_uint32),
        ("foreign", ctypes.c_uint32),
        ("foreign_total", ctypes.c_uint32),
        ("comm", ctypes.c_char * _COMM_LEN),
        ("own_comm", ctypes.c_char * _COMM_LEN),
        ("last", Release),
    ]


class Stack(ctypes.Structure):
    """Addresses of a user stack, innermost first, 0 where there are no more."""

    _fields_ = [("ip", ctypes.c_uint64 * STACK_DEPTH)]


class Histogram(ctypes.Structure):
    """Counts by duration, see BUCKET_BOUNDS_NS."""

    _fields_ = [("buckets", ctypes.c_uint64 * _BUCKETS), ("sum_ns", ctypes.c_uint64)]


class Program(ctypes.Structure):
    """What is aggregated for each comm of a parent."""

    _fields_ = [
        ("ok", ctypes.c_uint64),
        ("exec_failed", ctypes.c_uint64),
        ("abandoned", ctypes.c_uint64),
        ("spawn", Histogram),
        ("exec", Histogram),
        ("vfork", Histogram),
    ]


def parse(data: bytes) -> Optional[Union[Spawn, Release]]:
    """A copy of the record in the bytes of a perf buffer's sample; None: no program of ours wrote that."""
    kind = int.from_bytes(data[:4], sys.byteorder)
    if kind == RecordKind.SPAWN and len(data) >= ctypes.sizeof(Spawn):
        spawn = Spawn.from_buffer_copy(data)
        known = spawn.outcome in (0, *Outcome) and _is_how(spawn.own_how) and _is_how(spawn.last.how)
        return spawn if known else None
    if kind in (RecordKind.RELEASE, RecordKind.EXECED) and len(data) >= ctypes.sizeof(Release):
        release = Release.from_buffer_copy(data)
        return release if _is_how(release.how) else None
    return None


def _is_how(value: int) -> bool:
    return value in (0, *How)


def table_type(slots: int) -> type[ctypes.Structure]:
    """The structure of a file descriptor table with that many slots."""

    class Table(ctypes.Structure):
        _fields_ = [
            ("born", ctypes.c_uint64),
            ("touched", ctypes.c_uint64),
            ("forker", ctypes.c_uint32),
            ("parent", ctypes.c_uint32),
            ("stack", ctypes.c_uint32),
            ("unused", ctypes.c_uint32),
            ("marks", ctypes.c_uint8 * 64),
            ("slots", Slot * slots),
        ]

    return Table
