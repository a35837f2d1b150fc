"""What a process has of eBPF in the kernel, by the ids that the kernel gave; see bpf(2)."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from probes.bpfmap import BPF_SYSCALL

__all__ = ["Ids", "ids_of", "still_there"]

_PROG_GET_NEXT_ID, _MAP_GET_NEXT_ID = 11, 12  # <linux/bpf.h>


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
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = (ctypes.c_uint32 * 3)(number - 1, 0, 0)  # start_id, next_id, open_flags
    size = ctypes.c_uint(ctypes.sizeof(attributes))
    result = libc.syscall(ctypes.c_long(BPF_SYSCALL[platform.machine()]), command, attributes, size)
    return result == 0 and attributes[1] == number
