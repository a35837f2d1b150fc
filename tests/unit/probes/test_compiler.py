# SPDX-License-Identifier: Apache-2.0
"""probes.compiler: what it does without bcc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from probes import compiler


def test_no_bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(compiler.NoBccError, match="python3-bpfcc"):
        compiler.import_bcc()


def test_the_wrong_bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", ModuleType("bcc"))
    with pytest.raises(compiler.NoBccError, match="pip uninstall bcc"):
        compiler.import_bcc()


def test_the_right_bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    bcc = ModuleType("bcc")
    bcc.BPF = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bcc", bcc)
    assert compiler.import_bcc() is bcc


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-27-amd64", (6, 1, 0)),
        ("5.14.0-362.8.1.el9_3.x86_64", (5, 14, 0)),
        ("3.10.0-957.el7.x86_64", (3, 10, 0)),
        ("4.9.337", (4, 9, 255)),  # like the kernel since 4.9.256: a patch level has one byte
        ("5.10.224-212.876.amzn2.x86_64", (5, 10, 224)),
        ("7.0", (7, 0, 0)),
        ("7", (7, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_version_header(release: str, version: tuple[int, int, int]) -> None:
    major, minor, patch = version
    code, macro = compiler.version_header(release).splitlines()
    assert code == f"#define LINUX_VERSION_CODE {major * 65536 + minor * 256 + patch}"
    assert macro == "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))"


def test_standard_error_is_captured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with compiler._captured_stderr(tmp_path / "stderr") as said:
        os.write(2, b"error: no \xff such thing\nsecond line\n")
        assert said() == " (error: no \ufffd such thing)"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_nothing_on_standard_error(tmp_path: Path) -> None:
    with compiler._captured_stderr(tmp_path / "stderr") as said:
        assert said() == ""


def test_sources_are_joined(tmp_path: Path) -> None:
    first, second = tmp_path / "first.c", tmp_path / 'sec"ond.c'
    first.write_bytes(b"int a; /* \xc3\xa9 */")  # without an end of line
    second.write_text("int b;\n")
    assert compiler.joined([str(first), str(second)]).splitlines() == [
        f'#line 1 "{first}"'.encode(),
        b"int a; /* \xc3\xa9 */",
        f'#line 1 "{tmp_path}/sec\\"ond.c"'.encode(),
        b"int b;",
        b"",
    ]


def test_sources_that_are_joined_compile(tmp_path: Path) -> None:
    """Warnings of the preprocessor name the line of the original file."""
    first, second = tmp_path / "first.c", tmp_path / "second.c"
    first.write_text("#define A 1")
    second.write_text("#if A\n#warning found\n#endif\n")
    done = subprocess.run(
        ["cpp", "-"], input=compiler.joined([str(first), str(second)]), capture_output=True, check=True
    )
    assert f"{second}:2:2: warning: #warning found" in done.stderr.decode()
