# SPDX-License-Identifier: Apache-2.0
"""The structures of ``errpipe.h`` as ctypes, and the names of their constants.

A unit test compares sizes, offsets and constants with the header.  At load, ``compiled`` compares the sizes
of the maps' keys and values.  All times are CLOCK_MONOTONIC nanoseconds; 0 means "not yet".
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Any, Optional, Union

__all__ = [
    "BUCKET_BOUNDS_NS",
    "EXPECTED",
    "LEFT_UNKNOWN",
    "MAX_NUMBERS",
    "MAX_RELEASES",
    "MAX_STACK_DEPTH",
    "CommStats",
    "Counter",
    "Exposure",
    "How",
    "Notice",
    "Outcome",
    "RecordKind",
    "Release",
    "ReleaseFlag",
    "Setting",
    "Spawn",
    "Stack",
    "Stray",
    "parse",
    "process_type",
    "releases",
    "watched_type",
]

MAX_NUMBERS = 4
"""Fds at which the copies of one write end are looked for."""

MAX_RELEASES = 4
"""Releases that a spawn keeps: the latest ones."""

MAX_STACK_DEPTH = 32
"""Frames kept of a user stack."""

LEFT_UNKNOWN = (1 << 32) - 1
"""Value of Release.left if the kernel's count of copies is unknown."""

EXPECTED = 1
"""Flag of a process's ``expected``: it is about to call exec."""

_COMM_LEN = 16
_BUCKETS = 23
_FD_FILTER = 64
_MAX_PENDING = 4
_MAX_ANCESTORS = 4
_GROUP_WORDS = 8

BUCKET_BOUNDS_NS = tuple(64_000 << bucket for bucket in range(_BUCKETS - 1))
"""Inclusive upper bounds of a histogram's buckets; the last bucket has none."""


class RecordKind(IntEnum):
    """First word of every record in the perf buffer."""

    SPAWN = 1
    WAITING = 2
    SENT = 3


class How(IntEnum):
    """How a process released its last copy."""

    CLOSE = 1
    EXEC = 2
    EXIT = 3


_HOWS = frozenset((0, *How))


class ReleaseFlag(IntFlag):
    """Properties of the foreign holder in a Release."""

    EXECED = 1
    DESCENDANT = 2
    EXPECTED = 4


class Exposure(IntEnum):
    """Index into Spawn.exposures and CommStats.exposures: the causes that the kernel side can distinguish."""

    FORKED = 0
    LEAKED = 1
    LATE_EXEC = 2
    OWN_DESCENDANT = 3


class Outcome(IntEnum):
    """How a spawn ended; Spawn.outcome is 0 until then."""

    OK = 1
    EXEC_FAILED = 2
    ABANDONED = 3


_OUTCOMES = frozenset((0, *Outcome))


class Counter(IntEnum):
    """Index into the map ``counters``."""

    SPAWNS_REFUSED = 0
    PIPES_FORGOTTEN = 1
    NUMBERS_OVERFLOWED = 2
    WALKS_CUT = 3
    RECORDS_LOST = 4
    COMM_STATS_FULL = 5
    TABLES_SHARED = 6
    UPDATES_FAILED = 7
    PROCESSES_ADDED = 8
    PROCESSES_DELETED = 9
    STACKS_LOST = 10


class Setting(IntEnum):
    """Index into the map ``settings``."""

    THRESHOLD_NS = 0
    ENABLED = 1
    SELF = 2
    WAITING = 3
    SENT = 4


