# SPDX-License-Identifier: Apache-2.0
"""trace-popen on a terminal and in scripts: targets, ends, and usage errors."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent import __version__
from tests.live.lab import PYTHON, Lab, json_line, json_lines


def _start(lab: Lab, *options: str) -> subprocess.Popen[str]:
    """Start trace-popen; return when it traces."""
    process = subprocess.Popen(
        [*lab.trace_popen, *options],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "tracing" in line, line
    return process


def _one_line(lab: Lab, *arguments: str, wrapper: tuple[str, ...] = (), status: int = 2) -> str:
    """Run trace-popen, which must print one line on standard error; return it."""
    done = subprocess.run(
        [*wrapper, *lab.trace_popen, *arguments],
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == status, done
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    return line


def test_pid_covers_threads_and_descendants_only(lab: Lab) -> None:
    inner = lab.program("fork_beside_popen.py", "--force", "2")
    script = f"import time, subprocess; time.sleep(6); subprocess.run({inner!r})"
    with subprocess.Popen([PYTHON, "-c", script], stdout=subprocess.PIPE, text=True) as target:
        tracer = _start(lab, "--pid", str(target.pid), "--json")
        subprocess.run(lab.program("fork_beside_popen.py", "--force", "1"), check=True)
        printed, _ = target.communicate(timeout=30)
    out, err = tracer.communicate(timeout=30)
    assert f"pid {target.pid} has exited" in err
    reports = json_lines(out)
    stalled = {line["child"] for line in json_lines(printed) if line.get("worker")}
    assert {r["child"]["pid"] for r in reports if r["type"] == "stall"} == stalled
    assert reports[-1]["type"] == "summary"
    assert tracer.returncode == 0


def test_ctrl_c_ends_with_a_summary(lab: Lab) -> None:
    tracer = _start(lab, "--json", "--pid", str(os.getpid()))
    subprocess.run(["/bin/true"], check=True)
    time.sleep(0.3)
    tracer.send_signal(signal.SIGINT)
    out, _ = tracer.communicate(timeout=10)
    run, *waits, summary = json_lines(out)
    assert run["type"] == "run"
    assert {each["type"] for each in waits} <= {"wait"}
    assert summary["type"] == "summary"
    assert summary["spawns"] == 1
    assert tracer.returncode == 0


def test_duration_and_text_without_a_terminal(lab: Lab) -> None:
    tracer = _start(lab, "--duration", "4", "--pid", str(os.getpid()))
    began = time.monotonic()
    subprocess.run(lab.program("fork_beside_popen.py", "--force", "1"), check=True)
    out, _ = tracer.communicate(timeout=20)
    assert 2 < time.monotonic() - began < 8
    assert "\x1b" not in out
    assert "held by" in out
    assert "cause forked" in out
    assert "1 stall," in out


@pytest.mark.parametrize("option", [(), ("--record-arguments",)])
def test_a_report_says_where_it_comes_from(lab: Lab, option: tuple[str, ...]) -> None:
    """In each output, and COMMAND's arguments only on request, because they can contain secrets."""
    secret, host = "4711.04711040", os.uname()
    page, trace = lab.folder / "page.html", lab.folder / "trace.json"
    options = ["--min-ms", "50", "--html", str(page), "--trace", str(trace), *option]
    traced = lab.trace(["/bin/echo", secret], *options)
    run, summary = traced.reports[0], traced.summary
    assert run["type"] == "run"
    assert (run["host"], run["kernel"], run["machine"]) == (host.nodename, host.release, host.machine)
    assert (run["version"], run["pids"]) == (__version__, [])
    assert run["options"][-len(options) :] == options
    assert (run["command"]["program"], run["command"]["argument_count"]) == ("/bin/echo", 1)
    assert run["command"]["arguments"] == ([secret] if option else None)
    assert summary["time"] > run["time"]
    text = _replayed(lab)
    assert text.count(f"on {host.nodename} (Linux {host.release}") == 1
    for each in (json.dumps(traced.reports), text, page.read_text(), trace.read_text()):
        assert (secret in each) == bool(option)
        assert host.nodename in each


