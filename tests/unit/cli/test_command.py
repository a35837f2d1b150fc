"""agent.cli.command: real commands."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent.cli.command import Command, CommandError


def run(*arguments: str) -> int:
    """Releases a command and waits for it."""
    with Command(arguments) as command:
        command.release()
        return command.wait(terminate=False)


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the folder was open while it was listed


def shell(script: str) -> int:
    return run("sh", "-c", script)


@pytest.mark.parametrize("status", [0, 1, 3, 126, 255])
def test_exit_status(status: int) -> None:
    assert shell(f"exit {status}") == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_status_of_a_killed_command_is_as_a_shells(number: signal.Signals) -> None:
    assert shell(f"ulimit -c 0; kill -{int(number)} $$") == 128 + number


def test_arguments_reach_the_command_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("printf", "%s|", "a b", "", "*", "--", "--pid", "grün") == 0
    assert capfd.readouterr().out == "a b||*|--|--pid|grün|"


def test_the_command_has_the_pid_that_was_told(capfd: pytest.CaptureFixture[str]) -> None:
    with Command(["sh", "-c", "echo $$"]) as command:
        command.release()
        assert command.wait(terminate=False) == 0
    assert int(capfd.readouterr().out) == command.pid


def test_sigpipe_ends_the_command_as_it_would_without_us() -> None:
    assert shell("kill -PIPE $$; exit 0") == 128 + signal.SIGPIPE


def test_no_fd_of_ours_is_inherited(capfd: pytest.CaptureFixture[str]) -> None:
    ours = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    handed_on = {fd for fd in ours if is_inheritable(fd)}
    assert run("ls", "/proc/self/fd") == 0
    theirs = {int(fd) for fd in capfd.readouterr().out.split()}
    assert len(theirs - handed_on) == 1  # ls opens the folder itself


def test_nothing_runs_before_the_release(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    with Command(["touch", str(trace)]) as command:
        time.sleep(0.1)
        assert not trace.exists()
        assert not command.poll()
        command.release()
        assert command.wait(terminate=False) == 0
    assert trace.exists()


def test_a_command_that_is_never_released_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    with Command(["touch", str(trace)]) as command:
        pass
    assert not trace.exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(command.pid, 0)  # it was reaped


def test_an_error_before_the_release_ends_it_too(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    with pytest.raises(KeyError), Command(["touch", str(trace)]) as command:
        raise KeyError
    assert not trace.exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(command.pid, 0)


def test_poll() -> None:
    with Command(["sleep", "60"]) as command:
        command.release()
        assert not command.poll()
        command.terminate()
        deadline = time.monotonic() + 10
        while not command.poll() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert command.poll()  # and again, when it is reaped
        assert command.wait(terminate=False) == 128 + signal.SIGTERM


def test_wait_can_terminate() -> None:
    with Command(["sleep", "60"]) as command:
        command.release()
        assert command.wait(terminate=True) == 128 + signal.SIGTERM
        assert command.wait(terminate=True) == 128 + signal.SIGTERM


def test_to_terminate_what_has_ended_is_no_error() -> None:
    with Command(["true"]) as command:
        command.release()
        assert command.wait(terminate=False) == 0
        command.terminate()


def test_no_such_program() -> None:
    with pytest.raises(CommandError) as caught:
        Command(["no-such-program-anywhere", "x"])
    assert str(caught.value) == "no-such-program-anywhere: no such program"


def test_a_file_that_is_not_executable(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("x")
    with pytest.raises(CommandError, match="no such program"):
        Command([str(file)])


def test_a_file_that_no_kernel_can_execute(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "program"
    file.write_bytes(b"\x00\x01garbage")
    file.chmod(0o755)
    assert run(str(file)) == 126
    assert capfd.readouterr().err == f"trace-popen: {file}: Exec format error\n"
