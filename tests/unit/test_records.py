"""probes.records: the ctypes mirrors against errpipe.h, as a C compiler sees it."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from probes import records
from probes.records import Counter, How, Program, RecordKind, Release, Setting, Slot, SlotFlag, Spawn

SLOTS = 16

_PRELUDE = f"""
#include <stddef.h>
#include <stdio.h>
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
#define SLOTS {SLOTS}
#include "errpipe.h"
#define SAY(name, value) printf("%s %llu\\n", name, (unsigned long long)(value))
int main(void)
{{
"""

STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "slot": Slot,
    "table": records.table_type(SLOTS),
    "release": Release,
    "spawn": Spawn,
    "stack": records.Stack,
    "histogram": records.Histogram,
    "program": Program,
}

# C prefix: the enumeration that mirrors its macros.
MACROS: dict[str, type[IntEnum]] = {
    "HOW": How,
    "RECORD": RecordKind,
    "OUTCOME": records.Outcome,
}


@pytest.fixture(scope="module")
def header(repo_root: Path) -> str:
    return (repo_root / "probes" / "errpipe.h").read_text()


def macros(header: str, prefix: str) -> set[str]:
    """Names of the header's plain macros with a prefix, without it."""
    return set(re.findall(rf"^#define {prefix}_(\w+)\s", header, re.MULTILINE))


def enumerators(header: str, name: str) -> list[str]:
    """Names of a C enum, in order."""
    found = re.search(rf"^enum {name} {{(.*?)}};", header, re.MULTILINE | re.DOTALL)
    assert found is not None
    without_comments = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    return re.findall(r"\w+", without_comments)


def members(header: str, name: str) -> list[str]:
    """Names of a C structure's members, in order."""
    found = re.search(rf"^struct {name} {{(.*?)}};", header, re.MULTILINE | re.DOTALL)
    assert found is not None
    without_comments = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    return re.findall(r"(\w+)(?:\[\w+\])?;", without_comments)


@pytest.fixture(scope="module")
def c_says(header: str, repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes, offsets and values by name."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    lines = []

    def say(name: str, expression: str) -> None:
        lines.append(f'SAY("{name}", {expression});')

    for structure in STRUCTURES:
        say(structure, f"sizeof(struct {structure})")
        for member in members(header, structure):
            say(f"{structure}.{member} offset", f"offsetof(struct {structure}, {member})")
            say(f"{structure}.{member} size", f"sizeof(((struct {structure} *)0)->{member})")
    for prefix in (*MACROS, "SLOT"):
        for name in macros(header, prefix):
            say(f"{prefix}_{name}", f"{prefix}_{name}")
    for copy in range(records.COPIES):
        say(f"SLOT_CLOEXEC_{copy}", f"SLOT_CLOEXEC({copy})")
        say(f"SLOT_CLOSED_{copy}", f"SLOT_CLOSED({copy})")
    for enum in ("counter", "setting"):
        for name in enumerators(header, enum):
            say(name, name)
    for name in ("COPIES", "BUCKETS", "BUCKET_0_NS", "COMM_LEN", "LEFT_UNKNOWN", "STACK_DEPTH"):
        say(name, name)
    for signed in ("slot.read_fd", "slot.fds[0]", "release.fd", "spawn.read_fd", "spawn.exec_error"):
        structure, member = signed.split(".")
        say(f"{signed} signed", f"(__typeof__(((struct {structure} *)0)->{member}))-1 < 0")
    folder = tmp_path_factory.mktemp("errpipe_h")
    source, program = folder / "say.c", folder / "say"
    source.write_text(_PRELUDE + "\n".join(lines) + "\nreturn 0;\n}\n")
    include = repo_root / "probes"
    subprocess.run(["gcc", "-Wall", "-Werror", f"-I{include}", "-o", str(program), str(source)], check=True)
    said = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.rsplit(" ", 1) for line in said.splitlines())}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure(name: str, header: str, c_says: dict[str, int]) -> None:
    structure: Any = STRUCTURES[name]
    assert [field[0] for field in structure._fields_] == members(header, name)
    ours = {name: ctypes.sizeof(structure)}
    for field in structure._fields_:
        member = getattr(structure, field[0])
        ours[f"{name}.{field[0]} offset"] = member.offset
        ours[f"{name}.{field[0]} size"] = member.size
    assert ours == {key: c_says[key] for key in ours}


def test_no_structure_is_without_a_mirror(header: str) -> None:
    known = {*STRUCTURES, "comm"}  # a comm is a key, which is plain characters
    assert set(re.findall(r"^struct (\w+) {", header, re.MULTILINE)) == known


@pytest.mark.parametrize("prefix", MACROS)
def test_values(prefix: str, header: str, c_says: dict[str, int]) -> None:
    ours = {each.name: each.value for each in MACROS[prefix]}
    assert ours == {name: c_says[f"{prefix}_{name}"] for name in macros(header, prefix)}
    assert ours


def test_slot_flags(header: str, c_says: dict[str, int]) -> None:
    of_copies = {f"{what}_{copy}" for what in ("CLOEXEC", "CLOSED") for copy in range(records.COPIES)}
    names = macros(header, "SLOT") | of_copies
    assert {each.name: each.value for each in SlotFlag} == {name: c_says[f"SLOT_{name}"] for name in names}


def test_counters(header: str, c_says: dict[str, int]) -> None:
    *names, end = enumerators(header, "counter")
    assert {each.name: each.value for each in Counter} == {name: c_says[name] for name in names}
    assert c_says[end] == len(Counter)


def test_settings(header: str, c_says: dict[str, int]) -> None:
    *names, end = enumerators(header, "setting")
    assert {f"SETTING_{each.name}": each.value for each in Setting} == {name: c_says[name] for name in names}
    assert c_says[end] == len(Setting)


def test_constants(c_says: dict[str, int]) -> None:
    assert c_says["COPIES"] == records.COPIES
    assert c_says["LEFT_UNKNOWN"] == records.LEFT_UNKNOWN
    assert c_says["STACK_DEPTH"] == records.STACK_DEPTH
    assert c_says["BUCKETS"] == len(records.BUCKET_BOUNDS_NS) + 1
    assert (
        tuple(c_says["BUCKET_0_NS"] << bucket for bucket in range(c_says["BUCKETS"] - 1))
        == records.BUCKET_BOUNDS_NS
    )


def test_fds_can_be_negative(c_says: dict[str, int]) -> None:
    assert [name for name, value in c_says.items() if name.endswith("signed") and not value] == []
    slot = Slot(read_fd=-1)
    slot.fds[0] = -1
    assert (slot.read_fd, slot.fds[0]) == (-1, -1)
    assert Release(fd=-1).fd == Spawn(read_fd=-1).read_fd == Spawn(exec_error=-1).exec_error == -1


def test_a_table_has_as_many_slots_as_asked_for() -> None:
    one, two = ctypes.sizeof(records.table_type(1)), ctypes.sizeof(records.table_type(2))
    assert two - one == ctypes.sizeof(Slot)
