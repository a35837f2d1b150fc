# SPDX-License-Identifier: Apache-2.0
"""Boot a kernel in an emulated machine, and return what a command printed there.

The machines that build this project have no usable KVM, so everything is emulated, some 20 times slower.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernels import initramfs
from tests.kernels.architectures import HOST, Architecture

__all__ = ["Kernel", "MachineError", "run"]

_QEMU = ("-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot")


class MachineError(Exception):
    """The command did not end well; the message is one line with the last output."""


@dataclass(frozen=True)
class Kernel:
    """A kernel image and the folder of its modules (None: everything needed is built in).

    parameters: for its command line, besides those that every machine needs.
    """

    name: str
    image: Path
    modules: Path | None
    architecture: Architecture
    parameters: str = ""


def run(
    kernel: Kernel,
    cpus: int,
    root: Path | None,
    folder: Path,
    command: Sequence[str],
    console: Path,
    seconds: float,
    parallel: bool = False,
) -> Iterator[str]:
    """Run a command in a folder of the host under a kernel; yield its lines of output.

    root: a foreign root, None: the host's.  console: file for the kernel's messages.
    parallel: the CPUs run at the same time.  Then one can execute for ever a breakpoint that the kernel has
    already replaced, while tracepoints are attached or detached.
    Raises MachineError if the command fails, or takes too long.
    """
    architecture = kernel.architecture
    size = ("-smp", str(cpus), "-m", str(1472 + 32 * cpus))
    roots = {"root": root, HOST: Path("/")} if root else {"root": Path("/")}
    shared = [word for tag, path in roots.items() for word in _shared(tag, path)]
    with tempfile.NamedTemporaryFile(suffix=".cpio.gz") as packed:
        packed.write(initramfs.build(kernel.modules, root, folder, command, architecture.port))
        packed.flush()
        files = ("-kernel", str(kernel.image), "-initrd", packed.name)
        append = ("-append", f"console={architecture.console} loglevel=5 panic=-1 {kernel.parameters}")
        ports = ("-serial", f"file:{console}", *architecture.stdio)
        emulation = ("-accel", f"tcg,thread={'multi' if parallel else 'single'}")
        qemu = [*architecture.qemu, *emulation, *_QEMU, *size, *shared, *files, *append, *ports]
        yield from _lines(qemu, console, seconds)


def _shared(tag: str, path: Path) -> Sequence[str]:
    """Options that share a folder read-only."""
    return (
        *("-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,multidevs=remap"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    )


def _lines(qemu: Sequence[str], console: Path, seconds: float) -> Iterator[str]:
    last = ""
    with subprocess.Popen(
        qemu, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as machine:
        late = threading.Event()

        def stop() -> None:
            late.set()
            machine.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert machine.stdout is not None
            for line in machine.stdout:
                last = line.strip()
                yield last
        finally:
            timer.cancel()
            machine.kill()
    if late.is_set():
        raise MachineError(f"not finished after {seconds:.0f} s, last line: {last!r} (see {console})")
    if last != "exit status 0":
        raise MachineError(f"ended with {last!r} (see {console})")
