# SPDX-License-Identifier: Apache-2.0
"""Plays, and the truth about them, as player.c has them.  Times are CLOCK_MONOTONIC nanoseconds."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum

__all__ = [
    "ACTS",
    "PARENT",
    "PIPES",
    "ROLES",
    "THREADS",
    "Act",
    "Kind",
    "Play",
    "RawTruth",
    "fill",
    "parse",
    "written",
]

PIPES, THREADS, ROLES, ACTS = 4, 4, 16, 14
_LOG, _HALTS = 16, 6
PARENT = 0
"""The role of the parent: its threads have the roles before THREADS."""


class Kind(IntEnum):
    """What an act does: ``enum kind`` in player.c explains them."""

    END = 0
    PIPE = 1
    FORK = 2
    READ = 3
    CLOSE = 4
    DUP = 5
    DUP_OVER = 6
    KEEP = 7
    EXEC = 8
    EXEC_FAIL = 9
    COMPLAIN = 10
    SEND = 11
    RECEIVE = 12
    REOPEN = 13
    GETFD = 14
    VFORK = 15
    BORN = 16
    KILL = 17
    STOP = 18
    CONTINUE = 19
    FREEZE = 20
    THAW = 21


class Act(ctypes.Structure):
    """at: microseconds since the beginning of the play; a: a pipe or a role; b: another role.

    slow: the event is delayed (troupe.py).
    """

    _fields_ = [
        ("at", ctypes.c_uint32),
        ("kind", ctypes.c_uint8),
        ("a", ctypes.c_uint8),
        ("b", ctypes.c_uint8),
        ("slow", ctypes.c_uint8),
    ]


class Play(ctypes.Structure):
    """strangers: the roles that are forked before the parent, as bits."""

    _fields_ = [
        ("number", ctypes.c_uint32),
        ("strangers", ctypes.c_uint32),
        ("acts", Act * ACTS * ROLES),
        ("director", Act * ACTS),
    ]


def fill(place: ctypes.Array[Act], acts: Sequence[Act]) -> None:
    """Copy acts into a list of a play; its last one is an END, which is zero."""
    for number, act in enumerate(acts[: len(place) - 1]):
        place[number] = act


def written(play: Play) -> str:
    """The acts of a play as text, with times in milliseconds: one role a line."""
    lines = []
    for role, acts in [*enumerate(play.acts), (-1, play.director)]:
        told = [
            f"{act.at / 1000:g} {'slow ' * act.slow}{Kind(act.kind).name.lower()} {act.a} {act.b}"
            for act in acts
            if act.kind or act.at
        ]
        who = "director" if role < 0 else f"stranger {role}" if play.strangers >> role & 1 else f"role {role}"
        if told:
            lines.append(f"{who}: {', '.join(told)}")
    return "\n".join(lines)


def parse(text: str) -> Play:
    """The play that ``written`` wrote; zeros at the end of an act can be missing."""
    play = Play()
    for line in text.strip().splitlines():
        who, _, told = line.strip().partition(": ")
        kind, _, role = who.partition(" ")
        acts = []
        for act in told.split(", "):
            at, *words = act.split()
            slow = words[0] == "slow"
            name, *numbers = words[slow:]
            a, b, *_ = [*map(int, numbers), 0, 0]
            acts.append(Act(round(float(at) * 1000), Kind[name.upper()], a, b, slow))
        fill(play.acts[int(role)] if role else play.director, acts)
        if kind == "stranger":
            play.strangers |= 1 << int(role)
    return play


class _Entry(ctypes.Structure):
    _fields_ = [
        ("before", ctypes.c_uint64),
        ("after", ctypes.c_uint64),
        ("kind", ctypes.c_uint8),
        ("has", ctypes.c_uint8),
        ("unused", ctypes.c_uint8 * 6),
    ]


class _Role(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_int32),
        ("entries", ctypes.c_uint32),
        ("killed", ctypes.c_uint64),
        ("ended", ctypes.c_uint64),
        ("fds", ctypes.c_int32 * PIPES),
        ("log", _Entry * _LOG),
    ]


class _Pipe(ctypes.Structure):
    _fields_ = [
        ("inode", ctypes.c_uint64),
        ("made", ctypes.c_uint64),
        ("closed_before", ctypes.c_uint64),
        ("closed_after", ctypes.c_uint64),
        ("read_before", ctypes.c_uint64),
        ("read_after", ctypes.c_uint64),
        ("read_fd", ctypes.c_int32),
        ("write_fd", ctypes.c_int32),
        ("tid", ctypes.c_int32),
        ("maker", ctypes.c_int32),
    ]


class _Halt(ctypes.Structure):
    _fields_ = [
        ("before", ctypes.c_uint64),
        ("stopped", ctypes.c_uint64),
        ("continues", ctypes.c_uint64),
        ("after", ctypes.c_uint64),
    ]


class RawTruth(ctypes.Structure):
    """What really happened in one play; ``truth.py`` makes intervals of it."""

    _fields_ = [
        ("number", ctypes.c_uint32),
        ("was_cut", ctypes.c_uint32),
        ("began", ctypes.c_uint64),
        ("pipes", _Pipe * PIPES),
        ("roles", _Role * ROLES),
        ("halts", _Halt * _HALTS),
    ]
