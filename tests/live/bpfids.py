"""What a process has of eBPF in the kernel, by the ids that the kernel gave; see bpf(2)."""

from __future__ import annotations

import contextlib
import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from probes.bpfcall import bpf

__all__ = ["Ids", "ids_of", "still_there"]

_PROG_GET_NEXT_ID, _MAP_GET_NEXT_ID = 11, 12  # <linux/bpf.h>


class _Id(ctypes.Structure):
    """union bpf_attr of the commands that walk ids."""

    _fields_ = [("start_id", ctypes.c_uint32), ("next_id", ctypes.c_uint32), ("open_flags", ctypes.c_uint32)]


@dataclass(frozen=True)
class Ids:
    """Programs and maps; an id is not used again soon."""

    programs: frozenset[int]
    maps: frozenset[int]


def ids_of(pid: int) -> Ids:
    """Those that a process has open."""
    found: dict[str, set[int]] = {"prog": set(), "map": set()}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            for kind, number in re.findall(r"^(prog|map)_id:\s*(\d+)$", file.read_text(), re.MULTILINE):
                found[kind].add(int(number))
    return Ids(frozenset(found["prog"]), frozenset(found["map"]))


def still_there(ids: Ids) -> Ids:
    """Those of them that the kernel still has."""
    return Ids(
        frozenset(each for each in ids.programs if _exists(_PROG_GET_NEXT_ID, each)),
        frozenset(each for each in ids.maps if _exists(_MAP_GET_NEXT_ID, each)),
    )


def _exists(command: int, number: int) -> bool:
    """By what comes after the id before it: to open it would keep it alive, a map of programs for good."""
    attributes = _Id(number - 1)
    try:
        bpf(command, attributes)
    except FileNotFoundError:
        return False
    return bool(attributes.next_id == number)
