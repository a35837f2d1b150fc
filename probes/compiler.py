# SPDX-License-Identifier: Apache-2.0
"""Compile, load and attach the programs in a separate process, and pass on their file descriptors.

    python -m probes.compiler SOCKET    (the fd of a SOCK_STREAM socketpair; run by compiled.py)

bcc loads LLVM, which cannot be unloaded; its memory is freed when this process exits.  Maps, programs and
attachments stay in the kernel while another process has their file descriptors open.

Reads a JSON object:
    sources: paths, compiled in this order as one text
    shim, tracefs: paths of folders
    attempts: the first one that the kernel accepts is used; each has
        flags: for clang
        functions: by name of a program in the sources, where it is attached: ``category:event``,
            ``raw:event``, or ``fentry:FUNCTION`` and ``fexit:FUNCTION`` of the kernel
        ids: by FUNCTION, its id in the kernel's BTF
        tails: by name of a map of tail calls, its programs in order
        like: by name of such a program, the one in functions with the same type (default: a tracepoint's)
        copies: by name of a program in tails that is not in the sources, the program with its instructions
        renamed: by name of a copy and of a map, the map that the copy uses instead
        iterators: by name of a program that the kernel may refuse, the id of its ``bpf_iter_KIND`` in the
            kernel's BTF
        maps: names of the maps to pass on
    needed: programs that must attach

Sends the fds of each map, program, accepted iterator's link and attachment, in this order, and a JSON object
with ``output``, all that clang printed, and with ``error`` and ``no_bcc``, or:
    maps: [size of key, size of value] by name
    attached: by program, null or why it is not attached
    iterators: by program, null or why the kernel refused it
    bcc: its version
    attempt: index of the one that the kernel accepted
    refused: why it refused the first one, null if that was accepted
    cached: whether the bytecode is from the cache (cache.py)
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from probes import attachment, fentry, iterator, programs
from probes.bpfmap import BpfMap
from probes.bytecode import Bytecode, create, extract
from probes.cache import Cache, default_folder
from probes.syscallfunctions import AT_FUNCTIONS

_ONCE = ["-g0", "-Xclang", "-disable-llvm-passes"]
"""No debug information, and no optimisation by clang, because bcc optimises anyway.  Both would take a third
of the compile time."""


_LOADERS = 4
_RAW = "raw:"
_OLDEST_BCC = (0, 26)
"""0.18 finds no tracefs outside debugfs, and its LLVM crashes.  No version between the two was tried."""
_PACKAGES = "Debian: python3-bpfcc, RHEL/Fedora: python3-bcc"


class NoBccError(Exception):
    """There is no bcc that can be used; the message is one line."""


@dataclass(frozen=True)
class Loaded:
    """Loaded programs.

    maps, programs: fds by name; iterators: by program, the fd of its link or why the kernel refused it;
    attachments: fds of those made so far, by program.
    """

    bytecode: Bytecode
    maps: dict[str, int]
    programs: dict[str, int]
    iterators: dict[str, Union[int, str]]
    attachments: dict[str, int]

    def close(self) -> None:
        """Close all fds."""
        links = [link for link in self.iterators.values() if isinstance(link, int)]
        for fd in (*self.attachments.values(), *links, *self.programs.values(), *self.maps.values()):
            os.close(fd)


def main() -> None:
    """Answer one request."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    cache = Cache(default_folder())
    if cache.is_empty:
        with contextlib.suppress(NoBccError):  # reported when bcc is needed
            import_bcc()  # meanwhile the request is being prepared
    with connection.makefile("r") as reader:
        question = reader.readline()
    if not question:
        return  # the other side closed the socket, or was killed
    fds: list[int] = []
    output: list[str] = []
    try:
        answer = _compile(json.loads(question), cache, fds, output)
    except Exception as error:  # bcc raises plain Exception
        answer = {"error": str(error), "no_bcc": isinstance(error, NoBccError)}
        fds = []
    answer["output"] = "\n".join(output)
    text = json.dumps(answer).encode()
    with contextlib.suppress(BrokenPipeError):  # the other side is gone
        socket.send_fds(connection, [len(text).to_bytes(4, "big")], fds)
        connection.sendall(text)
    os._exit(0)  # bcc and LLVM take a while to clean up


def _compile(request: dict[str, Any], cache: Cache, fds: list[int], output: list[str]) -> dict[str, Any]:
    # Maps and programs count as locked memory before Linux 5.11.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    loaded, attempt, refused, cached = _load(request, cache, output)
    used = request["attempts"][attempt]
    tracefs, attachments = Path(request["tracefs"]), dict(loaded.attachments)
    attached: dict[str, Optional[str]] = {}
    for function, event in used["functions"].items():
        attached[function] = None
        if function not in attachments:
            try:
                attachments[function] = _attach(loaded.programs[function], event, tracefs)
            except OSError as error:
                attached[function] = error.strerror or str(error)
    for function in request["needed"]:
        if attached[function] is not None:
            raise RuntimeError(
                f"the probe at {used['functions'][function]} cannot be attached: {attached[function]}"
            )
    layouts = {layout.name: layout for layout in loaded.bytecode.maps}
    maps = {name: [layouts[name].key_size, layouts[name].value_size] for name in used["maps"]}
    fds += [loaded.maps[name] for name in maps]
    fds += [loaded.programs[function] for function in used["functions"]]
    fds += [link for link in loaded.iterators.values() if isinstance(link, int)]
    fds += attachments.values()
    return {
        "maps": maps,
        "attached": attached,
        "iterators": {
            name: None if isinstance(link, int) else link for name, link in loaded.iterators.items()
        },
        "bcc": loaded.bytecode.compiler,
        "attempt": attempt,
        "refused": refused,
        "cached": cached,
    }


