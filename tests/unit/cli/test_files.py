# SPDX-License-Identifier: Apache-2.0
"""agent.cli.files: what is opened and replaced at a path, and whose links are followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli.files import OutputFile, _Folder
from agent.errors import UserError


def _write(path: object, text: str = "new") -> None:
    with contextlib.closing(OutputFile(str(path))) as file:
        with file.text() as stream:
            stream.write(text)
        file.publish()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which everybody can create names."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], int]:
    """Make a file a stranger's; return the stranger's uid."""

    def give(path: Path) -> int:
        if os.geteuid() == 0:
            os.chown(path, 1000, 1000, follow_symlinks=False)
            return 1000
        monkeypatch.setattr(os, "geteuid", lambda: 65532)  # then all that we make is a stranger's
        return os.getuid()

    return give


# -- files --


def test_a_new_file_appears_when_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "page"
    with contextlib.closing(OutputFile(str(path))) as file:
        with file.binary() as stream:
            stream.write(b"new")
        assert not path.exists()
        file.publish()
    assert path.read_text() == "new"
    mask = os.umask(0o22)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["page", "./page", "../{}/page", "//{}//page"])
def test_names_of_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write(name.format(tmp_path.name if name.startswith("..") else str(tmp_path)[1:]))
    assert (tmp_path / "page").read_text() == "new"


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    """Whoever has the old one open, or a second name for it, keeps it."""
    path, second = tmp_path / "page", tmp_path / "second"
    path.write_text("old")
    path.chmod(0o640)
    os.link(path, second)
    with path.open() as old:
        _write(path)
        assert old.read() == second.read_text() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_changes_without_publish(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("old")
    with contextlib.closing(OutputFile(str(path))) as file, file.text() as stream:
        stream.write("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "number"), [("none/page", errno.ENOENT), ("file/page", errno.ENOTDIR), ("dir", errno.EISDIR)]
)
def test_an_error_names_the_path(name: str, number: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError) as caught:
        OutputFile(f"{tmp_path}/{name}")
    assert (caught.value.errno, caught.value.filename) == (number, f"{tmp_path}/{name}")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# -- links --


@pytest.mark.parametrize("relative", [True, False])
def test_our_links_are_followed(relative: bool, folder: Path) -> None:
    """Also in a folder that everybody can write; to a file that there is, or is not yet."""
    runs = folder.parent / "runs"
    runs.mkdir()
    (runs / "old").write_text("old")
    (folder / "runs").symlink_to("../runs" if relative else runs)
    for name in ("old", "none"):
        (folder / "latest").unlink(missing_ok=True)
        (folder / "latest").symlink_to(f"runs/{name}" if relative else folder / "runs" / name)
        _write(folder / "latest")
        assert (runs / name).read_text() == "new"
        assert (folder / "latest").is_symlink()


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError) as caught:
        OutputFile(f"{tmp_path}/loop")
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("owner", ["ours", "the stranger's"])
@pytest.mark.parametrize("where", ["page", "runs/page"])
def test_a_strangers_link_in_a_shared_folder_is_refused(
    where: str, owner: str, folder: Path, give_away: Callable[[Path], int]
) -> None:
    target = folder.parent / "target"
    target.mkdir()
    (target / "page").write_text("old")
    link = folder / where.partition("/")[0]
    link.symlink_to(target / "page" if where == "page" else target)
    uid = give_away(link)
    if owner != "ours":
        give_away(folder)
    with pytest.raises(UserError, match=rf"^{folder}/{where}: .* {link.name} .*\(uid {uid}\)$"):
        OutputFile(f"{folder}/{where}")
    assert [path.name for path in target.iterdir()] == ["page"]
    assert (target / "page").read_text() == "old"


def test_the_owner_of_a_folder_may_have_links_in_it(tmp_path: Path, give_away: Callable[[Path], int]) -> None:
    """As in a home folder, where root runs trace-popen by sudo."""
    (tmp_path / "page").symlink_to("page-1")
    give_away(tmp_path / "page")
    give_away(tmp_path)
    _write(tmp_path / "page")
    assert (tmp_path / "page-1").read_text() == "new"


def test_a_strangers_file_is_replaced_and_not_written(folder: Path, give_away: Callable[[Path], int]) -> None:
    """It could have a second name elsewhere, and the stranger would read what is written."""
    path = folder / "page"
    path.write_text("old")
    path.chmod(0o666)
    give_away(path)
    with path.open() as old:
        if os.geteuid() == 0:
            _write(path)
            assert path.read_text() == "new"
            assert path.stat().st_uid == 0
            assert path.stat().st_mode & 0o22 == 0
        else:  # the folder is sticky
            with pytest.raises(PermissionError):
                OutputFile(str(path))
        assert old.read() == "old"


# -- pipes and devices --


def test_devices(tmp_path: Path) -> None:
    _write("/dev/null")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left"):
        _write("/dev/full")


def test_an_open_pipe() -> None:
    """As in --report >(...)."""
    read, write = os.pipe()
    try:
        _write(f"/dev/fd/{write}")
        assert os.read(read, 10) == b"new"
    finally:
        os.close(read)
        os.close(write)


def test_an_open_file(tmp_path: Path) -> None:
    """As in -o /dev/stdout >page."""
    with (tmp_path / "page").open("w") as page:
        _write(f"/proc/self/fd/{page.fileno()}")
    assert (tmp_path / "page").read_text() == "new"


def test_a_folder_that_the_kernel_links_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /proc/PID/root/tmp/page, in another mount namespace."""
    monkeypatch.chdir(tmp_path)
    _write("/proc/self/cwd/page")
    assert (tmp_path / "page").read_text() == "new"


def test_a_named_pipe(folder: Path, give_away: Callable[[Path], int]) -> None:
    path = folder / "pipe"
    os.mkfifo(path)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(path.read_text()))
    reader.start()
    _write(path)
    reader.join()
    assert found == ["new"]
    assert path.is_fifo()
    uid = give_away(path)
    with pytest.raises(UserError, match=rf"^{path}: .*pipe.*\(uid {uid}\)$"):
        OutputFile(str(path))


def test_what_is_swapped_while_it_is_opened_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pipe = tmp_path / "page", tmp_path / "pipe"
    path.write_text("old")
    os.mkfifo(pipe)
    before = pipe.stat()
    real = _Folder.status
    monkeypatch.setattr(_Folder, "status", lambda self, name: before if name == "page" else real(self, name))
    with pytest.raises(OSError, match="replaced"):
        OutputFile(str(path))
    assert path.read_text() == "old"
