# SPDX-License-Identifier: Apache-2.0
"""The eBPF programs and maps of a process, by their kernel ids; see bpf(2)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

from probes.bpfcall import bpf

__all__ = ["Ids", "ids_of", "map_bytes", "still_there"]

# <linux/bpf.h>
_PROG_GET_NEXT_ID, _MAP_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _MAP_GET_FD_BY_ID, _GET_INFO = 11, 12, 13, 14, 15
_MAX_MAPS = 64


class _Id(ctypes.Structure):
    """union bpf_attr of the commands that walk ids."""

    _fields_ = [("start_id", ctypes.c_uint32), ("next_id", ctypes.c_uint32), ("open_flags", ctypes.c_uint32)]


class _Info(ctypes.Structure):
    """union bpf_attr of BPF_OBJ_GET_INFO_BY_FD."""

    _fields_ = [("bpf_fd", ctypes.c_uint32), ("info_len", ctypes.c_uint32), ("info", ctypes.c_uint64)]


class _ProgramInfo(ctypes.Structure):
    """The beginning of struct bpf_prog_info."""

    _fields_ = [
        ("before", ctypes.c_uint8 * 52),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
    ]


@dataclass(frozen=True)
class Ids:
    """Ids of programs and maps; the kernel does not reuse an id soon."""

    programs: frozenset[int]
    maps: frozenset[int]


def ids_of(pid: int) -> Ids:
    """Return those that a process has open."""
    found: dict[str, set[int]] = {"prog": set(), "map": set()}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            for kind, number in re.findall(r"^(prog|map)_id:\s*(\d+)$", file.read_text(), re.MULTILINE):
                found[kind].add(int(number))
    return Ids(frozenset(found["prog"]), frozenset(found["map"]))


def map_bytes(ids: Ids) -> int:
    """Return the bytes that the kernel charges for the maps, including those that only programs have open."""
    maps = set(ids.maps)
    for program in ids.programs:
        maps |= _maps_of(program)
    return sum(_charged(number) for number in maps)


def _maps_of(program: int) -> set[int]:
    found = (ctypes.c_uint32 * _MAX_MAPS)()
    info = _ProgramInfo(nr_map_ids=_MAX_MAPS, map_ids=ctypes.addressof(found))
    fd = bpf(_PROG_GET_FD_BY_ID, _Id(program))
    try:
        bpf(_GET_INFO, _Info(fd, ctypes.sizeof(info), ctypes.addressof(info)))
    finally:
        os.close(fd)
    return set(found[: info.nr_map_ids])


def _charged(number: int) -> int:
    fd = bpf(_MAP_GET_FD_BY_ID, _Id(number))
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    finally:
        os.close(fd)
    match = re.search(r"^memlock:\s*(\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else 0


def still_there(ids: Ids) -> Ids:
    """Return those that still exist in the kernel."""
    return Ids(
        frozenset(each for each in ids.programs if _exists(_PROG_GET_NEXT_ID, each)),
        frozenset(each for each in ids.maps if _exists(_MAP_GET_NEXT_ID, each)),
    )


def _exists(command: int, number: int) -> bool:
    """Ask for the id after the previous one: opening the object could keep it alive."""
    attributes = _Id(number - 1)
    try:
        bpf(command, attributes)
    except FileNotFoundError:
        return False
    return bool(attributes.next_id == number)
