"""User stacks at a fork: the addresses that the kernel side kept, and what they are called.

The kernel follows frame pointers, which many libraries are built without: the innermost frame is right, and
the stack is as deep as those that have them.
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
    """The map ``stacks``. Its entries stay until they are emptied: who reads one must know that it is still
    the one that was kept at the fork."""

    def __init__(self, table: BpfMap[Stack]) -> None:
        # Names are wanted while a process that may be short-lived is still there: bcc is to be at hand then.
        importlib.import_module("bcc")
        self._table = table
        self._emptied: dict[int, int] = {}

    def addresses(self, stack: int, born: int) -> tuple[int, ...]:
        """The stack of a fork at the time born (CLOCK_MONOTONIC ns), innermost first; stack as in a table.

        Empty: there was no room for it, or it has been emptied since.
        """
        if not stack or born <= self._emptied.get(stack, 0):
            return ()
        kept = self._table.get(stack - 1)
        return () if kept is None else tuple(address for address in kept.ip if address)

    def make_room(self, used: Collection[int]) -> None:
        """Empties every place but the used ones."""
        for key in list(self._table.keys()):
            place = int.from_bytes(key, sys.byteorder)
            stack = place + 1
            if stack not in used:
                self._table.delete(place)
                # A fork before this moment may have been given the place that is empty now.
                self._emptied[stack] = time.monotonic_ns()


@dataclass(frozen=True)
class Symbol:
    """What an address is: a function and the file that it is in.

    name: ``0x`` and the place in that file (as addr2line takes it) where it has no name; the address itself
    where there is no file, or the process is gone.
    """

    name: str
    file: Optional[str]


def symbolise(
    pid: int, addresses: Sequence[int], names: Optional[Names] = None, proc: Path = _PROC
) -> list[Symbol]:
    """What the addresses of a process' stack are, innermost first; all of them plain when it is gone.

    names: gives a function that names an address; default: bcc's. The stack ends where an address is no
    code: without a frame pointer the next frame is looked for in the wrong place.
    """
    code = _code(pid, proc)
    if not code:
        return [Symbol(f"{address:#x}", None) for address in addresses]
    found = []
    with (names or _bcc_names)(pid) as name_of:
        for number, address in enumerate(addresses):
            # But for the innermost, an address is that of a return: the call is before it.
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
    """Where a process has code; empty when it is gone.  Format: proc(5), "maps"."""
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
