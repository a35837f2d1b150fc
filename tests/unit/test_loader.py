"""probes.loader: what it works out before the kernel is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from probes import loader
from probes.loader import Options

BASE = {
    "-DSLOTS=16",
    "-DMAX_SPAWNS=8192",
    "-DMAX_TABLES=8192",
    "-DMAX_THREADS=8192",
    "-DMAX_PROGRAMS=1024",
}
EXIT = "sched/sched_process_exit"
EXIT_FORMAT = """name: sched_process_exit
ID: 300
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:int prio;\toffset:28;\tsize:4;\tsigned:1;
"""


def add(tracefs: Path, name: str, text: str = "") -> None:
    folder = tracefs / "events" / name
    folder.mkdir(parents=True)
    (folder / "format").write_text(text)


@pytest.fixture
def tracefs(tmp_path: Path) -> Path:
    """The least that a kernel has."""
    add(tmp_path, EXIT, EXIT_FORMAT)
    return tmp_path


def flags(tracefs: Path, options: Options, offsets: Optional[dict[str, int]] = None) -> set[str]:
    found = loader._cflags(tracefs, options, offsets)
    assert len(found) == len(set(found))
    return set(found)


def test_a_kernel_without_anything_special(tracefs: Path) -> None:
    assert flags(tracefs, Options(threshold_ns=1)) == BASE


@pytest.mark.parametrize(
    ("tracepoints", "name"),
    [
        (("enter_pipe", "exit_pipe"), "HAVE_PIPE"),
        (("enter_dup2", "exit_dup2"), "HAVE_DUP2"),
        (("enter_close_range",), "HAVE_CLOSE_RANGE"),
    ],
)
def test_system_calls_that_not_every_kernel_has(
    tracepoints: tuple[str, ...], name: str, tracefs: Path
) -> None:
    before = set(loader._tracepoints(tracefs))
    for tracepoint in tracepoints:
        add(tracefs, f"syscalls/sys_{tracepoint}")
    assert flags(tracefs, Options(threshold_ns=1)) == {*BASE, f"-D{name}"}
    added = set(loader._tracepoints(tracefs)) - before
    assert added == {f"syscalls:sys_{tracepoint}" for tracepoint in tracepoints}


def test_the_exit_tracepoint_may_say_whether_the_whole_process_is_dead(tmp_path: Path) -> None:
    add(tmp_path, EXIT, f"{EXIT_FORMAT}\tfield:bool group_dead;\toffset:32;\tsize:1;\tsigned:0;\n")
    assert flags(tmp_path, Options(threshold_ns=1)) == {*BASE, "-DGROUP_DEAD"}


def test_options(tracefs: Path) -> None:
    options = Options(
        threshold_ns=1, targets=True, every=True, max_spawns=1, max_tables=2, max_threads=3, max_programs=4
    )
    assert flags(tracefs, options) == {
        "-DSLOTS=16",
        "-DTARGETS",
        "-DEVERY",
        "-DMAX_SPAWNS=1",
        "-DMAX_TABLES=2",
        "-DMAX_THREADS=3",
        "-DMAX_PROGRAMS=4",
    }


def test_stacks(tracefs: Path) -> None:
    options = Options(threshold_ns=1, stacks=True, max_stacks=64)
    assert flags(tracefs, options) == {*BASE, "-DSTACKS", "-DMAX_STACKS=64"}


def test_offsets(tracefs: Path) -> None:
    offsets = {"OFF_TASK_FILES": 2920, "FILE_COUNT_ONE": 0}
    assert flags(tracefs, Options(threshold_ns=1), offsets) == {
        *BASE,
        "-DBTF",
        "-DOFF_TASK_FILES=2920",
        "-DFILE_COUNT_ONE=0",
    }


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-27-amd64", (6, 1, 0)),
        ("5.14.0-362.8.1.el9_3.x86_64", (5, 14, 0)),
        ("3.10.0-957.el7.x86_64", (3, 10, 0)),
        ("4.9.337", (4, 9, 255)),  # as the kernel's own since 4.9.256: a patch level has one byte
        ("5.10.224-212.876.amzn2.x86_64", (5, 10, 224)),
        ("7.0", (7, 0, 0)),
        ("7", (7, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_version_header(release: str, version: tuple[int, int, int]) -> None:
    major, minor, patch = version
    code, macro = loader._version_header(release).splitlines()
    assert code == f"#define LINUX_VERSION_CODE {major * 65536 + minor * 256 + patch}"
    assert macro == "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))"


@pytest.mark.parametrize("before", [None, "/usr/src/linux"])
def test_the_kernel_source_is_named_only_meanwhile(
    before: Optional[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    if before is not None:
        monkeypatch.setenv("BCC_KERNEL_SOURCE", before)
    with pytest.raises(KeyError), loader._kernel_source(tmp_path):
        assert os.environ["BCC_KERNEL_SOURCE"] == str(tmp_path)
        raise KeyError
    assert os.environ.get("BCC_KERNEL_SOURCE") == before


def test_what_is_said_on_standard_error_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with loader._captured_stderr(tmp_path / "stderr") as said:
        os.write(2, b"error: no \xff such thing\nsecond line\n")
        assert said() == " (error: no \ufffd such thing)"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_nothing_said(tmp_path: Path) -> None:
    with loader._captured_stderr(tmp_path / "stderr") as said:
        assert said() == ""


@pytest.mark.parametrize("comm", [b"", b"sh", b"fifteen letters", b"\xff\x1b"])
def test_the_key_of_a_comm_is_padded_with_zeros(comm: bytes) -> None:
    assert bytes(loader._comm_key(comm)).ljust(16, b"\0") == comm.ljust(16, b"\0")


def test_programs_are_shared_in_the_order_of_the_header(repo_root: Path) -> None:
    header = (repo_root / "probes" / "errpipe.h").read_text()
    *names, _end = header.split("enum shared_program {")[1].split("}")[0].replace(",", "").split()
    assert [name.decode().upper() for name in loader._SHARED_PROGRAMS] == names


def test_bcc_is_not_loaded_before_it_is_needed(repo_root: Path) -> None:
    code = "import sys, probes.loader, agent.tracer, agent.daemon, agent.cli; sys.exit('bcc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=repo_root, check=True)
