# SPDX-License-Identifier: Apache-2.0
"""Find the holders of pipes: every open copy of their write ends, in one pass of the kernel over open files.

The program is in ``openfiles.bpf.c``.  It finds a copy however the holder got it: by fork, over a socket, by
pidfd_getfd, or by opening ``/proc/PID/fd``, which makes another struct file of the same pipe.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Collection
from dataclasses import dataclass

from probes import iterator
from probes.bpfmap import BpfMap

__all__ = ["Copy", "OpenFiles"]

_COPY = struct.Struct("=QIIII")  # struct copy in openfiles.bpf.c
_MAX_ASKED = 4096  # MAX_ASKED there


@dataclass(frozen=True)
class Copy:
    """An open copy of a pipe's write end.

    pipe: address of its struct pipe_inode_info; pid: the process; tid: its first thread with the copy (not
    the main thread if that has exited, or if a thread has an fd table of its own).  Both as in the host's pid
    namespace.
    """

    pipe: int
    pid: int
    tid: int
    fd: int


class OpenFiles:
    """The kernel's iterator over open files; not thread-safe.

    link: the iterator's (iterator.link), which the caller closes; asked: the map of the same name.
    The kernel shows the processes of the caller's pid namespace, and of those below it.
    """

    def __init__(self, link: int, asked: BpfMap[ctypes.c_uint32]) -> None:
        self._link = link
        self._map = asked
        self._asked: set[int] = set()  # the keys in the map

    def holders(self, pipes: Collection[int]) -> dict[int, list[Copy]]:
        """Return the copies of each pipe, after one pass over all open files for every 4,096 pipes.

        pipes: addresses of struct pipe_inode_info (of a socketpair's end: struct socket); 0 (unknown) is
        ignored.  A copy in the queue of a socket has no holder yet.  Files that are opened or closed
        meanwhile may be missing.  Raises OSError.
        """
        known = [pipe for pipe in dict.fromkeys(pipes) if pipe]
        found: dict[int, list[Copy]] = {pipe: [] for pipe in known}
        for at in range(0, len(known), _MAX_ASKED):
            self._ask(set(known[at : at + _MAX_ASKED]))
            for copy in _parse(iterator.run(self._link)):
                found[copy.pipe].append(copy)
        return found

    def _ask(self, pipes: set[int]) -> None:
        """Make these the keys of the map; only changes are written, as most stalls last for several calls."""
        for pipe in self._asked - pipes:  # first, to make room
            self._map.delete(pipe)
            self._asked.remove(pipe)
        for pipe in pipes - self._asked:
            self._map.set(pipe, 1)
            self._asked.add(pipe)


def _parse(data: bytes) -> list[Copy]:
    """Return each copy once.

    The kernel shows an fd table once for each thread that uses it if the process's main thread has exited;
    its first versions with such iterators always do.
    """
    found: dict[tuple[int, int, int], Copy] = {}
    for pipe, pid, tid, fd, _unused in _COPY.iter_unpack(data):
        found.setdefault((pipe, pid, fd), Copy(pipe, pid, tid, fd))
    return list(found.values())
