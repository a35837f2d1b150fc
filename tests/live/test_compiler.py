# SPDX-License-Identifier: Apache-2.0
"""Compiling with bcc: what it reads of tracefs, wherever that is, and what is said if it fails."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from probes import loader
from tests import unpackedpython
from tests.live.lab import Lab

_TRACING, _DEBUG = "/sys/kernel/tracing", "/sys/kernel/debug"
_NEITHER = f"umount -l {_DEBUG} 2>/dev/null; umount -l {_TRACING} 2>/dev/null; "


@pytest.mark.parametrize(
    "mount",
    [f"mount -t tracefs tracefs {_TRACING}", f"mount -t debugfs debugfs {_DEBUG}"],
    ids=["tracefs", "debugfs"],
)
def test_one_of_tracefs_and_debugfs_is_enough(mount: str, lab: Lab) -> None:
    script = f'{_NEITHER} set -e; {mount}; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *lab.trace_popen, "--debug", "--duration", "0.1"],
        cwd=lab.root,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "CACHE_DIRECTORY": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "the probes were compiled" in done.stderr


def test_without_both_one_line_says_what_to_do(lab: Lab) -> None:
    command = ["unshare", "-m", "sh", "-c", f'{_NEITHER} exec "$@"', "sh", *lab.trace_popen]
    done = subprocess.run(command, cwd=lab.root, capture_output=True, text=True, timeout=60)
    [line] = done.stderr.splitlines()
    assert done.returncode == 2
    assert f"mount -t tracefs tracefs {_TRACING}" in line


def test_an_error_of_the_compiler_is_one_line_and_the_rest_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = tmp_path / "wrong.bpf.c"
    wrong.write_text(
        "#warning a warning comes first\nint one(void) { return missing; }\n#error another one\n"
    )
    monkeypatch.setattr(loader, "_SOURCES", (*loader._SOURCES, wrong))
    caplog.set_level(logging.DEBUG, "probes")
    with pytest.raises(loader.LoadError) as caught:
        loader.Probes(loader.Options(), lambda record: None)
    said = str(caught.value)
    assert "\n" not in said
    assert f"{wrong}:2" in said and "error: use of undeclared identifier" in said
    assert "--debug" in said and "log.level: debug" in said
    logged = "\n".join(record.getMessage() for record in caplog.records if record.levelname == "DEBUG")
    for expected in (
        "a warning comes first",
        "identifier 'missing'",
        "error: another one",
        "errors generated",
    ):
        assert expected in logged


@pytest.mark.parametrize(
    "options",
    [loader.Options(), loader.Options(threshold_ns=1, only_targets=True, every=True, stacks=True)],
    ids=["host", "command"],
)
def test_the_kernel_accepts_what_a_newer_compiler_makes(
    options: loader.Options, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 13's clang optimizes in other ways, and the verifier understands only some."""
    monkeypatch.setattr(sys, "executable", str(unpackedpython.with_bcc(repo_root / ".cache", "trixie")))
    monkeypatch.setenv("CACHE_DIRECTORY", "")
    with loader.Probes(options, lambda record: None) as probes:
        assert probes.bcc_version.startswith("0.31")
        # Otherwise the kernel has refused them, and those without its types are loaded.
        assert probes.sees_fd_tables or not Path("/sys/kernel/btf/vmlinux").exists()
