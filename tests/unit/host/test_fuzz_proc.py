# SPDX-License-Identifier: Apache-2.0
"""Reading a damaged /proc (missing, empty, truncated, binary, huge files) never raises."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host import procfs
from agent.host.identity import container_of, identify
from agent.reports.objects import snapshot_object
from agent.snapshot import look, take, text
from tests.unit.test_snapshot import _BOOT, _OWN, _PARENT, _PIPE, _THREAD, _WORKER, _Host

_LONGEST_COMM = 64
_COMMS = st.sampled_from(
    [b") R 1 1 1", b"a)\n(b", b"(((", b"\x1b[2J", b"\xff\xfe", b"\n\n", b"", b"\0\0", b"c" * 100_000]
) | st.binary(max_size=16)


_TARGETS = st.sampled_from(["pipe:[]", "pipe:[x]", "pipe:[77]", "socket:[77]", "/", "x" * 200])
_FOLDERS = ["", f"{_WORKER}/fd", f"{_PARENT}/task", f"{_PARENT}/task/{_THREAD}/fd"]
_CGROUPS = st.text(max_size=200) | st.lists(
    st.sampled_from(["docker-", "/", "ab" * 32, ".scope", "\n", ":", "pod"])
).map("".join)


def _files(root: Path) -> list[str]:
    """Relative paths of all files and links in a tree."""
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()
    )


@pytest.fixture(scope="module")
def pristine(in_memory: Path) -> Path:
    """A tree with a parent whose thread waits for its worker, and all files of proc(5) that are read."""
    host = _Host(in_memory / "proc")
    host.own()
    host.worker()
    host.children(_THREAD, _OWN)
    host.children(_PARENT, _WORKER)
    for pid in (1, _PARENT, _OWN, _WORKER):
        process = host.root / str(pid)
        (process / "status").write_text(f"Name:\tx\nTgid:\t{pid}\nUid:\t5\t5\t5\t5\nThreads:\t1\n")
        (process / "cgroup").write_text("0::/system.slice/docker-" + "ab" * 32 + ".scope\n")
        (process / "cmdline").write_bytes(b"secret\0argument\0")
    [stall] = host.take()  # the undamaged tree shows a stall
    assert [holder.pid for holder in stall.holders] == [_WORKER]
    assert len(_files(host.root)) > 25
    return host.root


def _damaged(before: bytes) -> st.SearchStrategy[bytes]:
    at = st.integers(0, len(before))
    return st.one_of(
        st.just(b""),
        st.binary(max_size=100),
        st.builds(lambda place: before[:place], at),
        st.builds(lambda place, what: before[:place] + what + before[place:], at, st.binary(max_size=9)),
        st.builds(lambda place, what: before[:place] + what + before[place + 1 :], at, st.binary(max_size=1)),
        st.sampled_from([b"\xff" * 200_000, b"9" * 5_000, b"-1 " * 60, b") " * 60, b"flags:\t" + b"9" * 20]),
    )


def _damage(root: Path, data: st.DataObject) -> None:
    for name in data.draw(st.lists(st.sampled_from(_files(root)), max_size=4, unique=True)):
        path = root / name
        kind = data.draw(st.sampled_from(["content", "content", "content", "gone", "folder", "elsewhere"]))
        before = b"" if path.is_symlink() else path.read_bytes()
        path.unlink()
        if kind == "content":
            path.write_bytes(data.draw(_damaged(before)))
        elif kind == "folder":
            path.mkdir()
        elif kind == "elsewhere":
            path.symlink_to(data.draw(_TARGETS))
    for folder in data.draw(st.lists(st.sampled_from(_FOLDERS), max_size=1)):
        (root / folder / data.draw(st.sampled_from(["²", "-1", "x", "9" * 40, "٣"]))).mkdir()


@given(data=st.data())
def test_damaged_files(pristine: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(dir=pristine.parent) as folder:
        root = Path(folder) / "proc"
        shutil.copytree(pristine, root, symlinks=True)
        _damage(root, data)
        holding = {
            int(link.parent.parent.name)
            for link in root.glob("[0-9]*/fd/*")
            if link.is_symlink() and str(link.readlink()) == _PIPE
        }
        for finding in take(_PARENT, str(root), _BOOT):
            found = snapshot_object(finding.to_object(), {})
            line = json.dumps(found, allow_nan=False)
            assert line.isprintable()
            assert "secret" not in line  # the argument vector
            assert {holder.pid for holder in finding.holders} - {None} <= holding
            comms = [finding.comm, finding.child_comm, *(holder.comm for holder in finding.holders)]
            assert max(map(len, comms)) <= _LONGEST_COMM
        for wait in look(_PARENT, str(root), _BOOT).waits:
            line = json.dumps(wait.to_object(), allow_nan=False)
            assert line.isprintable()
            assert "secret" not in line
            assert text(wait.to_object())
            assert len(wait.comm) <= _LONGEST_COMM
        for pid in (1, _PARENT, _OWN, _WORKER, 9999):
            procfs.is_alive(pid, root)
            procfs.descendants(pid, root)
            procfs.is_blocked_on(pid, _THREAD, 3, root)
            procfs.pipe_inode(pid, 3, root)
            procfs.is_in_exec(pid, root)
            procfs.is_stopped(pid, pid, root)
            assert len(procfs.comm_of(pid, root)) <= _LONGEST_COMM
            who = identify(pid, 1 << 62, root)
            assert who is None or who.exe is None or len(who.exe) <= 256
        assert {
            pid for pid in procfs.pids(root) if procfs.write_ends(pid, procfs.pipe_links({77}), 100, root)[0]
        } <= holding


@given(comm=_COMMS)
def test_a_comm_does_not_shift_the_fields_of_stat(in_memory: Path, comm: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=in_memory) as folder:
        host = _Host(Path(folder))
        host.process(_OWN, _PARENT, comm=comm)
        assert procfs.descendants(_PARENT, host.root) == [_OWN]
        assert procfs.descendants(1, host.root) == [_PARENT, _OWN]
        assert len(procfs.comm_of(_OWN, host.root)) <= _LONGEST_COMM


@given(cgroup=_CGROUPS)
def test_a_container_is_an_id_or_nothing(cgroup: str) -> None:
    found = container_of(cgroup)
    assert found is None or (len(found.id) == 64 and set(found.id) <= set("0123456789abcdef"))
