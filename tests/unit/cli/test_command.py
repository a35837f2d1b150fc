# SPDX-License-Identifier: Apache-2.0
"""agent.cli.command, with real commands."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent.cli.command import Command, CommandError


def run(*arguments: str) -> int:
    """Release a command, wait for it and return its exit status."""
    with Command(arguments) as command:
        command.release()
        return command.wait(terminate=False)


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the fd of the listing itself, closed by now


def shell(script: str) -> int:
    return run("sh", "-c", script)


@pytest.mark.parametrize("status", [0, 1, 3, 126, 255])
def test_exit_status_is_passed_on(status: int) -> None:
    assert shell(f"exit {status}") == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_killed_command_has_the_status_that_a_shell_reports(number: signal.Signals) -> None:
    assert shell(f"ulimit -c 0; kill -{int(number)} $$") == 128 + number


def test_arguments_are_passed_unchanged(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("printf", "%s|", "a b", "", "*", "--", "--pid", "grün") == 0
    assert capfd.readouterr().out == "a b||*|--|--pid|grün|"


def test_variables_are_those_of_the_command_only(capfd: pytest.CaptureFixture[str]) -> None:
    with Command(["sh", "-c", "echo $TRACED"], variables={"TRACED": "yes"}) as command:
        command.release()
        assert command.wait(terminate=False) == 0
    assert capfd.readouterr().out == "yes\n"
    assert "TRACED" not in os.environ


def test_command_keeps_the_pid_of_the_fork(capfd: pytest.CaptureFixture[str]) -> None:
    with Command(["sh", "-c", "echo $$"]) as command:
        command.release()
        assert command.wait(terminate=False) == 0
    assert int(capfd.readouterr().out) == command.pid


def test_command_has_the_default_sigpipe_handler() -> None:
    assert shell("kill -PIPE $$; exit 0") == 128 + signal.SIGPIPE


def test_command_inherits_none_of_our_fds(capfd: pytest.CaptureFixture[str]) -> None:
    open_fds = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    inheritable = {fd for fd in open_fds if is_inheritable(fd)}
    assert run("ls", "/proc/self/fd") == 0
    inherited = {int(fd) for fd in capfd.readouterr().out.split()}
    assert len(inherited - inheritable) == 1  # the one with which ls reads the folder


def test_command_does_not_run_before_its_release(tmp_path: Path) -> None:
    file = tmp_path / "ran"
    with Command(["touch", str(file)]) as command:
        time.sleep(0.1)
        assert not file.exists()
        assert not command.poll()
        command.release()
        assert command.wait(terminate=False) == 0
    assert file.exists()


def test_command_that_is_never_released_never_runs(tmp_path: Path) -> None:
    file = tmp_path / "ran"
    with Command(["touch", str(file)]) as command:
        pass
    assert not file.exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(command.pid, 0)  # it has been reaped


def test_error_before_the_release_ends_the_command(tmp_path: Path) -> None:
    file = tmp_path / "ran"
    with pytest.raises(KeyError), Command(["touch", str(file)]) as command:
        raise KeyError
    assert not file.exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(command.pid, 0)


def test_poll_reports_the_exit() -> None:
    with Command(["sleep", "60"]) as command:
        command.release()
        assert not command.poll()
        command.terminate()
        deadline = time.monotonic() + 10
        while not command.poll() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert command.poll()  # still true after it has been reaped
        assert command.wait(terminate=False) == 128 + signal.SIGTERM


def test_wait_can_terminate_the_command() -> None:
    with Command(["sleep", "60"]) as command:
        command.release()
        assert command.wait(terminate=True) == 128 + signal.SIGTERM
        assert command.wait(terminate=True) == 128 + signal.SIGTERM


def test_terminating_an_exited_command_is_no_error() -> None:
    with Command(["true"]) as command:
        command.release()
        assert command.wait(terminate=False) == 0
        command.terminate()


def test_missing_program_is_an_error() -> None:
    with pytest.raises(CommandError) as caught:
        Command(["no-such-program-anywhere", "x"])
    assert "no-such-program-anywhere: " in str(caught.value)
    assert caught.value.status == 127


def test_file_without_execute_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data"
    file.write_text("x")
    with pytest.raises(CommandError, match=rf"{file}: .*permission") as caught:
        Command([str(file)])
    assert caught.value.status == 126
    monkeypatch.setenv("PATH", f"/no/such/folder:{tmp_path}")
    with pytest.raises(CommandError, match=r"data: .*permission") as caught:
        Command(["data"])
    assert caught.value.status == 126


def test_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(CommandError, match="folder") as caught:
        Command([str(tmp_path / "name")])
    assert caught.value.status == 126
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="no such program") as caught:  # a shell ignores folders in PATH
        Command(["name"])
    assert caught.value.status == 127


def test_script_without_its_interpreter(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "script"
    file.write_text("#!/no/such/interpreter\n")
    file.chmod(0o755)
    assert run(str(file)) == 127
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"trace-popen: {file}: ")


def test_file_of_unknown_format_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "program"
    file.write_bytes(b"\x00\x01garbage")
    file.chmod(0o755)
    assert run(str(file)) == 126
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"trace-popen: {file}: ")
