# SPDX-License-Identifier: Apache-2.0
"""Find the holders of pipes: every open copy of their write ends, in one pass of the kernel over open files.

The program is in ``openfiles.bpf.c``.  It finds a copy however the holder got it: by fork, over a socket, by
pidfd_getfd, or by opening ``/proc/PID/fd``, which makes another struct file of the same pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Optional

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
    left_out: whether the last pass left out copies.
    The kernel shows the processes of the caller's pid namespace, and of those below it.
    """

    def __init__(self, link: int, asked: BpfMap[ctypes.c_uint64]) -> None:
        self._link = link
        self._map = asked
        self._asked: dict[int, int] = {}  # what is in the map
        self.left_out = False

    def holders(
        self,
        pipes: Mapping[int, int],
        is_spent: Callable[[], bool] = lambda: False,
        most: Optional[int] = None,
    ) -> dict[int, list[Copy]]:
        """Return the copies of each pipe, after one pass over all open files for every 4,096 pipes.

        pipes: inode numbers by address of struct pipe_inode_info (of a socketpair's end: struct socket); the
        address 0 (unknown) is ignored.  is_spent: whether the time for it is over; then the pass ends early.
        most: copies of each pipe that are returned.  ``left_out`` says whether there may be more for these
        reasons.
        A copy in the queue of a socket has no holder yet.  Files that are opened or closed meanwhile may be
        missing.  Raises OSError.
        """
        self.left_out = False
        known = [(pipe, inode) for pipe, inode in pipes.items() if pipe]
        found: dict[int, list[Copy]] = {pipe: [] for pipe, _inode in known}
        for at in range(0, len(known), _MAX_ASKED):
            self._ask(dict(known[at : at + _MAX_ASKED]))
            with contextlib.closing(iterator.run(self._link)) as parts:
                # The kernel shows an fd table once for each thread that uses it if the process's main thread
                # has exited; its first versions with such iterators always do.
                seen: set[tuple[int, int, int]] = set()
                for part in parts:
                    for pipe, pid, tid, fd, _unused in _COPY.iter_unpack(part):
                        copies = found[pipe]
                        if (pipe, pid, fd) in seen:
                            continue
                        if most is not None and len(copies) >= most:
                            self.left_out = True
                            continue
                        seen.add((pipe, pid, fd))
                        copies.append(Copy(pipe, pid, tid, fd))
                    if is_spent():
                        self.left_out = True
                        return found
        return found

    def _ask(self, pipes: Mapping[int, int]) -> None:
        """Put these into the map; only changes are written, as most stalls last for several calls."""
        for pipe in self._asked.keys() - pipes.keys():  # first, to make room
            self._map.delete(pipe)
            del self._asked[pipe]
        for pipe, inode in pipes.items() - self._asked.items():
            self._map.set(pipe, inode)
            self._asked[pipe] = inode
