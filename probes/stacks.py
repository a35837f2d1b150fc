# SPDX-License-Identifier: Apache-2.0
"""User stacks at a fork: the addresses that the kernel side kept, and their symbols.

The kernel follows frame pointers, which many libraries are built without: the innermost frame is always
right, and the rest is only as deep as there are frame pointers.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from probes.bpfmap import BpfMap
from probes.records import Stack

__all__ = ["ForkStacks", "Symbol", "symbolise"]

NameOf = Callable[[int], Optional[str]]
Names = Callable[[int], contextlib.AbstractContextManager[NameOf]]

_PROC = Path("/proc")
_MAX_NAME_LENGTH = 200
_MAX_PATH_LENGTH = 256


class ForkStacks:
    """The map ``stacks``, whose entries stay until they are deleted.

    A deleted entry can be reused, so a reader also names the time of the fork.
    """

    def __init__(self, stacks: BpfMap[Stack]) -> None:
        # Imported now, because names have to be found before a short-lived process exits.
        importlib.import_module("bcc")
        self._map = stacks
        self._deleted: dict[int, int] = {}

    def addresses(self, stack: int, born: int) -> tuple[int, ...]:
        """Return the addresses of a stack, innermost first; empty if it was not kept, or has been deleted.

        stack: as in a row or release; born: time of the fork, CLOCK_MONOTONIC nanoseconds.
        """
        if not stack or born <= self._deleted.get(stack, 0):
            return ()
        kept = self._map.get(stack - 1)
        return () if kept is None else tuple(address for address in kept.ip if address)

    def make_room(self, used: Collection[int]) -> None:
        """Delete all stacks except the used ones."""
        for key in list(self._map.keys()):
            place = int.from_bytes(key, sys.byteorder)
            stack = place + 1
            if stack not in used:
                self._map.delete(place)
                # The id of an earlier fork may be the one that was just deleted.
                self._deleted[stack] = time.monotonic_ns()


@dataclass(frozen=True)
class Symbol:
    """The function and file of an address.

    name: without a symbol, ``0x`` and the offset in the file, for addr2line; without a file, or if the
    process is gone, the address.
    """

    name: str
    file: Optional[str]


def symbolise(
    pid: int, addresses: Sequence[int], names: Optional[Names] = None, proc: Path = _PROC
) -> list[Symbol]:
    """Return the symbols of a stack's addresses, innermost first; only addresses if the process is gone.

    names: returns a function that names an address; default: bcc's.  The result ends at the first address
    that is not in code, because the kernel has missed a frame pointer there.
    """
    code = _code(pid, proc)
    if not code:
        return [Symbol(f"{address:#x}", None) for address in addresses]
    found = []
    with (names or _bcc_names)(pid) as name_of:
        for number, address in enumerate(addresses):
            # All addresses but the innermost are return addresses; the call is before them.
            at = address - 1 if number else address
            inside = next((mapping for mapping in code if mapping.start <= at < mapping.end), None)
            if inside is None:
                break
            name = name_of(at) or f"{at - inside.start + inside.offset if inside.file else at:#x}"
            found.append(Symbol(name[:_MAX_NAME_LENGTH], inside.file))
    return found


@dataclass(frozen=True)
class _Mapping:
    start: int
    end: int
    offset: int
    file: Optional[str]


def _code(pid: int, proc: Path) -> list[_Mapping]:
    """The executable mappings of a process; empty if it is gone.  Format: proc(5), "maps"."""
    found = []
    try:
        lines = (proc / str(pid) / "maps").read_text(errors="backslashreplace").splitlines()
    except OSError:
        return []
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) < 5 or "x" not in fields[1]:
            continue
        start, _, end = fields[0].partition("-")
        path = fields[5][:_MAX_PATH_LENGTH] if len(fields) > 5 else None
        found.append(_Mapping(int(start, 16), int(end, 16), int(fields[2], 16), path))
    return found


@contextlib.contextmanager
def _bcc_names(pid: int) -> Iterator[NameOf]:
    import bcc

    cache = bcc.SymbolCache(pid)

    def name_of(address: int) -> Optional[str]:
        name, _, _ = cache.resolve(address, True)
        return name.decode(errors="backslashreplace") if name else None

    try:
        yield name_of
    finally:
        bcc.lib.bcc_free_symcache(cache.cache, pid)
