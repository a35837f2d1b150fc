# SPDX-License-Identifier: Apache-2.0
"""Outputs on a full disk: one line that names the file, status 2, and no partial file that looks complete.

And outputs of root in folders of others.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, json_lines

_NO_SPACE = "No space left on device"
_NOT_ALL = f"{_NO_SPACE}: the reports in it are incomplete"
_NOT_WRITTEN = f"{_NO_SPACE}: the reports cannot be written"
_MESSAGES = {"-o": _NOT_ALL, "--report": _NOT_ALL, "--html": _NOT_WRITTEN, "--trace": _NOT_WRITTEN}
_QUIET = ("--all", "-o", "/dev/null")  # leaves standard error to messages
# A separate disk in a mount namespace; its files are copied before it disappears.
_ON_A_DISK = (
    'mount -t tmpfs -o size=$1 none "$2" && shift 3 && "$@"; status=$?; cp -R {0}/. {1}; exit $status'
)


def _run(lab: Lab, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=lab.root, capture_output=True, text=True, check=False, timeout=120)


def _run_on_a_disk(lab: Lab, size: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run trace-popen where lab.folder/small is a disk of that size; return a copy of small/file too."""
    small, kept = lab.folder / "small", lab.folder / "kept"
    small.mkdir()
    kept.mkdir()
    script = _ON_A_DISK.format(small, kept)
    done = _run(
        lab,
        ["unshare", "-m", "sh", "-c", script, "sh", size, str(small), "--", *lab.trace_popen, *arguments],
    )
    return done, kept / "file"


def _many(lab: Lab) -> list[str]:
    """Return a command that prints little and causes many reports."""
    many = " ".join(lab.program("many_popen.py", "--count", "200"))
    return ["/bin/sh", "-c", f"{many} >/dev/null; echo done"]


@pytest.mark.parametrize("option", _MESSAGES)
def test_full_device(lab: Lab, option: str) -> None:
    """The command runs to its end nevertheless."""
    done = _run(lab, [*lab.trace_popen, *_QUIET, option, "/dev/full", "--", *_many(lab)])
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: /dev/full: {_MESSAGES[option]}\n"
    assert "done\n" in done.stdout


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_full_standard_output(lab: Lab, options: list[str]) -> None:
    command = [*lab.trace_popen, *options, "--all", "-o", "-", "--", *_many(lab)]
    done = _run(lab, ["/bin/sh", "-c", 'exec "$@" >/dev/full', "sh", *command[:-1], "true"])
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: <stdout>: {_NOT_ALL}\n"


def test_full_standard_error(lab: Lab) -> None:
    """No line can say it, but the status does."""
    command = [*lab.trace_popen, "--all", "--", "/bin/sh", "-c", "true; echo done"]
    done = _run(lab, ["/bin/sh", "-c", 'exec "$@" 2>/dev/full', "sh", *command])
    assert (done.returncode, done.stdout) == (2, "done\n")


@pytest.mark.parametrize(("option", "size"), [("--report", "64k"), ("--html", "8k"), ("--trace", "64k")])
def test_disk_that_fills_up(lab: Lab, option: str, size: str) -> None:
    path = str(lab.folder / "small" / "file")
    done, file = _run_on_a_disk(lab, size, *_QUIET, option, path, "--", *_many(lab))
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: {path}: {_MESSAGES[option]}\n"
    if option != "--report":
        assert not file.exists()  # a partial page would look complete
        return
    assert file.stat().st_size == 65536
    replayed = _run(lab, [*lab.trace_popen, "--json", "--replay", str(file)])
    assert replayed.returncode == 0
    assert "the last line" in replayed.stderr
    whole = file.read_text().count("\n")
    assert len(json_lines(replayed.stdout)) == whole > 10


