"""Compiles, loads and attaches the programs in a process of its own, and hands their file descriptors over.

    python -m probes.compiler SOCKET    (the fd of a SOCK_STREAM socketpair; run by compiled.py)

bcc brings LLVM, 100 MB of it, which cannot be unloaded: so this process takes it with it when it ends.  Maps,
programs and attachments live on in the kernel as long as somebody has them open.

Reads a JSON object:
    sources: paths; they are compiled one after the other as a single text
    shim: a path
    maps: names of those that are wanted
    attempts: the first that the kernel takes is used; each with
        flags: clang's
        functions: by name of a program in the source, where it is attached: ``category:event``,
            ``raw:event``, or ``fentry:FUNCTION`` and ``fexit:FUNCTION`` of the kernel
        ids: of such a FUNCTION in the kernel's BTF
        tails: by name of a map for tail calls, its programs in order
        like: by name of one of those, the program in functions that it is loaded like (else a tracepoint's)
        iterators: by name of a program that the kernel may refuse, the id in the kernel's BTF of the
            ``bpf_iter_KIND`` that it is for
        without: names of maps that the sources do not have with these flags
    needed: programs that must attach

Writes one with ``error``, or with the following, and then the fds of each map, program, link of an iterator
that the kernel took, and attachment:
    maps: [size of key, size of value] by name
    attached: by program, null, or why not
    iterators: likewise
    bcc: its version
    attempt, refused: the index of the one that the kernel took, and why not the first (null: it was)
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from probes import fentry, iterator
from probes.syscallfunctions import AT_FUNCTIONS

_ONCE = ["-g0", "-Xclang", "-disable-llvm-passes"]
"""No debug information, which nobody reads; and clang leaves optimising to bcc, which does it anyhow, and in
full: both make a third of the time that compiling takes."""


_LOADERS = 4


class NoBccError(Exception):
    """There is no bcc to compile with; one line."""


@dataclass(frozen=True)
class Loaded:
    """bpf: bcc's; attachments: those that are made already, by program (its fd)."""

    bpf: Any
    attachments: dict[str, int]


