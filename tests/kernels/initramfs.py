# SPDX-License-Identifier: Apache-2.0
"""An initramfs that runs a command on a file system of the host, mounted read-only, and then powers off.

In the machine /run is a tmpfs, and TMPDIR points there; everything else is the host's.  A machine of another
architecture has a foreign root, with the host's files in the folder ``host``.
"""

from __future__ import annotations

import gzip
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.kernels.architectures import HOST
from tests.kernels.modules import closure, contents

__all__ = ["build"]

_MOUNT = (
    "mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose {tag} {place} || poweroff -f"
)
_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in {modules}; do insmod /modules/$module || echo "cannot load $module"; done
{mount_root}
cd /root
{mount_host}
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
ln -sf /proc/self/fd dev/fd
mount -t tmpfs run run
mount -t debugfs debug sys/kernel/debug
mount -t tracefs trace sys/kernel/tracing || echo "no tracefs of its own"
mount -t bpf bpf sys/fs/bpf
ip link set lo up
chroot . /usr/bin/env -i PATH="$PATH:/usr/bin:/sbin:/usr/sbin" HOME=/run TMPDIR=/run LC_ALL=C.UTF-8 \\
    PYTHONDONTWRITEBYTECODE=1 /bin/sh -c {command} </dev/null >/dev/{port} 2>&1
echo "exit status $?" >/dev/{port}
poweroff -f
"""


def build(modules: Path | None, root: Path | None, folder: Path, command: Sequence[str], port: str) -> bytes:
    """Build a packed initramfs that loads modules and runs a command in a folder of the host.

    modules: folder of the kernel's modules, None: everything needed is built in.  root: a foreign root, None:
    the host's.  port: where the command's output goes, followed by the line ``exit status N``; everything
    else goes to the console.
    """
    files = closure(modules) if modules else []
    names = [f"{number:02}-{file.name.split('.')[0]}.ko" for number, file in enumerate(files)]
    place = f"/{HOST}{folder}" if root else str(folder)
    inside = f"cd {shlex.quote(place)} && exec {shlex.join(command)}"
    init = _INIT.format(
        modules=" ".join(names),
        mount_root=_MOUNT.format(tag="root", place="/root"),
        mount_host=_MOUNT.format(tag=HOST, place=HOST) if root else "",
        command=shlex.quote(inside),
        port=port,
    )
    archive = _Archive()
    for name in ("bin", "dev", "proc", "root", "modules"):
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, ((root or Path("/")) / "bin/busybox").read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, init.encode())
    for name, file in zip(names, files):
        archive.add(f"modules/{name}", stat.S_IFREG | 0o644, contents(file))
    return gzip.compress(archive.finish(), compresslevel=1)


class _Archive:
    """A cpio archive in the format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        #         inode        mode  uid gid links time size    device of the file, its own device
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [*_padded(header + path), *_padded(data)]

    def finish(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def _padded(data: bytes) -> Iterator[bytes]:
    yield data
    yield bytes(-len(data) % 4)
