"""agent.cli.main: what is answered before anything needs root."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import __version__
from agent.cli.arguments import trace_parser
from agent.cli.main import main

NO_PID = str(2**22 + 1)
"""The kernel's own limit is 2^22."""


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


def refusal(*arguments: str) -> str:
    """The message on standard error for arguments that the user must correct."""
    done = run_main(*arguments)
    assert (done.status, done.out) == (2, "")
    return done.err


# -- one line, status 2 --


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pid", NO_PID], f"there is no process with pid {NO_PID}"),
        (["--pid", "9" * 30], f"there is no process with pid {'9' * 30}"),
        (["--pid", "1", "--", "true"], "--pid and a COMMAND cannot be traced at once: leave one out"),
        (["--snapshot"], "--snapshot needs --pid PID"),
        (["--max-stall-ms", "5", "--", "true"], "--max-stall-ms needs --fail-on-stall"),
        (
            ["--steps", "--json"],
            "--steps is a table, and --json has the steps as they are: leave one out",
        ),
        (
            ["--user", "no-such-user-here", "--", "true"],
            "argument --user: there is no user 'no-such-user-here' (see trace-popen --help)",
        ),
        (["--report", "/no/such/out", "--", "true"], "/no/such/out: No such file or directory"),
        (["--"], "a COMMAND is expected after '--'"),
        (["--json", "--"], "a COMMAND is expected after '--'"),
        (["--", "no-such-program-anywhere"], "no-such-program-anywhere: no such program"),
        (["-o", "/no/such/folder/out", "--", "true"], "/no/such/folder/out: No such file or directory"),
        (["-o", "/", "--pid", "1"], "/: Is a directory"),
        (["agent", "--config", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["agent", "--config", "/no/such/file", "--check"], "/no/such/file: No such file or directory"),
    ],
)
def test_what_the_user_can_mend_is_one_line(arguments: list[str], said: str) -> None:
    assert refusal(*arguments) == f"trace-popen: {said}\n"


def test_a_thread_is_no_process() -> None:
    """Its id is not a pid, although /proc answers to it."""
    code = "import threading; print(threading.get_native_id(), flush=True); input()"
    program = f"import threading; t = threading.Thread(target=lambda: exec({code!r})); t.start(); t.join()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        thread = process.stdout.readline().strip()
        assert int(thread) != process.pid
        assert refusal("--pid", thread) == f"trace-popen: there is no process with pid {thread}\n"
        process.communicate("\n")


# -- argparse's --


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pid", "abc"], "'abc' is no pid"),
        (["--pid", "0"], "'0' is no pid"),
        (["--pid", "-1"], "'-1' is no pid"),
        (["--pid", "1.5"], "'1.5' is no pid"),
        (["--pid", ""], "'' is no pid"),
        (["--pid", "1,x"], "'x' is no pid"),
        (["--pid", "1,,2"], "'' is no pid"),
        (["--duration", "5d"], "'5d' is no number above 0"),
        (["--duration", "s"], "'s' is no number above 0"),
        (["--duration", "1e10"], "'1e10' is too large"),
        (["--pid"], "expected one argument"),
        (["--duration", "nan"], "'nan' is no number above 0"),
        (["--duration", "inf"], "'inf' is no number above 0"),
        (["--duration", "0"], "'0' is no number above 0"),
        (["--min-ms", "-5"], "'-5' is no number above 0"),
        (["--min-ms", "ten"], "'ten' is no number above 0"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--dur", "5"], "unrecognized arguments: --dur 5"),  # no abbreviations: they would become contract
        (["true"], "unrecognized arguments: true"),
        (["agent", "--bogus"], "unrecognized arguments: --bogus"),
        (["agent", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_bad_arguments(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("trace-popen: ")
    assert f"{said} (see trace-popen" in line


def test_bad_arguments_of_the_real_program(repo_root: Path) -> None:
    command = [sys.executable, "-m", "agent", "--pid", "abc"]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "'abc'" in line


# -- agent --check --


def test_check_of_nothing() -> None:
    assert run_main("agent", "--check") == Done(0, "built-in defaults: OK\n", "")


def test_check_of_a_good_file(repo_root: Path) -> None:
    path = repo_root / "config" / "agent.yaml"
    assert run_main("agent", "--config", str(path), "--check") == Done(0, f"{path}: OK\n", "")


def test_check_of_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("stalls:\n  min_msec: 5\n")
    said = refusal("agent", "--config", str(path), "--check")
    assert said == f"trace-popen: {path}: stalls.min_msec: unknown key; did you mean 'min_ms'?\n"


def test_a_bad_file_is_refused_without_check_too(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("labels: {limit: 0}\nlog: {level: loud}\n")
    lines = refusal("agent", "--config", str(path)).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"trace-popen: {path}: ") for line in lines)


@pytest.mark.parametrize("check", [("--check",), ()])
def test_a_bad_web_configuration_is_refused_at_the_check_and_at_the_start(
    check: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("web: {config_file: web.yml, listen: '127.0.0.1:0'}\n")
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: gone.crt, key_file: gone.key}\n")
    said = refusal("agent", "--config", str(path), *check)
    missing = tmp_path / "gone.crt"
    assert said == (
        f"trace-popen: {web}: tls_server_config.cert_file: {missing}: No such file or directory\n"
    )


# -- help --


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_an_option_of_the_command_is_not_ours(tmp_path: Path) -> None:
    """What follows '--' belongs to the command, another '--' too."""
    assert refusal("--", "no-such-program", "--version", "--", "--pid") == (
        "trace-popen: no-such-program: no such program\n"
    )


# -- a reader that goes away --


def test_a_reader_that_has_had_enough() -> None:
    """As in trace-popen --help | head -0: no traceback, the status of a SIGPIPE."""
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