def test_nothing_is_red_where_nothing_is_wrong(lab: Lab) -> None:
    lab.trace(["/bin/sh", "-c", "for n in 1 2 3 4 5; do /bin/true; done"])
    text = _replayed(lab, FORCE_COLOR="1", TERM="xterm-256color")
    assert re.search(r"\x1b\[[\d;]*m", text)
    assert not re.search(r"\x1b\[([\d;]*;)?(31|33|91|93)m", text), text


def _replayed(lab: Lab, **variables: str) -> str:
    """The text of the report that lab.trace has written last."""
    command = [*lab.trace_popen, "--replay", str(lab.folder / "reports.json")]
    environ = {**os.environ, "COLUMNS": "300", **variables}
    replayed = subprocess.run(command, cwd=lab.root, env=environ, capture_output=True, text=True, check=True)
    return replayed.stdout + replayed.stderr


@pytest.mark.parametrize("code", [0, 7])
def test_command_keeps_its_streams_and_status(lab: Lab, code: int) -> None:
    done = subprocess.run(
        [*lab.trace_popen, "--", "sh", "-c", f"cat; echo err >&2; exit {code}"],
        cwd=lab.root,
        input="through",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code
    assert done.stdout == "through"
    assert done.stderr.startswith("err\n")
    assert "0 stalls" in done.stderr


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("where", ["standard error", "standard output", "file"])
def test_report_of_a_command(lab: Lab, options: list[str], where: str) -> None:
    """On standard error, so that a pipe gets only what the command prints."""
    path = lab.folder / "report"
    output = {"standard error": [], "standard output": ["-o", "-"], "file": ["-o", str(path)]}[where]
    done = subprocess.run(
        [*lab.trace_popen, *options, *output, "--", "echo", "printed"],
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    texts = {"standard error": done.stderr, "standard output": done.stdout.replace("printed\n", "", 1)}
    texts["file"] = path.read_text() if where == "file" else ""
    report = texts.pop(where)
    assert set(texts.values()) == {""}
    if options:
        assert [each["type"] for each in json_lines(report)] == ["run", "summary"]
    else:
        assert "0 stalls" in report


def test_command_of_another_user(lab: Lab) -> None:
    """It has that user's ids, groups and home, and nothing of root's; its stalls are reported as usual."""
    show = 'id -u; id -g; id -G; echo "$HOME $USER $LOGNAME $SHELL $KEPT"; grep CapEff /proc/self/status'
    command = ["sh", "-c", f"{show}; exec {' '.join(_forced(lab))}"]
    account = pwd.getpwnam("nobody")
    done = subprocess.run(
        ["setpriv", "--groups=4,24", *lab.trace_popen, "-u", "nobody", "--", *command],
        cwd=lab.root,
        env={**os.environ, "KEPT": "kept"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    groups = " ".join(map(str, os.getgrouplist("nobody", account.pw_gid)))
    home = f"{account.pw_dir} nobody nobody {account.pw_shell} kept"
    shown = [str(account.pw_uid), str(account.pw_gid), groups, home, "CapEff:\t0000000000000000"]
    assert done.stdout.splitlines()[:5] == shown
    assert "1 stall," in done.stderr
    assert f"uid {account.pw_uid}" in done.stderr


def test_killed_command_gives_a_shells_status(lab: Lab) -> None:
    done = subprocess.run(
        [*lab.trace_popen, "--", "sh", "-c", "kill -KILL $$"], cwd=lab.root, check=False, timeout=60
    )
    assert done.returncode == 128 + signal.SIGKILL


def test_target_killed_during_a_stall(lab: Lab) -> None:
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "30", "--plain", "0")
    with subprocess.Popen(["sh", "-c", f"sleep 15; exec {' '.join(command)}"]) as target:
        tracer = _start(lab, "--pid", str(target.pid), "--json")
        assert tracer.stdout is not None
        run, waiting = (json_line(tracer.stdout.readline()) for _ in range(2))
        assert run["pids"] == [target.pid]
        assert (waiting["type"], waiting["kind"]) == ("wait", "child")  # the shell, for its sleep
        lines = map(json_line, iter(tracer.stdout.readline, ""))
        ongoing = next(each for each in lines if each["type"] == "stall")  # the wait has ended
        target.kill()
    out, _ = tracer.communicate(timeout=20)
    os.kill(ongoing["holders"][0]["pid"], signal.SIGKILL)
    ended, summary = (each for each in json_lines(out) if each["type"] != "wait")
    assert ongoing["state"] == "ongoing"
    assert ended["state"] == "ended"
    assert ended["steps"][-1]["what"] == "parent_died"
    assert summary["stalls"] == 1


def test_closed_standard_output(lab: Lab) -> None:
    """As in trace-popen | head -1: no traceback."""
    tracer = _start(lab, "--json", "--all", "--pid", str(os.getpid()))
    assert tracer.stdout is not None
    assert tracer.stderr is not None
    tracer.stdout.close()
    for _ in range(3):
        subprocess.run(["/bin/true"], check=True)
        time.sleep(0.2)
    assert tracer.wait(10) == 128 + signal.SIGPIPE
    assert tracer.stderr.read() == ""


def test_not_root(lab: Lab) -> None:
    """The modules are imported before root is dropped: other users may not be able to read the checkout."""
    code = (
        "import os, sys, agent.tracing.tracer\n"
        "from agent.cli.main import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [lab.trace_popen[0], "-c", code, "--duration", "1"],
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("trace-popen: ") and "sudo" in line


def test_no_capabilities(lab: Lab) -> None:
    line = _one_line(lab, "--duration", "1", wrapper=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    assert "CAP_SYS_ADMIN" in line


def test_no_tracefs(lab: Lab) -> None:
    hide = 'umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug 2>/dev/null; exec "$@"'
    line = _one_line(lab, "--duration", "1", wrapper=("unshare", "-m", "sh", "-c", hide, "sh"))
    assert "mount -t tracefs" in line


def test_output_file_that_cannot_be_written(lab: Lab, tmp_path: Path) -> None:
    target = tmp_path / "no" / "such" / "folder"
    assert str(target) in _one_line(lab, "-o", str(target), "--duration", "1")


def test_command_that_does_not_exist(lab: Lab) -> None:
    assert "/no/such/program" in _one_line(lab, "--", "/no/such/program", status=127)


def test_command_that_cannot_be_executed(lab: Lab) -> None:
    assert "/etc/passwd" in _one_line(lab, "--", "/etc/passwd", status=126)


def _forced(lab: Lab, live: str = "0.3") -> list[str]:
    return lab.program("fork_beside_popen.py", "--force", "1", "--live", live, "--plain", "0")


def test_report_file_beside_readable_text(lab: Lab) -> None:
    report = lab.folder / "report.json"
    done = subprocess.run(
        [*lab.trace_popen, "--steps", "--report", str(report), "--", *_forced(lab)],
        cwd=lab.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    [stall] = [each for each in json_lines(report.read_text()) if each["type"] == "stall"]
    holder, parent = stall["holders"][0], stall["parent"]
    assert f"STALL  python3 (pid {parent['pid']}) was blocked for" in done.stderr
    assert f"held by  python3 (pid {holder['pid']}): was forked while the pipe was open" in done.stderr
    assert "multiprocessing workers with spawn or forkserver" in done.stderr
    [header] = [line for line in done.stderr.splitlines() if line.startswith(" step")]
    assert header.split()[-3:] == [str(parent["pid"]), str(stall["child"]["pid"]), str(holder["pid"])]
    assert any("holder exits" in line and line.split()[-1] == "-" for line in done.stderr.splitlines())


def test_several_pids_and_filters(lab: Lab) -> None:
    script = f"import subprocess; input(); subprocess.run({_forced(lab)!r})"
    printed = []
    with contextlib.ExitStack() as stack:
        targets = [
            stack.enter_context(
                subprocess.Popen(
                    [PYTHON, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(2)
        ]
        pids = ",".join(str(target.pid) for target in targets)
        both = _start(lab, "--pid", pids, "--json")
        none = _start(lab, "--comm", "!python*", "--json")
        root = _start(lab, "--user", "root", "--comm", "python3", "--container", "host", "--json")
        other = _start(lab, "--user", "65534", "--json")
        for target in targets:
            printed.append(json_lines(target.communicate("\n", timeout=30)[0]))
        out, err = both.communicate(timeout=30)
        for tracer in (none, root, other):
            time.sleep(0.3)
            tracer.send_signal(signal.SIGINT)
    children = {line["child"] for lines in printed for line in lines if line["kind"] == "spawn"}
    assert len(children) == 2
    assert f"pid {pids.replace(',', ', ')} have exited" in err

    def stalled(text: str) -> set[int]:
        return {each["child"]["pid"] for each in json_lines(text) if each["type"] == "stall"} & children

    assert stalled(out) == children
    assert stalled(root.communicate(timeout=30)[0]) == children
    assert stalled(none.communicate(timeout=30)[0]) == set()
    assert stalled(other.communicate(timeout=30)[0]) == set()


@pytest.mark.parametrize("option", [[], ["-o", "-"]], ids=["stderr", "stdout"])
def test_closed_output_ends_a_trace(lab: Lab, option: list[str]) -> None:
    """As in trace-popen --all -- COMMAND 2>&1 | head -1."""
    many = " ".join(lab.program("many_popen.py", "--count", "200"))
    process = subprocess.Popen(
        [*lab.trace_popen, "--all", *option, "--", "/bin/sh", "-c", f"exec {many} >/dev/null"],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    report, other = (process.stdout, process.stderr) if option else (process.stderr, process.stdout)
    assert "->" in report.readline()
    report.close()
    printed = other.read()
    assert process.wait(30) == 128 + signal.SIGPIPE
    assert printed == ""


def test_a_report_is_saved_rendered_and_replayed(lab: Lab) -> None:
    """All outputs at once; and again from the saved report, by a user without privileges."""
    files = {name: lab.folder / name for name in ("report.json", "page.html", "trace.json")}
    for path in files.values():
        path.touch()
    first = subprocess.run(
        [
            *lab.trace_popen,
            *("--report", str(files["report.json"]), "--html", str(files["page.html"])),
            *("--trace", str(files["trace.json"]), "--", *_forced(lab)),
        ],
        cwd=lab.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    drawn = {name: files[name].read_text() for name in ("page.html", "trace.json")}
    [stall] = [each for each in json_lines(files["report.json"].read_text()) if each["type"] == "stall"]
    assert 'title="' in drawn["page.html"] and stall["holders"][0]["comm"] in drawn["page.html"]
    assert any(
        event.get("pid") == stall["parent"]["pid"] for event in json.loads(drawn["trace.json"])["traceEvents"]
    )
    again = {name: lab.folder / f"again-{name}" for name in (*drawn, "text")}
    replayed = subprocess.run(
        [
            *("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", *lab.trace_popen),
            *("--replay", str(files["report.json"]), "-o", str(again["text"])),
            *("--html", str(again["page.html"]), "--trace", str(again["trace.json"])),
        ],
        cwd=lab.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (replayed.returncode, replayed.stderr) == (0, "")
    assert again["text"].read_text() == first.stderr
    assert {name: again[name].read_text() for name in drawn} == drawn


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("[]\n", ":1: "),
        (
            '{"type": "news"}\n',
            ":1: {'type': 'news'}: expected an object with type run, stall, spawn, exposure, summary",
        ),
    ],
)
def test_invalid_report(lab: Lab, content: str, message: str) -> None:
    path = lab.folder / "no-report"
    path.write_text(content)
    assert message in _one_line(lab, "--replay", str(path))