def import_bcc() -> Any:
    """Return the module bcc.  Raises NoBccError."""
    found = importlib.util.find_spec("bcc")
    folders = (found and found.submodule_search_locations) or []
    if found is not None and not any(Path(folder, "libbcc.py").exists() for folder in folders):
        raise NoBccError(
            f"{found.origin or 'bcc'} is another project named bcc, perhaps from PyPI: remove it"
            f" ('pip uninstall bcc'), and install the distribution's package ({_PACKAGES})"
        )
    try:
        import bcc
    except Exception as error:  # an old one can fail in any way on a new Python
        raise NoBccError(
            f"bcc cannot be imported ({error}): install the distribution's package ({_PACKAGES})"
            " and use its python3"
        ) from error
    version = str(bcc.__version__)
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers and tuple(map(int, numbers.groups())) < _OLDEST_BCC:
        needed = ".".join(map(str, _OLDEST_BCC))
        raise NoBccError(
            f"bcc {version} is too old, {needed} or later is needed: upgrade the distribution's package"
            f" ({_PACKAGES}), or use the container image, which has its own"
        )
    return bcc


def _load(
    request: dict[str, Any], cache: Cache, output: list[str]
) -> tuple[Loaded, int, Optional[str], bool]:
    """Return what the kernel accepts first, the index of that attempt, why the first one was refused, and
    whether the bytecode is from the cache.
    """
    refused: list[str] = []
    for index, attempt in enumerate(request["attempts"]):
        key = _key(request, attempt)
        with contextlib.suppress(RuntimeError, ValueError, KeyError, TypeError):
            kept = cache.get(key)
            if kept is not None:
                return load(Bytecode.decode(kept), attempt), index, refused[0] if refused else None, True
        try:
            bytecode = compile_(request, attempt, output)
            loaded = load(bytecode, attempt)
        except RuntimeError as error:
            refused.append(str(error))
            continue
        cache.put(key, bytecode.encode())
        return loaded, index, refused[0] if refused else None, False
    raise RuntimeError(refused[-1])  # of the attempt that requires least


def _key(request: dict[str, Any], attempt: dict[str, Any]) -> str:
    """Return the key of everything that the bytecode depends on: sources, headers, flags, names, kernel."""
    headers = sorted([*Path(__file__).parent.glob("*.h"), *Path(request["shim"]).rglob("*.h")])
    texts = [joined(request["sources"]), *(header.read_bytes() for header in headers)]
    names = [*_ONCE, *attempt["flags"], *_compiled_names(attempt), *attempt["maps"], *platform.uname()[2:5]]
    return Cache.key([*texts, *(name.encode() for name in names)])


def _names(attempt: dict[str, Any]) -> list[str]:
    """Return the programs that an attempt loads, each once."""
    tails = [function for functions in attempt["tails"].values() for function in functions]
    return list(dict.fromkeys([*attempt["functions"], *tails, *attempt["iterators"]]))


def _compiled_names(attempt: dict[str, Any]) -> list[str]:
    """Return those of them that are in the sources."""
    return [name for name in _names(attempt) if name not in attempt["copies"]]


def compile_(request: dict[str, Any], attempt: dict[str, Any], output: list[str]) -> Bytecode:
    """Compile one attempt; add what clang prints to the output.  Raises RuntimeError or NoBccError."""
    bcc = import_bcc()
    with tempfile.TemporaryDirectory(prefix="spawnstall-") as folder:
        shim = Path(folder) / "shim"
        shutil.copytree(request["shim"], shim)
        (shim / "include/linux/version.h").write_text(version_header(platform.release()))
        (shim / "include/uapi/linux/version.h").write_text("")
        os.environ["BCC_KERNEL_SOURCE"] = str(shim)  # a few headers instead of a kernel tree
        with _captured_stderr(Path(folder) / "stderr") as printed:
            try:
                bpf = bcc.BPF(text=joined(request["sources"]), cflags=[*_ONCE, *attempt["flags"]])
                programs = {name: bpf.dump_func(name.encode()) for name in _compiled_names(attempt)}
                return extract(str(getattr(bcc, "__version__", "unknown")), programs, _maps(bcc, bpf))
            except Exception as error:  # bcc raises plain Exception
                raise RuntimeError(f"the probes do not compile: {error}{_reason(printed())}") from error
            finally:
                if printed():
                    output.append(printed())


