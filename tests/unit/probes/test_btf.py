# SPDX-License-Identifier: Apache-2.0
"""probes.btf: offsets from small BTF files, and damaged files."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.btf import VMLINUX_BTF, Btf, BtfError
from tests.unit.btfbuilder import (
    ARRAY,
    CONST,
    DATASEC,
    DECL_TAG,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    INT,
    PTR,
    RESTRICT,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    VOLATILE,
    Builder,
)


def everything() -> Builder:
    """Every kind once, each followed by a structure that is found only if the kind's length is right."""
    built = Builder()
    number = built.integer()
    for kind, word, tail, vlen in (
        (INT, 4, struct.pack("=I", 32), 0),
        (PTR, number, b"", 0),
        (ARRAY, 0, struct.pack("=III", number, number, 4), 0),
        (STRUCT, 8, struct.pack("=IIIIII", 0, number, 0, 0, number, 32), 2),
        (UNION, 4, struct.pack("=IIIIII", 0, number, 0, 0, number, 0), 2),
        (ENUM, 4, struct.pack("=IiIi", 0, 1, 0, -2), 2),
        (FWD, 0, b"", 0),
        *((kind, number, b"", 0) for kind in (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG, FUNC)),
        (FUNC_PROTO, number, struct.pack("=IIII", 0, number, 0, number), 2),
        (VAR, number, struct.pack("=I", 0), 0),
        (DATASEC, 4, struct.pack("=IIIIII", number, 0, 4, number, 4, 4), 2),
        (FLOAT, 8, b"", 0),
        (DECL_TAG, number, struct.pack("=i", -1), 0),
        (ENUM64, 8, struct.pack("=IIIIII", 0, 1, 1, 0, 2, 2), 2),
    ):
        built.add(kind, f"of_kind_{kind}", word, tail, vlen)
        built.structure(f"behind_{kind}", [("first", number, 0), ("second", number, 8 * kind)])
    return built


def written(path: Path, built: Builder) -> Btf:
    path.write_bytes(built.bytes())
    return Btf(path)


@pytest.fixture
def file(in_memory: Path) -> Path:
    path = in_memory / "vmlinux"
    path.unlink(missing_ok=True)
    return path


@pytest.mark.parametrize("kind", range(INT, ENUM64 + 1))
def test_an_offset_behind_every_kind_of_type(kind: int, file: Path) -> None:
    btf = written(file, everything())
    assert btf.offset(f"behind_{kind}", "first") == 0
    assert btf.offset(f"behind_{kind}", "second") == kind


def test_members_of_anonymous_structures_count_as_the_structures_own(file: Path) -> None:
    built = Builder()
    number = built.integer()
    inner = built.structure("", [("deep", number, 32)])
    through = built.add(CONST, word=built.add(TYPEDEF, "inner_t", inner))
    union = built.structure("", [("", through, 0), ("beside", number, 0)], UNION)
    named = built.structure("named", [("hidden", number, 0)])
    built.structure("outer", [("head", number, 0), ("", union, 64), ("named", named, 128)])
    btf = written(file, built)
    assert btf.offset("outer", "deep") == 8 + 4
    assert btf.offset("outer", "beside") == 8
    assert btf.offset("outer", "named") == 16
    with pytest.raises(BtfError, match="struct outer has no member hidden"):
        btf.offset("outer", "hidden")  # a named member's members are not the structure's own


def test_the_size_of_a_bit_field_is_not_part_of_its_offset(file: Path) -> None:
    built = Builder()
    number = built.integer()
    built.structure("flags", [("one", number, 3 << 24 | 64), ("two", number, 5 << 24 | 96)], bitfields=True)
    btf = written(file, built)
    assert (btf.offset("flags", "one"), btf.offset("flags", "two")) == (8, 12)


