# SPDX-License-Identifier: Apache-2.0
"""tests.kernels: which modules a machine loads, and what its archive holds."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from tests.kernels import initramfs
from tests.kernels.modules import ModuleError, closure, contents


def module(folder: Path, name: str, depends: str) -> Path:
    data = b"ELF\0license=GPL\0depends=" + depends.encode() + b"\0retpoline=Y\0"
    file = folder / "kernel" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lzma.compress(data) if name.endswith(".xz") else data)
    return file


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    module(tmp_path, "9p.ko.xz", "9pnet,netfs")
    module(tmp_path, "9pnet.ko", "")
    module(tmp_path, "netfs.ko", "fs-cache")
    module(tmp_path, "fs_cache.ko", "")
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    names = [file.name for file in closure(tmp_path, ["virtio_pci", "9p", "netfs"])]
    assert names == ["9pnet.ko", "fs_cache.ko", "netfs.ko", "9p.ko.xz"]


def test_module_that_is_nowhere(tmp_path: Path) -> None:
    module(tmp_path, "9p.ko", "9pnet")
    with pytest.raises(ModuleError, match="no kernel module 9pnet"):
        closure(tmp_path, ["9p"])


def test_module_that_cannot_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(ModuleError, match=r"9p\.ko\.zst: only"):
        contents(module(tmp_path, "9p.ko.zst", ""))


def test_archive(tmp_path: Path) -> None:
    """In the format that the kernel's documentation describes."""
    for name in ("virtio_pci", "9pnet_virtio", "9p"):
        module(tmp_path / "modules", f"{name}.ko", "")
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(b"12345")
    data = gzip.decompress(
        initramfs.build(tmp_path / "modules", root, Path("/a folder"), ["say", "it's"], "ttyS7")
    )
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while "TRAILER!!!" not in found:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name_at = at + 110
        name = data[name_at : name_at + fields[11] - 1].decode()
        begin = (name_at + fields[11] + 3) // 4 * 4
        found[name] = (fields[1], data[begin : begin + fields[6]])
        at = (begin + fields[6] + 3) // 4 * 4
    assert at == len(data)
    assert found["bin/busybox"] == (0o100755, b"12345")
    assert found["dev/console"][0] == 0o20600
    assert [name for name in found if name.startswith("modules/")] == [
        "modules/00-virtio_pci.ko",
        "modules/01-9pnet_virtio.ko",
        "modules/02-9p.ko",
    ]
    assert b"00-virtio_pci.ko 01-9pnet_virtio.ko 02-9p.ko" in found["init"][1]
    assert b"cd '\"'\"'/host/a folder'\"'\"' && exec say" in found["init"][1]
    assert b">/dev/ttyS7" in found["init"][1]
    assert found["init"][1].count(b"mount -t 9p") == 2


def test_archive_for_the_hosts_own_files(tmp_path: Path) -> None:
    if not Path("/bin/busybox").exists():
        pytest.skip("no busybox: make setup-kernels installs it")
    data = gzip.decompress(initramfs.build(None, None, Path("/folder"), ["say"], "ttyS1"))
    assert b"cd /folder && exec say" in data
    assert data.count(b"mount -t 9p") == 1
