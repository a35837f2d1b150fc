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

__all__ = ["Kernel", "MachineError", "run"]

_QEMU = (
    "qemu-system-x86_64",
    *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536"),
    *("-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot"),
    *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
    *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
    *("-append", "console=ttyS0 quiet panic=-1"),
)


class MachineError(Exception):
    """The command did not end well; the message is one line with the last output."""


@dataclass(frozen=True)
class Kernel:
    """A kernel image and the folder of its modules (None: everything needed is built in)."""

    name: str
    image: Path
    modules: Path | None


def run(kernel: Kernel, folder: Path, command: Sequence[str], console: Path, seconds: float) -> Iterator[str]:
    """Run a command of the host in a folder of the host under a kernel; yield its lines of output.

    console: file for the kernel's messages.  Raises MachineError if the command fails, or takes too long.
    """
    with tempfile.NamedTemporaryFile(suffix=".cpio.gz") as packed:
        packed.write(initramfs.build(kernel.modules, folder, command))
        packed.flush()
        files = ("-kernel", str(kernel.image), "-initrd", packed.name)
        ports = ("-serial", f"file:{console}", "-serial", "stdio")
        yield from _lines([*_QEMU, *files, *ports], console, seconds)


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