def test_a_function_is_known_by_the_place_of_its_type(file: Path) -> None:
    built = Builder()
    number = built.integer()
    prototype = built.add(FUNC_PROTO)
    first = built.add(FUNC, "close", prototype)
    built.structure("read", [("x", number, 0)])
    second = built.add(FUNC, "close_range", prototype)
    btf = written(file, built)
    assert (btf.function("close"), btf.function("close_range")) == (first, second)
    for name in ("read", "clos", "nothing"):
        with pytest.raises(BtfError, match=f"^no function {name}$"):
            btf.function(name)


def test_a_structure_is_found_by_its_whole_name_and_first_definition(file: Path) -> None:
    built = Builder()
    number = built.integer()
    built.structure("big_file", [("x", number, 64)])
    built.structure("file_big", [("x", number, 128)])
    built.structure("file", [("x", number, 192)])
    built.structure("both", [("x", number, 0)], UNION)
    btf = written(file, built)
    assert btf.offset("file", "x") == 24
    for name in ("fil", "ile", "both", "x"):
        with pytest.raises(BtfError, match=f"^no struct {name}$"):
            btf.offset(name, "x")


def test_of_structures_with_one_name_the_first_with_the_member_counts(file: Path) -> None:
    """As syscall_tp_t, which two functions of the kernel define for themselves."""
    built = Builder()
    number = built.integer()
    for member, place in (("args", 64), ("ret", 128), ("ret", 192)):
        built.structure("syscall_tp_t", [("nr", number, 0), (member, number, place)])
    btf = written(file, built)
    assert (btf.offset("syscall_tp_t", "args"), btf.offset("syscall_tp_t", "ret")) == (8, 16)
    with pytest.raises(BtfError, match="struct syscall_tp_t has no member none"):
        btf.offset("syscall_tp_t", "none")


def test_no_file(file: Path) -> None:
    with pytest.raises(BtfError, match="vmlinux: No such file or directory"):
        Btf(file)


def test_another_byte_order(file: Path) -> None:
    other = ">" if struct.pack("=H", 1) == b"\x01\x00" else "<"
    built = Builder(other)
    built.integer()
    with pytest.raises(BtfError, match="not BTF in this machine's byte order"):
        written(file, built)


def test_a_kind_that_is_newer_than_this_program(file: Path) -> None:
    built = Builder()
    built.add(20)
    with pytest.raises(BtfError, match="kind 20"):
        written(file, built)


def query(path: Path) -> None:
    """Ask for various members; BtfError is a valid answer, any other exception is not."""
    try:
        btf = Btf(path)
        for structure in ("behind_1", "behind_19", "of_kind_4", ""):
            for member in ("first", "second", "", "none"):
                try:
                    offset = btf.offset(structure, member)
                    assert offset >= 0
                except BtfError:
                    pass
    except BtfError:
        pass


@pytest.mark.once
def test_every_truncation_is_a_btf_error_or_an_answer(file: Path) -> None:
    whole = everything().bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        query(file)


@pytest.mark.once
@pytest.mark.parametrize("value", [0x00, 0x7F, 0xFF])
def test_every_damaged_byte_is_a_btf_error_or_an_answer(value: int, file: Path) -> None:
    whole = everything().bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        query(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_garbage_is_a_btf_error(file: Path, garbage: bytes) -> None:
    file.write_bytes(garbage)
    with pytest.raises(BtfError):
        Btf(file).offset("task_struct", "files")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120))
def test_garbage_behind_a_right_header_is_a_btf_error(file: Path, garbage: bytes) -> None:
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(garbage), 0, len(garbage))
    file.write_bytes(head + garbage)
    with pytest.raises(BtfError):
        Btf(file).offset("task_struct", "files")


@pytest.mark.skipif(not VMLINUX_BTF.exists(), reason="this kernel has no BTF")
def test_this_kernel() -> None:
    btf = Btf()
    pointer = ctypes.sizeof(ctypes.c_void_p)
    assert btf.offset("list_head", "next") == 0
    assert btf.offset("list_head", "prev") == pointer
    assert btf.offset("task_struct", "files") > 0
    assert btf.offset("fdtable", "fd") > 0
