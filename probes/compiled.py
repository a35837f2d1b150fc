"""What the compiler's process hands over: maps, programs and attachments, each by its file descriptor."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from probes.bpfmap import BpfMap
from probes.preflight import UnsupportedError

__all__ = ["Attempt", "Compilation", "Compiled", "CompilerProcess", "LoadError"]

_HERE = Path(__file__).parent
_MAX_FDS = 253  # SCM_MAX_FD


class LoadError(Exception):
    """The kernel refused the programs; one line that says which and why."""


@dataclass(frozen=True)
class Attempt:
    """One way to compile: clang's flags, and where each program is attached (compiler.py).

    tails: what is tail-called, in the order of its places in a map, by the map's name; like: the program as
    which one of them is loaded, if not at a tracepoint; ids: the ids in the kernel's BTF of the kernel
    functions among the places in functions; iterators: by name of a program that
    the kernel may refuse, the id of the ``bpf_iter_KIND`` that it is for; without: maps that the sources do
    not have with these flags.
    """

    flags: Sequence[str]
    functions: Mapping[str, str]
    tails: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)
    iterators: Mapping[str, int] = field(default_factory=dict)
    without: Sequence[str] = ()
    like: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Compiled:
    """Loaded and attached programs; ``close`` gives them back.

    attempt: the one that the kernel took; refused: why not the first, None: it was the first;
    programs: the fd of each by its name; attached: why it is not attached, None: it is;
    iterators: the fd of each one's link, by the program's name; no_iterators: why the kernel refused
    the others; cached: they had been compiled before, and the bytecode was kept.
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
        """Detaches the programs and frees the maps."""
        # The kernel waits 70 ms for each tracepoint to be out of use; the waits overlap in part.
        with ThreadPoolExecutor(max(1, len(self.attachments))) as threads:
            list(threads.map(os.close, self.attachments))
        _close(self.fds)


class CompilerProcess:
    """Runs compiler.py, which needs a moment before it can begin; for one question.

    A context manager that waits for its end: at once when it has not been asked.
    """

    def __init__(self) -> None:
        self._asked = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "probes.compiler", str(theirs.fileno())],
                cwd=_HERE.parent,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is for us
            )

    def __enter__(self) -> CompilerProcess:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()
        if not self._asked:
            self._process.kill()
        self._process.wait()

    def ask(self, wanted: Mapping[str, Any]) -> None:
        """Sends the question; ``answer`` waits for what comes of it."""
        self._asked = True
        with contextlib.suppress(OSError):  # it has died: said by the answer
            self._socket.sendall(json.dumps(wanted).encode() + b"\n")

    def answer(self) -> tuple[dict[str, Any], list[int]]:
        """Its answer, and the fds that came with it."""
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
    """Programs that are being compiled, loaded and attached by another process."""

    def __init__(
        self,
        process: CompilerProcess,
        sources: Sequence[Path],
        attempts: Sequence[Attempt],
        needed: Sequence[str],
        maps: Mapping[str, tuple[Any, Any]],
        tracefs: Path,
    ) -> None:
        """Begins it.

        sources: compiled as one text, in this order; attempts: the first one that the kernel takes is used;
        needed: programs without which there are none; maps: the types of key and value of those that are
        wanted here; tracefs: its folder.
        """
        self._process, self._attempts, self._maps = process, attempts, maps
        process.ask(
            {
                "sources": [str(source) for source in sources],
                "attempts": [asdict(each) for each in attempts],
                "shim": str(_HERE / "shim"),
                "needed": list(needed),
                "maps": list(maps),
                "tracefs": str(tracefs),
            }
        )

    def result(self) -> Compiled:
        """Waits for it.  Raises LoadError or UnsupportedError."""
        answer, fds = self._process.answer()
        if "error" in answer:
            raise UnsupportedError(answer["error"]) if answer.get("no_bcc") else LoadError(answer["error"])
        sizes = answer["maps"]
        for name in sizes:
            if sizes[name] != [ctypes.sizeof(type_) for type_ in self._maps[name]]:
                _close(fds)
                raise LoadError(f"records.py and errpipe.h disagree about {name}: a broken install")
        linked = [name for name, problem in answer["iterators"].items() if problem is None]
        rest = iter(fds)
        return Compiled(
            maps={name: BpfMap(fd, *self._maps[name]) for name, fd in zip(sizes, rest)},
            programs=dict(zip(answer["attached"], rest)),
            attached=answer["attached"],
            iterators=dict(zip(linked, rest)),
            no_iterators={name: why for name, why in answer["iterators"].items() if why is not None},
            bcc_version=answer["bcc"],
            cached=answer["cached"],
            attempt=self._attempts[answer["attempt"]],
            refused=answer["refused"],
            fds=fds[: len(sizes) + len(answer["attached"]) + len(linked)],
            attachments=list(rest),
        )


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
