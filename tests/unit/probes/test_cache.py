# SPDX-License-Identifier: Apache-2.0
"""probes.cache: only files that nobody else can write are used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from probes import cache
from probes.cache import Cache

_KEY = Cache.key([b"source", b"flags"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spawnstall"


def test_what_is_put_is_found(folder: Path) -> None:
    kept = Cache(folder)
    assert kept.is_empty
    assert kept.get(_KEY) is None
    kept.put(_KEY, b"bytes\nof any kind")
    assert kept.get(_KEY) == b"bytes\nof any kind"
    assert kept.get(Cache.key([b"source", b"other flags"])) is None
    assert not kept.is_empty
    assert folder.stat().st_mode & 0o777 == 0o700


def test_keys_keep_their_parts_apart() -> None:
    assert Cache.key([b"ab", b"c"]) != Cache.key([b"a", b"bc"])


def _by_everybody(folder: Path) -> None:
    folder.chmod(0o777)


def _by_the_group(folder: Path) -> None:
    next(folder.iterdir()).chmod(0o620)


def _another_file(folder: Path) -> None:
    file = next(folder.iterdir())
    other = folder.parent / "other"
    file.rename(other)
    file.symlink_to(other)


def _changed(folder: Path) -> None:
    file = next(folder.iterdir())
    file.write_bytes(file.read_bytes().replace(b"content", b"CONTENT"))


def _cut(folder: Path) -> None:
    file = next(folder.iterdir())
    file.write_bytes(file.read_bytes()[:30])


@pytest.mark.parametrize("spoil", [_by_everybody, _by_the_group, _another_file, _changed, _cut])
def test_what_another_user_may_have_written_is_not_used(folder: Path, spoil: Callable[[Path], None]) -> None:
    kept = Cache(folder)
    kept.put(_KEY, b"content")
    assert kept.get(_KEY) == b"content"
    spoil(folder)
    assert kept.get(_KEY) is None


def test_a_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Cache(folder)
    kept.put(_KEY, b"content")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert kept.get(_KEY) is None


def test_nothing_is_written_where_others_can_write(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    Cache(folder).put(_KEY, b"content")
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    kept = Cache(tmp_path / "no" / "such")
    kept.put(_KEY, b"content")
    assert kept.get(_KEY) is None


def test_the_newest_are_kept(folder: Path) -> None:
    kept = Cache(folder)
    for number in range(20):
        key = f"{number:02}"
        kept.put(key, b"content")
        os.utime(folder / f"{key}.bytecode", (number, number))
    assert sorted(file.stem for file in folder.iterdir()) == [f"{number:02}" for number in range(4, 20)]


def test_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/a:/var/cache/b")
    assert cache.default_folder() == Path("/var/cache/a")
    monkeypatch.setenv("CACHE_DIRECTORY", "")
    assert cache.default_folder() is None
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache.default_folder() is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache.default_folder() == Path("/var/cache/spawnstall")


def test_without_a_folder() -> None:
    nothing = Cache(None)
    nothing.put(_KEY, b"content")
    assert nothing.get(_KEY) is None
    assert nothing.is_empty
