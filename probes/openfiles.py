"""Who holds these pipes: every open copy of their write ends, from one pass of the kernel over open files.

The program is in ``openfiles.bpf.c``.  How a copy came to its holder does not matter: forked, passed over a
socket, taken by pidfd_getfd, or opened through ``/proc/PID/fd``, which makes another struct file of the same
pipe.
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

    pipe: the address of its struct pipe_inode_info; pid: the process; tid: the first of its threads that has
    the copy, which is another one when the process's first thread is gone or a thread has a table of file
    descriptors of its own.  Both are the host's numbers, not those of the holder's pid namespace.
    """

    pipe: int
    pid: int
    tid: int
    fd: int


class OpenFiles:
    """Asks the kernel's iterator over open files; for one caller at a time.

    link: the iterator's (iterator.link), which stays the caller's to close; asked: the map of the same name.
    The kernel shows the processes of the pid namespace of whoever asks, and of those below it.
    """

    def __init__(self, link: int, asked: BpfMap[ctypes.c_uint32]) -> None:
        self._link = link
        self._map = asked
        self._asked: set[int] = set()  # what is in the map

    def holders(self, pipes: Collection[int]) -> dict[int, list[Copy]]:
        """Makes a pass over every open file of the host for each 4,096 pipes; the copies of each pipe.

        pipes: addresses of struct pipe_inode_info (of a socketpair's end: struct socket); 0, unknown, is left
        out.  A copy that waits in the queue of a socket has no holder yet.  Files that are opened or closed
        meanwhile may be there or not.  Raises OSError.
        """
        known = [pipe for pipe in dict.fromkeys(pipes) if pipe]
        found: dict[int, list[Copy]] = {pipe: [] for pipe in known}
        for at in range(0, len(known), _MAX_ASKED):
            self._ask(set(known[at : at + _MAX_ASKED]))
            for copy in _parse(iterator.run(self._link)):
                found[copy.pipe].append(copy)
        return found

    def _ask(self, wanted: set[int]) -> None:
        """Makes the map that; only the difference is written, as most stalls outlast several questions."""
        for pipe in self._asked - wanted:  # first, to make room
            self._map.delete(pipe)
            self._asked.remove(pipe)
        for pipe in wanted - self._asked:
            self._map.set(pipe, 1)
            self._asked.add(pipe)


def _parse(data: bytes) -> list[Copy]:
    """The copies, each once.

    The kernel shows a table of file descriptors for each thread that uses it when the process's first thread
    is gone, and in its first versions with such iterators always.
    """
    found: dict[tuple[int, int, int], Copy] = {}
    for pipe, pid, tid, fd, _unused in _COPY.iter_unpack(data):
        found.setdefault((pipe, pid, fd), Copy(pipe, pid, tid, fd))
    return list(found.values())
