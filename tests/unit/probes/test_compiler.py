# SPDX-License-Identifier: Apache-2.0
"""probes.compiler: what it does without bcc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes import compiler


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder with packages."""
    real = sys.modules.pop("bcc", None)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    yield tmp_path
    sys.modules.pop("bcc", None)
    if real is not None:
        sys.modules["bcc"] = real


def install(packages: Path, text: str, *more: str) -> None:
    """Make a package bcc with these files beside its __init__.py."""
    folder = packages / "bcc"
    folder.mkdir()
    (folder / "__init__.py").write_text(text)
    for name in more:
        (folder / name).touch()


def why_no_bcc() -> str:
    with pytest.raises(compiler.NoBccError) as caught:
        compiler.import_bcc()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_bcc(packages: Path) -> None:
    assert "python3-bpfcc" in why_no_bcc()


@pytest.mark.parametrize("text", ["", "import not_installed_either", "print 'Python 2'"])
def test_another_project_named_bcc(text: str, packages: Path) -> None:
    """Whether or not it can be imported."""
    install(packages, text, "bcc.py")
    said = why_no_bcc()
    assert "another project named bcc" in said and "pip uninstall bcc" in said
    assert f"{packages}/bcc/__init__.py" in said


def test_a_module_named_bcc(packages: Path) -> None:
    (packages / "bcc.py").touch()
    assert "another project named bcc" in why_no_bcc()


def test_bcc_for_another_python(packages: Path) -> None:
    install(packages, "raise AttributeError('MutableMapping')", "libbcc.py")
    said = why_no_bcc()
    assert "cannot be imported (MutableMapping)" in said and "python3-bcc" in said


@pytest.mark.parametrize("version", ["0.18.0", "0.25.0+ds", "v0.9"])
def test_an_old_bcc(version: str, packages: Path) -> None:
    install(packages, f"__version__ = '{version}'", "libbcc.py")
    said = why_no_bcc()
    assert version in said and "0.26" in said and "upgrade" in said


@pytest.mark.parametrize("version", ["0.26.0", "0.35.0+ds-1", "v0.100", "1.0", "@REVISION@"])
def test_a_bcc_that_is_new_enough(version: str, packages: Path) -> None:
    install(packages, f"__version__ = '{version}'", "libbcc.py")
    assert compiler.import_bcc().__version__ == version


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
        assert said() == "error: no \ufffd such thing\nsecond line"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_nothing_on_standard_error(tmp_path: Path) -> None:
    with compiler._captured_stderr(tmp_path / "stderr") as said:
        assert said() == ""


@pytest.mark.parametrize("before", ["", "a.c:1:1: warning: unused\n  int a;\n"])
def test_the_reason_is_the_first_error(before: str) -> None:
    said = compiler._reason(f"{before}a.c:2:1: error: this\na.c:3:1: error: that\n2 errors generated.")
    assert said.startswith(" (a.c:2:1: error: this);")
    assert "--debug" in said


def test_output_without_an_error() -> None:
    assert compiler._reason("") == ""
    assert compiler._reason(f"LLVM ERROR: {'x' * 999}\nmore").startswith(f" (LLVM ERROR: {'x' * 188});")


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
