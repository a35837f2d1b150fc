"""Compiles, loads and attaches the programs in a process of its own, and hands their file descriptors over.

    compiler.py SOCKET    (the fd of a SOCK_STREAM socketpair; run by loader.py)

bcc brings LLVM, 100 MB of it, which cannot be unloaded: so this process takes it with it when it ends.  Maps,
programs and attachments live on in the kernel as long as somebody has them open.

Reads a JSON object: source, shim, maps (that are wanted), attempts (each with flags, and functions: name of
the program in the source: its tracepoint as ``category:event``, or ``raw:event``; the first that the kernel
takes is used), needed (programs that must attach), shared
(programs to be put in the map of that name, in order).  Writes one with ``error``, or with ``maps`` (sizes
of key and value by name), ``attached`` (function: null, or why not), ``bcc`` (its version), and the fds: of
each map, each program and each attachment, in these orders.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

_SHARED = b"shared"


class NoBccError(Exception):
    """There is no bcc to compile with; one line."""


def main() -> None:
    """Does it once."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    with connection.makefile("r") as reader:
        order = reader.readline()
    if not order:
        return  # whoever started this was killed meanwhile
    wanted = json.loads(order)
    fds: list[int] = []
    try:
        answer = _compile(wanted, fds)
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
    bpf, functions, refused = _load(bcc, wanted)
    attached = {function: _attach(bpf, function, event) for function, event in functions.items()}
    for function in wanted["needed"]:
        if attached[function] is not None:
            raise RuntimeError(
                f"the kernel has no {functions[function]} for the probes: {attached[function]}"
            )
    maps = {}
    for name in wanted["maps"]:
        table = bpf[name.encode()]
        fds.append(table.map_fd)
        maps[name] = [ctypes.sizeof(table.Key), ctypes.sizeof(table.Leaf)]
    fds += [bpf.funcs[function.encode()].fd for function in functions]
    fds += [*bpf.tracepoint_fds.values(), *bpf.raw_tracepoint_fds.values()]
    version = str(getattr(bcc, "__version__", "unknown"))
    return {"maps": maps, "attached": attached, "bcc": version, "refused": refused}


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


def _load(bcc: Any, wanted: dict[str, Any]) -> tuple[Any, dict[str, str], Optional[str]]:
    """What the kernel took first: the programs and their events; and why it took none before."""
    refused = None
    for attempt in wanted["attempts"]:
        try:
            return load(bcc, wanted, attempt), attempt["functions"], refused
        except RuntimeError as error:
            refused = refused or str(error)
    raise RuntimeError(refused)


def load(bcc: Any, wanted: dict[str, Any], attempt: dict[str, Any]) -> Any:
    """Compiles and loads, in one of the ways; raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="spawnstall-") as folder:
        shim = Path(folder) / "shim"
        shutil.copytree(wanted["shim"], shim)
        (shim / "include/linux/version.h").write_text(version_header(platform.release()))
        (shim / "include/uapi/linux/version.h").write_text("")
        os.environ["BCC_KERNEL_SOURCE"] = str(shim)  # our few headers instead of a kernel tree
        with _captured_stderr(Path(folder) / "stderr") as said:
            try:
                bpf = bcc.BPF(src_file=os.fsencode(wanted["source"]), cflags=attempt["flags"])
                for function, event in attempt["functions"].items():
                    kind = bcc.BPF.RAW_TRACEPOINT if event.startswith("raw:") else bcc.BPF.TRACEPOINT
                    bpf.load_func(function.encode(), kind)
                for index, function in enumerate(wanted["shared"]):
                    program = bpf.load_func(function.encode(), bcc.BPF.TRACEPOINT)
                    bpf[_SHARED][ctypes.c_int(index)] = ctypes.c_int(program.fd)
            except Exception as error:  # bcc raises plain Exception
                raise RuntimeError(f"the kernel did not take the probes: {error}{said()}") from error
    return bpf


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