@pytest.mark.parametrize("option", ["--html", "--trace"])
def test_replay_to_a_full_disk(lab: Lab, option: str) -> None:
    lab.trace(lab.program("many_popen.py", "--count", "50"))
    path = str(lab.folder / "small" / "file")
    done, file = _run_on_a_disk(lab, "4k", "--replay", str(lab.folder / "reports.json"), option, path)
    assert done.returncode == 2
    assert done.stderr == f"trace-popen: {path}: {_NOT_WRITTEN}\n"
    assert list(file.parent.iterdir()) == []


# -- folders of others --

_STRANGER = 12345


def _outputs(folder: Path) -> list[str]:
    options = {"-o": "text", "--report": "report", "--html": "page", "--trace": "trace"}
    return [word for option, name in options.items() for word in (option, str(folder / name))]


def test_root_in_the_folder_of_another_user(lab: Lab) -> None:
    """The page gets its name at the end, when most capabilities have been dropped."""
    home = lab.folder / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "page").write_text("old")
    for path in (home, home / "page"):
        os.chown(path, _STRANGER, _STRANGER)
    done = _run(lab, [*lab.trace_popen, "--all", *_outputs(home), "--", "true"])
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in home.iterdir()} == {"text", "report", "page", "trace"}
    assert "<html" in (home / "page").read_text()
    owners = {path.name: path.stat().st_uid for path in home.iterdir()}
    assert owners == {"text": 0, "report": 0, "trace": 0, "page": _STRANGER}


@pytest.mark.parametrize("option", ["-o", "--html"])
def test_a_strangers_link_in_a_shared_folder(lab: Lab, option: str) -> None:
    shared, target = lab.folder / "shared", lab.folder / "target"
    shared.mkdir()
    shared.chmod(0o777)  # where it is sticky, the kernel may refuse the link itself: fs.protected_symlinks
    target.write_text("precious")
    (shared / "out").symlink_to(target)
    os.chown(shared / "out", _STRANGER, _STRANGER, follow_symlinks=False)
    done = _run(lab, [*lab.trace_popen, option, str(shared / "out"), "--replay", "/dev/null"])
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"trace-popen: {shared}/out: not followed") and f"uid {_STRANGER}" in line
    assert target.read_text() == "precious"


def test_no_files_if_tracing_cannot_start(lab: Lab) -> None:
    """Nor is one that was there before replaced."""
    there = lab.folder / "there"
    there.mkdir()
    (there / "report").write_text("old")
    without = "-bpf,-perfmon,-sys_admin"
    command = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}", *lab.trace_popen]
    done = _run(lab, [*command, *_outputs(there), "--", "true"])
    assert done.returncode == 2
    assert [path.name for path in there.iterdir()] == ["report"]
    assert (there / "report").read_text() == "old"


def test_files_that_are_mount_points(lab: Lab) -> None:
    """As with docker run --volume FILE:FILE: they cannot be replaced."""
    inside, outside = lab.folder / "inside", lab.folder / "outside"
    names = ("text", "report", "page", "trace")
    for folder in (inside, outside):
        folder.mkdir()
        for name in names:
            (folder / name).write_text("old")
    mounts = " && ".join(f"mount --bind {outside / name} {inside / name}" for name in names)
    command = ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh", *lab.trace_popen, "--all"]
    done = _run(lab, [*command, *_outputs(inside), "--", "true"])
    assert (done.returncode, done.stderr) == (0, "")
    assert {(inside / name).read_text() for name in names} == {"old"}
    assert all("old" not in (outside / name).read_text()[:3] for name in names)
    assert "<html" in (outside / "page").read_text()


def test_a_running_trace_can_be_followed(lab: Lab) -> None:
    path = lab.folder / "out"
    code = (
        "import subprocess, sys, time\n"
        "for _ in range(100):\n"
        "    subprocess.run(['true'])\n"
        "    if 'spawn' in open(sys.argv[1]).read(): sys.exit(print('seen'))\n"
        "    time.sleep(0.1)\n"
    )
    command = [PYTHON, "-c", code, str(path)]
    done = _run(lab, [*lab.trace_popen, "--all", "--json", "-o", str(path), "--", *command])
    assert done.stdout == "seen\n"