class Release(ctypes.Structure):
    """A foreign holder has released its last copy; pid is 0 in an unused element."""

    _fields_ = [
        ("ns", ctypes.c_uint64),
        ("acquired", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("parent", ctypes.c_uint32),
        ("forker", ctypes.c_uint32),
        ("fd", ctypes.c_int32),
        ("how", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("left", ctypes.c_uint32),
        ("stack", ctypes.c_uint32),
        ("comm", ctypes.c_char * _COMM_LEN),
    ]


_RELEASE = struct.Struct("=QQIIIiIIII16s")
_HOW = [field[0] for field in Release._fields_].index("how")


class Stray(ctypes.Structure):
    """A vfork child that may be the own child of another thread's spawn; pid is 0 if there is none."""

    _fields_ = [
        ("forked", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("forker", ctypes.c_uint32),
    ]


class Spawn(ctypes.Structure):
    """The life of an errpipe; unused elements of fds are -1."""

    _fields_ = [
        ("kind", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("id", ctypes.c_uint64),
        ("key", ctypes.c_uint64),
        ("other_key", ctypes.c_uint64),
        ("file", ctypes.c_uint64),
        ("files", ctypes.c_uint64),
        ("inode", ctypes.c_uint64),
        ("created", ctypes.c_uint64),
        ("forked", ctypes.c_uint64),
        ("parent_closed", ctypes.c_uint64),
        ("read_began", ctypes.c_uint64),
        ("own_released", ctypes.c_uint64),
        ("read_ended", ctypes.c_uint64),
        ("heir_released", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("own_pid", ctypes.c_uint32),
        ("read_tid", ctypes.c_uint32),
        ("heir", ctypes.c_uint32),
        ("read_fd", ctypes.c_int32),
        ("fds", ctypes.c_int32 * MAX_NUMBERS),
        ("exec_error", ctypes.c_int32),
        ("own_how", ctypes.c_uint32),
        ("known", ctypes.c_uint32),
        ("releases", ctypes.c_uint32),
        ("written", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
        ("cloexec", ctypes.c_uint8),
        ("reading", ctypes.c_uint8),
        ("elsewhere", ctypes.c_uint8),
        ("eof", ctypes.c_uint8),
        ("ended", ctypes.c_uint8),
        ("read_cut", ctypes.c_uint8),
        ("held", ctypes.c_uint8),
        ("copy_lost", ctypes.c_uint8),
        ("outcome", ctypes.c_uint8),
        ("is_socket", ctypes.c_uint8),
        ("killed", ctypes.c_uint8),
        ("doubtful", ctypes.c_uint8),
        ("settled", ctypes.c_uint8),
        ("listed", ctypes.c_uint8),
        ("exposed", ctypes.c_uint8),
        ("unread", ctypes.c_uint8),
        ("exposures", ctypes.c_uint16 * len(Exposure)),
        ("comm", ctypes.c_char * _COMM_LEN),
        ("own_comm", ctypes.c_char * _COMM_LEN),
        ("stray", Stray),
        ("last", Release * MAX_RELEASES),
    ]


class Notice(ctypes.Structure):
    """WAITING: a read begins while a foreign process holds the write end.  SENT: there are records of spawns.

    The kernel side sends at most one of a kind in 20 ms.
    """

    _fields_ = [("kind", ctypes.c_uint32), ("unused", ctypes.c_uint32)]


class Stack(ctypes.Structure):
    """Addresses of a user stack, innermost first; unused elements are 0."""

    _fields_ = [("ip", ctypes.c_uint64 * MAX_STACK_DEPTH)]


class Histogram(ctypes.Structure):
    """Counts by duration (BUCKET_BOUNDS_NS), and their sum."""

    _fields_ = [("buckets", ctypes.c_uint64 * _BUCKETS), ("sum_ns", ctypes.c_uint64)]


class CommStats(ctypes.Structure):
    """Aggregated for each comm of a parent."""

    _fields_ = [
        ("outcomes", ctypes.c_uint64 * len(Outcome)),
        ("late_wakeups", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("exposures", ctypes.c_uint64 * len(Exposure)),
        ("spawn", Histogram),
        ("exec", Histogram),
        ("vfork", Histogram),
    ]


def parse(data: bytes) -> Optional[Union[Spawn, Notice]]:
    """Copy a record from the bytes of a perf buffer's sample; return None if it is not a valid record."""
    kind = int.from_bytes(data[:4], sys.byteorder)
    if kind == RecordKind.SPAWN and len(data) >= ctypes.sizeof(Spawn):
        spawn = Spawn.from_buffer_copy(data)
        hows = {spawn.own_how, *(release[_HOW] for release in releases(spawn))}
        return spawn if spawn.outcome in _OUTCOMES and hows <= _HOWS else None
    if kind in (RecordKind.WAITING, RecordKind.SENT) and len(data) >= ctypes.sizeof(Notice):
        return Notice.from_buffer_copy(data)
    return None


def releases(spawn: Spawn) -> Iterator[tuple[Any, ...]]:
    """Yield the fields of each release that the spawn keeps, in the order of Release, but with comm padded.

    To read them one by one with ctypes takes several times as long.
    """
    return _RELEASE.iter_unpack(spawn.last)


def watched_type(max_spawns: int) -> type[ctypes.Structure]:
    """Return the structure of a set of places in the map ``spawns``."""
    words = max_spawns // 64

    class Places(ctypes.Structure):
        _fields_ = [
            ("used", ctypes.c_uint8 * max(words, _GROUP_WORDS)),
            ("words", ctypes.c_uint64 * words),
        ]

    return Places


def process_type(max_spawns: int, has_sets: bool = True) -> type[ctypes.Structure]:
    """Return the structure of a process that may hold copies.

    has_sets: whether it has a set of spawns; False in unrolled programs.
    """
    sets = [("may_hold", watched_type(max_spawns))] if has_sets else []

    class Process(ctypes.Structure):
        _fields_ = [
            ("born", ctypes.c_uint64),
            ("execed", ctypes.c_uint64),
            ("forking", ctypes.c_uint64),
            ("closing", ctypes.c_uint64),
            ("parent", ctypes.c_uint32 * _MAX_ANCESTORS),
            ("forker", ctypes.c_uint32),
            ("stack", ctypes.c_uint32),
            ("expected", ctypes.c_uint8),
            ("shared", ctypes.c_uint8),
            ("is_own", ctypes.c_uint8),
            ("kept", ctypes.c_uint8),
            ("foreign", ctypes.c_uint8),
            ("exec_error", ctypes.c_uint8),
            ("strays", ctypes.c_uint8),
            ("is_plain", ctypes.c_uint8),
            ("fd_filter", ctypes.c_uint8 * _FD_FILTER),
            ("read_filter", ctypes.c_uint8 * _FD_FILTER),
            *sets,
            ("own", ctypes.c_uint32 * _MAX_PENDING),
        ]

    return Process