def main() -> None:
    """Does it once."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(NoBccError):  # said when it is asked for
        import_bcc()  # takes longer than it takes the question to come
    with connection.makefile("r") as reader:
        question = reader.readline()
    if not question:
        return  # nobody wants to know any more, or whoever did was killed
    fds: list[int] = []
    try:
        answer = _compile(json.loads(question), fds)
    except Exception as error:  # bcc raises plain Exception
        answer = {"error": str(error), "no_bcc": isinstance(error, NoBccError)}
        fds = []
    # Not closed in good order: bcc would disable what it attached, for everybody.
    text = json.dumps(answer).encode()
    with contextlib.suppress(BrokenPipeError):  # likewise
        socket.send_fds(connection, [len(text).to_bytes(4, "big")], fds)
        connection.sendall(text)
    os._exit(0)


def _compile(wanted: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    bcc = import_bcc()
    loaded, attempt, refused = _load(bcc, wanted)
    used = wanted["attempts"][attempt]
    bpf, functions = loaded.bpf, used["functions"]
    attached = {
        function: None if function in loaded.attachments else _attach(bpf, function, event)
        for function, event in functions.items()
    }
    for function in wanted["needed"]:
        if attached[function] is not None:
            raise RuntimeError(
                f"the kernel has no {functions[function]} for the probes: {attached[function]}"
            )
    maps = {}
    for name in wanted["maps"]:
        if name in used["without"]:
            continue
        table = bpf[name.encode()]
        fds.append(table.map_fd)
        maps[name] = [ctypes.sizeof(table.Key), ctypes.sizeof(table.Leaf)]
    fds += [bpf.funcs[function.encode()].fd for function in functions]
    iterators: dict[str, Optional[str]] = {}
    for name, kind in used["iterators"].items():
        try:
            fds.append(_link(bpf, name, kind))
            iterators[name] = None
        except Exception as error:  # bcc raises plain Exception
            iterators[name] = str(error)
    fds += [*loaded.attachments.values(), *bpf.tracepoint_fds.values(), *bpf.raw_tracepoint_fds.values()]
    version = str(getattr(bcc, "__version__", "unknown"))
    return {
        "maps": maps,
        "attached": attached,
        "iterators": iterators,
        "bcc": version,
        "attempt": attempt,
        "refused": refused,
    }


def import_bcc() -> Any:
    """The module; raises NoBccError."""
    try:
        import bcc
    except (ImportError, OSError) as error:
        raise NoBccError(
            f"bcc cannot be imported ({error}): install the distribution's package"
            " (Debian: python3-bpfcc, RHEL/Fedora: python3-bcc) and use its python3"
        ) from error
    if not hasattr(bcc, "BPF"):
        raise NoBccError(
            f"{getattr(bcc, '__file__', 'bcc')} is another project named bcc, from PyPI:"
            " 'pip uninstall bcc' and install the distribution's python3-bpfcc or python3-bcc"
        )
    return bcc


def _load(bcc: Any, wanted: dict[str, Any]) -> tuple[Loaded, int, Optional[str]]:
    """What the kernel took first, the index of that attempt, and why it took none before."""
    refused: list[str] = []
    for index, attempt in enumerate(wanted["attempts"]):
        try:
            return load(bcc, wanted, attempt), index, refused[0] if refused else None
        except RuntimeError as error:
            refused.append(str(error))
    raise RuntimeError(refused[-1])  # of the one that asks least of the kernel


def load(bcc: Any, wanted: dict[str, Any], attempt: dict[str, Any]) -> Loaded:
    """Compiles and loads, in one of the ways; raises RuntimeError."""
    attachments: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="spawnstall-") as folder:
        shim = Path(folder) / "shim"
        shutil.copytree(wanted["shim"], shim)
        (shim / "include/linux/version.h").write_text(version_header(platform.release()))
        (shim / "include/uapi/linux/version.h").write_text("")
        os.environ["BCC_KERNEL_SOURCE"] = str(shim)  # our few headers instead of a kernel tree
        with _captured_stderr(Path(folder) / "stderr") as said:
            try:
                bpf = bcc.BPF(text=joined(wanted["sources"]), cflags=[*_ONCE, *attempt["flags"]])
                with ThreadPoolExecutor(_LOADERS) as loaders:  # the verifier works on several at a time
                    started = [
                        loaders.submit(_load_function, bcc, bpf, function, event, attempt["ids"])
                        for function, event in attempt["functions"].items()
                    ]
                    started += [
                        loaders.submit(
                            _load_function, bcc, bpf, function, _event_of(attempt, function), attempt["ids"]
                        )
                        for functions in attempt["tails"].values()
                        for function in functions
                        if function not in attempt["functions"]
                    ]
                for each in started:
                    each.result()
                for name, functions in attempt["tails"].items():
                    for index, function in enumerate(functions):
                        program = bpf.funcs[function.encode()]
                        bpf[name.encode()][ctypes.c_int(index)] = ctypes.c_int(program.fd)
                for function, event in attempt["functions"].items():
                    if event.startswith(AT_FUNCTIONS):
                        attachments[function] = fentry.attach(bpf.funcs[function.encode()].fd)
            except Exception as error:  # bcc raises plain Exception
                for fd in attachments.values():
                    os.close(fd)
                raise RuntimeError(f"the kernel did not take the probes: {error}{said()}") from error
    return Loaded(bpf, attachments)


def joined(sources: Sequence[str]) -> bytes:
    """The text of several source files as one; clang names the file and line of what it complains about."""
    parts = []
    for source in sources:
        name = source.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'#line 1 "{name}"\n'.encode() + Path(source).read_bytes() + b"\n")
    return b"".join(parts)


def _event_of(attempt: dict[str, Any], tail: str) -> str:
    """What a program that is only tail-called is loaded for."""
    like = attempt["like"].get(tail)
    return str(attempt["functions"][like]) if like else ""


def _load_function(bcc: Any, bpf: Any, function: str, event: str, ids: dict[str, int]) -> None:
    name = function.encode()
    if not event.startswith(AT_FUNCTIONS):
        bpf.load_func(name, bcc.BPF.RAW_TRACEPOINT if event.startswith("raw:") else bcc.BPF.TRACEPOINT)
        return
    side, place = event.split(":")
    bpf.funcs[name] = bcc.BPF.Function(
        bpf, name, fentry.load(function, bpf.dump_func(name), ids[place], side == "fexit")
    )


def _link(bpf: Any, name: str, kind: int) -> int:
    """Loads an iterator's program; the fd of its link, which keeps it."""
    program = iterator.load(name, bpf.dump_func(name.encode()), kind)
    try:
        return iterator.link(program)
    finally:
        os.close(program)


def _attach(bpf: Any, function: str, event: str) -> Any:
    """None, or why it did not work."""
    try:
        if event.startswith("raw:"):
            bpf.attach_raw_tracepoint(event.removeprefix("raw:").encode(), function.encode())
        else:
            bpf.attach_tracepoint(event.encode(), fn_name=function.encode())
    except Exception as error:  # bcc raises plain Exception
        return str(error)
    return None


def version_header(release: str) -> str:
    """linux/version.h for a kernel release such as ``5.14.0-362.el9.x86_64``."""
    numbers = [int(number) for number in re.findall(r"\d+", release)[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return (
        f"#define LINUX_VERSION_CODE {(major << 16) + (minor << 8) + min(patch, 255)}\n"
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
    )


@contextlib.contextmanager
def _captured_stderr(path: Path) -> Iterator[Callable[[], str]]:
    """Keeps what clang and the verifier print; the value tells its first line, for the error message."""
    saved = os.dup(2)
    with path.open("w+b") as file:
        os.dup2(file.fileno(), 2)

        def said() -> str:
            lines = path.read_text(errors="replace").strip().splitlines()
            return f" ({lines[0][:200]})" if lines else ""

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)


if __name__ == "__main__":
    main()
