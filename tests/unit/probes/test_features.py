# SPDX-License-Identifier: Apache-2.0
"""probes.features: detection of kernel features, and the names in the C sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from probes import features
from probes.btf import Btf, BtfError
from probes.features import FEATURES, Feature, has_tracepoint, kernel_offsets
from tests.unit.btfbuilder import Builder

OPTIONAL = [
    feature for feature in FEATURES if feature.tracepoints and not feature.required and not feature.field
]
EXIT = """name: sched_process_exit
ID: 300
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:int prio;\toffset:28;\tsize:4;\tsigned:1;
{more}
print fmt: "comm=%s group_dead=%s", REC->comm, "false"
"""


def add(tracefs: Path, name: str, text: str = "") -> None:
    folder = tracefs / "events" / name.replace(":", "/")
    folder.mkdir(parents=True)
    (folder / "format").write_text(text)


@pytest.mark.parametrize(
    ("more", "flags"),
    [("", []), ("\tfield:bool group_dead;\toffset:32;\tsize:1;\tsigned:0;\n", ["GROUP_DEAD"])],
)
def test_a_tracepoint_that_has_a_field(more: str, flags: list[str], tmp_path: Path) -> None:
    add(tmp_path, "sched:sched_process_exit", EXIT.format(more=more))
    assert features.flags(tmp_path) == flags
    assert features.tracepoints(tmp_path) == []


def test_has_tracepoint(tmp_path: Path) -> None:
    (tmp_path / "events/sched/sched_process_exec").mkdir(parents=True)
    assert not has_tracepoint(tmp_path, "sched:sched_process_exec")
    (tmp_path / "events/sched/sched_process_exec/format").touch()
    assert has_tracepoint(tmp_path, "sched:sched_process_exec")
    assert not has_tracepoint(tmp_path, "sched:sched_process_exit")
    assert not has_tracepoint(tmp_path, "sched")


def test_a_kernel_with_what_is_needed(tmp_path: Path) -> None:
    for name in features.needed():
        assert name in features.missing(tmp_path)
        add(tmp_path, name)
    assert features.missing(tmp_path) == []
    assert features.tracepoints(tmp_path) == features.needed()
    assert features.flags(tmp_path) == []
    assert list(features.lost(tmp_path)) == [feature for feature in OPTIONAL if feature.without]


@pytest.mark.parametrize("feature", OPTIONAL, ids=lambda feature: feature.flag)
def test_a_feature_is_there_with_all_its_tracepoints(feature: Feature, tmp_path: Path) -> None:
    for name in feature.tracepoints:
        assert features.flags(tmp_path) == []
        assert (feature in features.lost(tmp_path)) == bool(feature.without)
        add(tmp_path, name)
    assert features.flags(tmp_path) == [feature.flag]
    assert features.tracepoints(tmp_path) == list(feature.tracepoints)
    assert feature not in features.lost(tmp_path)


def sources(repo_root: Path) -> str:
    return "".join(path.read_text() for path in sorted((repo_root / "probes").glob("*.bpf.c")))


def test_each_program_has_a_tracepoint_and_each_tracepoint_a_program(repo_root: Path) -> None:
    text = sources(repo_root)
    calls = re.findall(r"^(ENTER|LEAVE)\((\w+)\)", text, re.MULTILINE)
    programs = {f"sys_{'enter' if side == 'ENTER' else 'exit'}_{call}" for side, call in calls}
    programs |= set(re.findall(r"^PROBE\(\w+, (\w+)\)", text, re.MULTILINE))
    names = [name for feature in FEATURES if not feature.field for name in feature.tracepoints]
    assert len(names) == len(set(names))
    assert programs == {name.split(":")[1] for name in names}


def conditions(repo_root: Path) -> str:
    return " ".join(re.findall(r"^#(?:if|ifdef|elif) (.*)$", sources(repo_root), re.MULTILINE))


def test_each_flag_is_used(repo_root: Path) -> None:
    used = set(re.findall(r"HAVE_\w+|BTF|GROUP_DEAD|FENTRY|PIPE_READ", conditions(repo_root)))
    assert used == {feature.flag for feature in FEATURES if feature.flag}


def test_each_compile_time_name_is_explained(repo_root: Path) -> None:
    """In the comment at the start of errpipe.bpf.c."""
    text = sources(repo_root) + (repo_root / "probes" / "errpipe.h").read_text()
    own = set(re.findall(r"^ *#define (\w+)", text, re.MULTILINE))
    names = set(re.findall(r"\b(?:MAX|OFF)_\w+|\bFILE_COUNT_ONE\b", text)) - own
    names |= {name for name in re.findall(r"[A-Z]\w+", conditions(repo_root)) if name not in own}
    names -= {"OFF_ARGUMENT_"}  # a macro appends the number
    comment = (repo_root / "probes" / "errpipe.bpf.c").read_text().split('#include "errpipe.h"')[0]
    patterns = [name.replace("*", r"\w+") for name in re.findall(r"\b[A-Z][A-Z_0-9]+\*?", comment)]
    unexplained = {name for name in names if not any(re.fullmatch(pattern, name) for pattern in patterns)}
    assert unexplained == set()
    assert {"MAX_COMMS", "OFF_KIOCB_FILE", "FILE_COUNT_ONE", "UNROLL", "HAVE_DUP2"} <= names


class Types:
    """A Btf with all members but one, at the offsets 1, 2 and so on."""

    def __init__(self, without: str) -> None:
        self.without = without
        self.asked = 0

    def offset(self, structure: str, member: str) -> int:
        self.asked += 1
        if f"{structure}.{member}" == self.without:
            raise BtfError(f"struct {structure} has no member {member}")
        return self.asked


def offsets(without: str) -> dict[str, int]:
    return kernel_offsets(Types(without))  # type: ignore[arg-type]


def test_kernel_offsets() -> None:
    now = offsets("")
    assert now["FILE_COUNT_ONE"] == 0
    assert {"OFF_TASK_FILES", "OFF_PIPE_HEAD", "OFF_PIPE_TAIL", "OFF_FILE_COUNT"} <= set(now)
    before = offsets("file.f_ref")
    assert before["FILE_COUNT_ONE"] == 1
    assert before["OFF_FILE_COUNT"] == now["OFF_FILE_COUNT"] + 1
    before_5_5 = set(offsets("pipe_inode_info.tail"))
    assert {"OFF_PIPE_NRBUFS", "OFF_PIPE_CURBUF", "OFF_PIPE_BUFFERS"} <= before_5_5
    assert not {"OFF_PIPE_HEAD", "OFF_PIPE_TAIL"} & before_5_5


def test_types_that_lack_a_member() -> None:
    with pytest.raises(BtfError, match="struct file has no member f_mode"):
        offsets("file.f_mode")


def test_arguments_that_are_elsewhere_than_the_format_says(tmp_path: Path) -> None:
    def misplaced(*structures: tuple[str, str, int]) -> bool:
        built = Builder()
        number = built.integer()
        for structure, member, place in structures:
            built.structure(structure, [(member, number, 8 * place)])
        file = tmp_path / "vmlinux"
        file.write_bytes(built.bytes())
        return features.arguments_are_misplaced(Btf(file))

    entry, format_ = ("syscall_tp_t", "args", 24), ("syscall_trace_exit", "ret", 16)
    assert misplaced(entry, ("syscall_tp_t", "ret", 24), format_)  # RHEL 9.3
    assert not misplaced(entry, ("syscall_tp_t", "ret", 16), format_)
    assert not misplaced(entry, format_)  # not known
    assert not misplaced(("syscall_tp_t", "ret", 24))


def test_each_offset_is_used(repo_root: Path) -> None:
    text = sources(repo_root)
    assert [name for name in offsets("") if not re.search(rf"\b{name}\b", text)] == []


def test_the_table_is_in_the_readme(repo_root: Path) -> None:
    """python -m probes.features prints it."""
    assert features.table() in (repo_root / "probes" / "README.md").read_text()
