# SPDX-License-Identifier: Apache-2.0
"""probes.records: the ctypes structures are those of errpipe.h as a C compiler sees them."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, Union

import pytest

from probes import records
from probes.records import (
    CommStats,
    Counter,
    Exposure,
    How,
    Notice,
    RecordKind,
    Release,
    ReleaseFlag,
    Setting,
    Spawn,
)

MAX_SPAWNS = 1024

_PRELUDE = f"""
#include <stddef.h>
#include <stdio.h>
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
#define MAX_SPAWNS {MAX_SPAWNS}
#include "errpipe.h"
#define SAY(name, value) printf("%s %llu\\n", name, (unsigned long long)(value))
int main(void)
{{
"""

STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "release": Release,
    "stray": records.Stray,
    "spawn": Spawn,
    "notice": Notice,
    "places": records.watched_type(MAX_SPAWNS),
    "process": records.process_type(MAX_SPAWNS),
    "stack": records.Stack,
    "histogram": records.Histogram,
    "comm_stats": CommStats,
}

# By prefix in C, the enumeration that mirrors the macros.
MACROS: dict[str, type[Union[IntEnum, IntFlag]]] = {
    "HOW": How,
    "RECORD": RecordKind,
    "RELEASE": ReleaseFlag,
    "OUTCOME": records.Outcome,
}


_CONSTANTS = (
    "MAX_NUMBERS",
    "MAX_RELEASES",
    "BUCKETS",
    "BUCKET_0_NS",
    "COMM_LEN",
    "EXPECTED",
    "LEFT_UNKNOWN",
    "MAX_STACK_DEPTH",
)


@pytest.fixture(scope="module")
def header(repo_root: Path) -> str:
    return (repo_root / "probes" / "errpipe.h").read_text()


def macros(header: str, prefix: str) -> set[str]:
    """Names of the header's constants with a prefix, without the prefix."""
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
    return re.findall(r"(\w+)(?:\[[^\]]+\])?;", without_comments)


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
    for prefix in MACROS:
        for name in macros(header, prefix):
            say(f"{prefix}_{name}", f"{prefix}_{name}")
    for enum in ("counter", "exposure", "setting"):
        for name in enumerators(header, enum):
            say(name, name)
    for name in _CONSTANTS:
        say(name, name)
    for signed in ("release.fd", "spawn.read_fd", "spawn.fds[0]", "spawn.exec_error"):
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
    # A comm is read as plain characters; pending is not read.
    known = {*STRUCTURES, "comm", "pending"}
    assert set(re.findall(r"^struct (\w+) {", header, re.MULTILINE)) == known


@pytest.mark.parametrize("prefix", MACROS)
def test_values(prefix: str, header: str, c_says: dict[str, int]) -> None:
    ours = {each.name: each.value for each in MACROS[prefix]}
    assert ours == {name: c_says[f"{prefix}_{name}"] for name in macros(header, prefix)}
    assert ours


def test_counters(header: str, c_says: dict[str, int]) -> None:
    *names, end = enumerators(header, "counter")
    assert {each.name: each.value for each in Counter} == {name: c_says[name] for name in names}
    assert c_says[end] == len(Counter)


def test_exposures(header: str, c_says: dict[str, int]) -> None:
    *names, end = enumerators(header, "exposure")
    assert {f"EXPOSED_{each.name}": each.value for each in Exposure} == {name: c_says[name] for name in names}
    assert c_says[end] == len(Exposure)


def test_settings(header: str, c_says: dict[str, int]) -> None:
    *names, end = enumerators(header, "setting")
    assert {f"SETTING_{each.name}": each.value for each in Setting} == {name: c_says[name] for name in names}
    assert c_says[end] == len(Setting)


def test_constants(c_says: dict[str, int]) -> None:
    assert c_says["MAX_NUMBERS"] == records.MAX_NUMBERS
    assert c_says["MAX_RELEASES"] == records.MAX_RELEASES
    assert c_says["EXPECTED"] == records.EXPECTED
    assert c_says["LEFT_UNKNOWN"] == records.LEFT_UNKNOWN
    assert c_says["MAX_STACK_DEPTH"] == records.MAX_STACK_DEPTH
    assert c_says["BUCKETS"] == len(records.BUCKET_BOUNDS_NS) + 1
    assert (
        tuple(c_says["BUCKET_0_NS"] << bucket for bucket in range(c_says["BUCKETS"] - 1))
        == records.BUCKET_BOUNDS_NS
    )


def test_fds_can_be_negative(c_says: dict[str, int]) -> None:
    assert [name for name, value in c_says.items() if name.endswith("signed") and not value] == []
    spawn = Spawn()
    spawn.fds[0] = -1
    assert spawn.fds[0] == -1
    assert Release(fd=-1).fd == Spawn(read_fd=-1).read_fd == Spawn(exec_error=-1).exec_error == -1


@pytest.mark.parametrize("max_spawns", [64, 512, 1024, 4608, 8192])
def test_a_set_of_places_has_a_bit_for_each(max_spawns: int, repo_root: Path, tmp_path: Path) -> None:
    """Also if it is small: its size is the same in C."""
    places = records.watched_type(max_spawns)
    assert 64 * len(places().words) == max_spawns
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    prelude = _PRELUDE.replace(f"MAX_SPAWNS {MAX_SPAWNS}", f"MAX_SPAWNS {max_spawns}")
    source, program = tmp_path / "say.c", tmp_path / "say"
    source.write_text(prelude + 'SAY("x", sizeof(struct places));\nSAY("x", sizeof(struct process));\n}\n')
    subprocess.run(["gcc", f"-I{repo_root / 'probes'}", "-o", str(program), str(source)], check=True)
    said = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    sizes = [ctypes.sizeof(kind) for kind in (places, records.process_type(max_spawns))]
    assert [int(said[1]), int(said[3])] == sizes


def test_unrolled_a_process_fits_on_the_stack(repo_root: Path, tmp_path: Path) -> None:
    """With room for the rest in 512 bytes: before 4.18 a value is inserted from there."""
    process = records.process_type(MAX_SPAWNS, has_sets=False)
    assert ctypes.sizeof(process) <= 256
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    source, program = tmp_path / "say.c", tmp_path / "say"
    source.write_text(f'#define UNROLL\n{_PRELUDE}SAY("x", sizeof(struct process));\n}}\n')
    subprocess.run(["gcc", f"-I{repo_root / 'probes'}", "-o", str(program), str(source)], check=True)
    said = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert int(said[1]) == ctypes.sizeof(process)
