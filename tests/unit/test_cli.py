"""agent.cli: what is answered before anything needs root."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import __version__
from agent.cli import _Printer, main
from agent.model import Outcome
from tests.unit.samples import UNSEEN, holder, spawn, stall

NO_PID = str(2**22 + 1)
"""The kernel's own limit is 2^22."""


def trace_popen(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def refusal(*arguments: str) -> str:
    """What is said on standard error, of arguments that the user must mend; the message is one line."""
    done = trace_popen(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


# -- one line, status 2 --


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pid", NO_PID], f"there is no process with pid {NO_PID}"),
        (["--pid", "9" * 30], f"there is no process with pid {'9' * 30}"),
        (["--pid", "1", "--", "true"], "--pid and a COMMAND cannot be traced at once: leave one out"),
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


def test_bad_arguments_of_the_real_program() -> None:
    [line] = refusal("--pid", "abc").splitlines()
    assert "'abc' is no pid" in line


# -- agent --check --


def test_check_of_nothing() -> None:
    done = trace_popen("agent", "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "built-in defaults: OK\n", "")


def test_check_of_a_good_file(repo_root: Path) -> None:
    path = repo_root / "config" / "agent.yaml"
    done = trace_popen("agent", "--config", str(path), "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: OK\n", "")


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
    for word in (
        "--pid",
        "--duration",
        "--min-ms",
        "--all",
        "--json",
        "-o FILE",
        "--debug",
        "COMMAND",
        "agent",
    ):
        assert word in out


def test_an_option_of_the_command_is_not_ours(tmp_path: Path) -> None:
    """What follows '--' belongs to the command, another '--' too."""
    assert refusal("--", "no-such-program", "--version", "--", "--pid") == (
        "trace-popen: no-such-program: no such program\n"
    )


# -- what is written --


def printed(as_json: bool, every: bool) -> list[str]:
    output = io.StringIO()
    printer = _Printer(output, as_json, every)
    printer.stall(stall(ended=None))
    printer.stall(stall(holder(comm=b"\x1b[31m\n")))
    printer.stall(stall(UNSEEN))
    printer.spawn(spawn())
    printer.spawn(spawn(outcome=Outcome.EXEC_FAILED))
    printer.end(lost_records=3)
    return output.getvalue().splitlines()


def test_json_is_one_object_a_line() -> None:
    objects = [json.loads(line) for line in printed(as_json=True, every=True)]
    assert [(each["type"], each.get("state")) for each in objects] == [
        ("stall", "ongoing"),
        ("stall", "ended"),
        ("stall", "ended"),
        ("spawn", "ended"),
        ("spawn", "ended"),
        ("summary", None),
    ]
    assert objects[1]["holders"][0]["comm"] == r"\x1b[31m\n"
    assert {key: objects[-1][key] for key in ("spawns", "stalls", "exec_failures", "lost_records")} == {
        "spawns": 2,
        "stalls": 2,
        "exec_failures": 1,
        "lost_records": 3,
    }


def test_without_all_only_stalls_are_shown_and_all_spawns_counted() -> None:
    objects = [json.loads(line) for line in printed(as_json=True, every=False)]
    assert [each["type"] for each in objects] == ["stall", "stall", "stall", "summary"]
    assert objects[-1]["spawns"] == 2


def test_text_for_people() -> None:
    lines = printed(as_json=False, every=True)
    assert sum(line.startswith("STALL") for line in lines) == 3
    assert sum("->" in line for line in lines) == 2
    assert any(line.endswith("2 spawns, 2 stalls, 1 failed exec, 3 lost records") for line in lines)
    assert all(line.isprintable() for line in lines)
    assert "" not in lines


def test_a_long_line_is_not_broken() -> None:
    lines = printed(as_json=False, every=True)
    assert max(len(line) for line in lines) > 80


@pytest.mark.parametrize("as_json", [True, False])
def test_each_report_is_flushed(as_json: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w") as output:
        printer = _Printer(output, as_json, every=True)
        printer.stall(stall())
        first = path.stat().st_size
        assert first > 0
        printer.spawn(spawn())
        assert path.stat().st_size > first


def test_a_reader_that_has_had_enough() -> None:
    """As in trace-popen --help | head -0: no traceback, the status of a SIGPIPE."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = (
        "import sys, agent.cli\n"
        "def burst(arguments): print('x' * 100000, flush=True)\n"
        "agent.cli._trace = burst\n"
        "agent.cli.main([])\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")
