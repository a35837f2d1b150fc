# SPDX-License-Identifier: Apache-2.0
"""The maps, programs and attachments that the compiler process passes on as file descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from probes.bpfmap import BpfMap
from probes.preflight import UnsupportedError

__all__ = ["Attempt", "Compilation", "Compiled", "CompilerProcess", "LoadError"]

_log = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_MAX_FDS = 253  # SCM_MAX_FD


class LoadError(Exception):
    """The programs cannot be used; the message is one line that says why."""


@dataclass(frozen=True)
class Attempt:
    """One way to compile and attach: an element of ``attempts``, explained in compiler.py."""

    flags: Sequence[str]
    functions: Mapping[str, str]
    tails: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)
    iterators: Mapping[str, int] = field(default_factory=dict)
    like: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """Loaded and attached programs; ``close`` releases them.

    attempt: the one that the kernel accepted; refused: why it refused the first one, None if it did not;
    programs: fds by name; attached: by program, None or why it is not attached;
    iterators: fds of the links, by program; no_iterators: by program, why the kernel refused it;
    cached: the bytecode was in the cache.
    """

    maps: Mapping[str, BpfMap[Any]]
    programs: Mapping[str, int]
    attached: Mapping[str, Optional[str]]
    iterators: Mapping[str, int]
    no_iterators: Mapping[str, str]
    bcc_version: str
    cached: bool
    attempt: Attempt
    refused: Optional[str]
    fds: Sequence[int]
    attachments: Sequence[int]

    def close(self) -> None:
        """Detach the programs and free the maps."""
        # The kernel waits until a tracepoint is out of use, which takes long; threads let the waits overlap.
        with ThreadPoolExecutor(max(1, len(self.attachments))) as threads:
            list(threads.map(os.close, self.attachments))
        _close(self.fds)


class CompilerProcess:
    """A process that runs compiler.py for one request, started before the request is known.

    A context manager that waits for the process to exit, and kills it if there was no request.
    """

    def __init__(self) -> None:
        self._asked = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "probes.compiler", str(theirs.fileno())],
                # -m looks for our packages in the current folder first, except with PYTHONSAFEPATH.
                cwd=_HERE.parent,
                env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C must not reach it
            )

    def __enter__(self) -> CompilerProcess:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()
        if not self._asked:
            self._process.kill()
        self._process.wait()

    def ask(self, wanted: Mapping[str, Any]) -> None:
        """Send the request; ``answer`` waits for the answer."""
        self._asked = True
        with contextlib.suppress(OSError):  # it has died: answer() reports that
            self._socket.sendall(json.dumps(wanted).encode() + b"\n")

    def answer(self) -> tuple[dict[str, Any], list[int]]:
        """Wait for the answer; return it and its fds."""
        fds: list[int] = []
        text = b""
        with contextlib.suppress(OSError):
            _length, fds, _flags, _address = socket.recv_fds(self._socket, 4, _MAX_FDS)
            for fd in fds:
                os.set_inheritable(fd, False)  # recv_fds takes no MSG_CMSG_CLOEXEC
            while more := self._socket.recv(65536):
                text += more
        try:
            answer = json.loads(text)
        except ValueError:
            _close(fds)
            return {"error": f"the compiler of the probes ended with status {self._process.wait()}"}, []
        return answer, fds


class Compilation:
    """Programs that another process is compiling, loading and attaching."""

    def __init__(
        self,
        process: CompilerProcess,
        sources: Sequence[Path],
        attempts: Sequence[Attempt],
        needed: Sequence[str],
        maps: Callable[[Attempt], Mapping[str, tuple[Any, Any]]],
        tracefs: Path,
    ) -> None:
        """Send the request.

        sources: compiled as one text, in this order; attempts: the first one that the kernel accepts is used;
        needed: programs that must attach; maps: types of key and value of each map of an attempt to pass on,
        by name; tracefs: its folder.
        """
        self._process, self._attempts, self._maps = process, attempts, maps
        process.ask(
            {
                "sources": [str(source) for source in sources],
                "attempts": [{**asdict(each), "maps": list(maps(each))} for each in attempts],
                "shim": str(_HERE / "shim"),
                "needed": list(needed),
                "tracefs": str(tracefs),
            }
        )

    def result(self) -> Compiled:
        """Wait for the programs.  Raises LoadError or UnsupportedError."""
        answer, fds = self._process.answer()
        if answer.get("output"):
            _log.debug("the compiler's output:\n%s", answer["output"])
        if "error" in answer:
            raise UnsupportedError(answer["error"]) if answer.get("no_bcc") else LoadError(answer["error"])
        attempt = self._attempts[answer["attempt"]]
        types = self._maps(attempt)
        sizes = answer["maps"]
        for name in sizes:
            if sizes[name] != [ctypes.sizeof(type_) for type_ in types[name]]:
                _close(fds)
                raise LoadError(
                    f"records.py and errpipe.h disagree about the map {name}: the installation is broken"
                )
        linked = [name for name, problem in answer["iterators"].items() if problem is None]
        rest = iter(fds)
        return Compiled(
            maps={name: BpfMap(fd, *types[name]) for name, fd in zip(sizes, rest)},
            programs=dict(zip(answer["attached"], rest)),
            attached=answer["attached"],
            iterators=dict(zip(linked, rest)),
            no_iterators={name: why for name, why in answer["iterators"].items() if why is not None},
            bcc_version=answer["bcc"],
            cached=answer["cached"],
            attempt=attempt,
            refused=answer["refused"],
            fds=fds[: len(sizes) + len(answer["attached"]) + len(linked)],
            attachments=list(rest),
        )


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
