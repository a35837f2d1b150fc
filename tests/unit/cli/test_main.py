# SPDX-License-Identifier: Apache-2.0
"""agent.cli.main: everything that needs no root."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import __version__
from agent.cli.arguments import trace_parser
from agent.cli.main import main

NO_PID = str(2**22 + 1)
"""Above the kernel's limit, which is 2^22."""


@dataclass
class Done:
    """What main() did."""

    status: object
    out: str
    err: str


def run_main(*arguments: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main(arguments)
    return Done(caught.value.code, out.getvalue(), err.getvalue())


def usage_error(*arguments: str) -> str:
    """Run trace-popen with arguments that it must reject; return its standard error."""
    done = run_main(*arguments)
    assert (done.status, done.out) == (2, "")
    return done.err


# -- usage errors: one line, status 2 --


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--pid", NO_PID], [NO_PID]),
        (["--pid", "9" * 30], ["9" * 30]),
        (["--pid", "1", "--", "true"], ["--pid", "COMMAND"]),
        (["--replay", "x", "--pid", "1"], ["--replay", "--pid"]),
        (["--snapshot"], ["--snapshot", "--pid"]),
        (["--max-stall-ms", "5", "--", "true"], ["--max-stall-ms", "--fail-on-stall"]),
        (["-u", "root"], ["-u", "COMMAND", "--user"]),
        (["-u", "no-such-user-here", "--", "true"], ["-u", "'no-such-user-here'"]),
        (["-u", "9" * 30, "--", "true"], ["-u", "9" * 30]),
        (["--container", "no-such-id", "--", "true"], ["--container", "'no-such-id'"]),
        (["--exit-code", "5", "--", "true"], ["--exit-code", "--fail-on-stall"]),
        (["--steps", "--json"], ["--steps", "--json"]),
        (
            ["--user", "no-such-user-here", "--", "true"],
            ["--user", "'no-such-user-here'", "trace-popen --help"],
        ),
        (["--report", "/no/such/out", "--", "true"], ["/no/such/out: No such file or directory"]),
        (["--"], ["COMMAND", "'--'"]),
        (["--json", "--"], ["COMMAND", "'--'"]),
        (["-o", "/no/such/folder/out", "--", "true"], ["/no/such/folder/out: No such file or directory"]),
        (["-o", "/", "--pid", "1"], ["/: Is a directory"]),
        (["agent", "--config", "/no/such/file"], ["/no/such/file: No such file or directory"]),
        (["agent", "--config", "/no/such/file", "--check"], ["/no/such/file: No such file or directory"]),
    ],
)
def test_usage_error_is_one_line_that_names_the_cause(arguments: list[str], named: list[str]) -> None:
    [line] = usage_error(*arguments).splitlines()
    assert line.startswith("trace-popen: ")
    assert all(name in line for name in named)


def test_only_root_can_run_a_command_as_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    [line] = usage_error("-u", "root", "--", "true").splitlines()
    assert "-u" in line and "sudo" in line


def test_no_file_is_left_or_changed_if_tracing_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "--html").write_text("the page of an earlier run")
    options = ["-o", "--report", "--html", "--trace", "--junit"]
    files = [word for option in options for word in (option, str(tmp_path / option))]
    [line] = usage_error(*files, "--", "true").splitlines()
    assert line.startswith("trace-popen: ")
    [page] = tmp_path.iterdir()
    assert (page.name, page.read_text()) == ("--html", "the page of an earlier run")


def test_pid_of_a_thread_is_rejected() -> None:
    """A thread ID is not a process ID, although /proc has a folder for it."""
    code = "import threading; print(threading.get_native_id(), flush=True); input()"
    program = f"import threading; t = threading.Thread(target=lambda: exec({code!r})); t.start(); t.join()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        thread = process.stdout.readline().strip()
        assert int(thread) != process.pid
        [line] = usage_error("--pid", thread).splitlines()
        assert thread in line
        process.communicate("\n")