def _maps(bcc: Any, bpf: Any) -> dict[str, int]:
    """Return the fds of all maps by name.  The kernel itself knows no names before 4.15."""
    lib = bcc.libbcc.lib
    lib.bpf_num_tables.argtypes, lib.bpf_num_tables.restype = [ctypes.c_void_p], ctypes.c_size_t
    lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    lib.bpf_table_name.restype = ctypes.c_char_p
    names = [lib.bpf_table_name(bpf.module, place) for place in range(lib.bpf_num_tables(bpf.module))]
    return {name.decode(): lib.bpf_table_fd(bpf.module, name) for name in names}


def load(bytecode: Bytecode, attempt: dict[str, Any]) -> Loaded:
    """Create the maps, and load the programs of one attempt.  Raises RuntimeError."""
    loaded = Loaded(bytecode, {}, {}, {}, {})
    try:
        for layout in bytecode.maps:
            loaded.maps[layout.name] = create(layout)
        names = [name for name in _names(attempt) if name not in attempt["iterators"]]

        def one(name: str) -> int:
            return _load_program(name, _linked(name, bytecode, loaded.maps, attempt), attempt)

        with ThreadPoolExecutor(_LOADERS) as loaders:  # several verifications at a time
            started = {name: loaders.submit(one, name) for name in names}
        problems = [each.exception() for each in started.values()]
        loaded.programs.update(
            (name, each.result())
            for (name, each), problem in zip(started.items(), problems)
            if problem is None
        )
        for problem in problems:
            if problem is not None:
                raise problem
        for name, functions in attempt["tails"].items():
            targets = BpfMap(loaded.maps[name], ctypes.c_int, ctypes.c_int)
            for index, function in enumerate(functions):
                targets.set(index, loaded.programs[function])
        for name, kind in attempt["iterators"].items():
            linked = _linked(name, bytecode, loaded.maps, attempt)
            loaded.iterators[name] = _link(name, linked, kind)
        for function, event in attempt["functions"].items():
            if event.startswith(AT_FUNCTIONS):
                loaded.attachments[function] = fentry.attach(loaded.programs[function])
    except OSError as error:
        loaded.close()
        raise RuntimeError(f"the kernel refused the probes: {error}") from error
    return loaded


def _linked(name: str, bytecode: Bytecode, maps: Mapping[str, int], attempt: dict[str, Any]) -> bytes:
    """Return the instructions of a program, or of a copy, with the fds of its maps."""
    renamed = attempt["renamed"].get(name, {})
    fds = [maps[renamed.get(layout.name, layout.name)] for layout in bytecode.maps]
    return bytecode.linked(attempt["copies"].get(name, name), fds)


def joined(sources: Sequence[str]) -> bytes:
    """Join source files into one text; ``#line`` makes clang's messages name the original file and line."""
    parts = []
    for source in sources:
        name = source.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'#line 1 "{name}"\n'.encode() + Path(source).read_bytes() + b"\n")
    return b"".join(parts)


def _load_program(name: str, instructions: bytes, attempt: dict[str, Any]) -> int:
    """Load a program with the type of its place; one that is only tail-called, with that of ``like``."""
    functions = attempt["functions"]
    event = str(functions.get(name) or functions.get(attempt["like"].get(name), ""))
    if event.startswith(AT_FUNCTIONS):
        side, place = event.split(":")
        return fentry.load(name, instructions, attempt["ids"][place], side == "fexit")
    kind = programs.RAW_TRACEPOINT if event.startswith(_RAW) else programs.TRACEPOINT
    return programs.load(name, instructions, kind)


def _link(name: str, instructions: bytes, kind: int) -> Union[int, str]:
    """Load an iterator's program; return the fd of its link, which keeps it, or why the kernel refused it."""
    try:
        program = iterator.load(name, instructions, kind)
        try:
            return iterator.link(program)
        finally:
            os.close(program)
    except OSError as error:
        return str(error)


def _attach(program: int, event: str, tracefs: Path) -> int:
    if event.startswith(_RAW):
        return attachment.to_raw_tracepoint(program, event[len(_RAW) :])
    return attachment.to_tracepoint(program, event, tracefs)


def version_header(release: str) -> str:
    """The text of linux/version.h for a kernel release such as ``5.14.0-362.el9.x86_64``."""
    numbers = [int(number) for number in re.findall(r"\d+", release)[:3]]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return (
        f"#define LINUX_VERSION_CODE {(major << 16) + (minor << 8) + min(patch, 255)}\n"
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
    )


@contextlib.contextmanager
def _captured_stderr(path: Path) -> Iterator[Callable[[], str]]:
    """Capture what clang prints; yields a function that returns it."""
    saved = os.dup(2)
    with path.open("w+b") as file:
        os.dup2(file.fileno(), 2)

        def output() -> str:
            return path.read_text(errors="replace").strip()

        try:
            yield output
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _reason(output: str) -> str:
    """Return clang's first error, and where the rest is; warnings can come before it."""
    lines = output.splitlines()
    if not lines:
        return ""
    first = next((line for line in lines if "error: " in line), lines[0])
    return f" ({first[:200]}); --debug, or log.level: debug, shows the compiler's whole output"


if __name__ == "__main__":
    main()