# -- errors of the argument parser --


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pid", "abc"], "'abc' is not a process ID"),
        (["--pid", "0"], "'0' is not a process ID"),
        (["--pid", "-1"], "'-1' is not a process ID"),
        (["--pid", "1.5"], "'1.5' is not a process ID"),
        (["--pid", ""], "'' is not a process ID"),
        (["--pid", "1,x"], "'x' is not a process ID"),
        (["--pid", "1,,2"], "'' is not a process ID"),
        (["--duration", "5d"], "'5d' is not a duration (examples: 30, 30s, 5m)"),
        (["--duration", "s"], "'s' is not a duration (examples: 30, 30s, 5m)"),
        (["--duration", "1e10"], "'1e10' is too large"),
        (["--pid"], "expected one argument"),
        (["--duration", "nan"], "'nan' is not a duration (examples: 30, 30s, 5m)"),
        (["--duration", "inf"], "'inf' is not a duration (examples: 30, 30s, 5m)"),
        (["--duration", "0"], "'0' is not a duration (examples: 30, 30s, 5m)"),
        (["--min-ms", "-5"], "'-5' is not a positive number of milliseconds"),
        (["--min-ms", "ten"], "'ten' is not a positive number of milliseconds"),
        *(
            (["--exit-code", wrong], f"'{wrong}' is not an exit status from 1 to 255")
            for wrong in ("0", "256", "-1", "x", "1" * 5000)
        ),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (
            ["--dur", "5"],
            "unrecognized arguments: --dur 5",
        ),  # no abbreviations, they would become a contract
        (["true"], "unrecognized arguments: true"),
        (["agent", "--bogus"], "unrecognized arguments: --bogus"),
        (["agent", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_invalid_argument_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("trace-popen: ")
    assert f"{message} (see trace-popen" in line


def test_invalid_argument_of_the_real_program(repo_root: Path) -> None:
    command = [sys.executable, "-m", "agent", "--pid", "abc"]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "'abc'" in line


# -- agent --check --


def test_check_accepts_the_defaults() -> None:
    assert run_main("agent", "--check") == Done(0, "built-in defaults: OK\n", "")


def test_check_accepts_a_valid_file(repo_root: Path) -> None:
    path = repo_root / "config" / "agent.yaml"
    assert run_main("agent", "--config", str(path), "--check") == Done(0, f"{path}: OK\n", "")


def test_check_rejects_an_invalid_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("stalls:\n  min_msec: 5\n")
    [line] = usage_error("agent", "--config", str(path), "--check").splitlines()
    assert line.startswith(f"trace-popen: {path}: stalls.min_msec: ")
    assert "'min_ms'" in line


def test_start_rejects_an_invalid_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("labels: {limit: 0}\nlog: {level: loud}\n")
    lines = usage_error("agent", "--config", str(path)).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"trace-popen: {path}: ") for line in lines)


@pytest.fixture
def process_state() -> Iterator[None]:
    """Restore what the start of the agent changes in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("process_state")
@pytest.mark.parametrize("check", [("--check",), ()])
def test_check_and_start_reject_an_invalid_web_configuration(check: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("web: {config_file: web.yml, listen: '127.0.0.1:0'}\n")
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: gone.crt, key_file: gone.key}\n")
    [line] = usage_error("agent", "--config", str(path), *check).splitlines()
    assert line.startswith(f"trace-popen: {web}: tls_server_config.cert_file: ")
    assert str(tmp_path / "gone.crt") in line


# -- help --


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"trace-popen {__version__}\n"


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for action in trace_parser()._actions:
        assert all(word in out for word in action.option_strings)
    for word in ("COMMAND", "agent"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80


def test_options_of_the_command_are_not_parsed() -> None:
    """Everything after the first '--' belongs to the command, including another '--'."""
    done = run_main("--", "no-such-program", "--version", "--", "--pid")
    assert (done.status, done.out) == (127, "")
    [line] = done.err.splitlines()
    assert line.startswith("trace-popen: no-such-program: ")


# -- closed output --


def test_closed_output_gives_the_status_of_a_sigpipe() -> None:
    """As in trace-popen --help | head -0; there is no traceback."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = (
        "import sys, agent.cli.main as cli\n"
        "def burst(arguments): print('x' * 100000, flush=True)\n"
        "cli._trace = burst\n"
        "cli.main([])\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[3],
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")
