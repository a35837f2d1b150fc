# SPDX-License-Identifier: Apache-2.0
"""agent.pytestplugin in a real pytest, with reports and agents that are made up."""

from __future__ import annotations

import http.server
import json
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spawnstall
from agent import pytestplugin
from agent.model import KEEPS_COPY
from agent.reports.gate import DEFAULT_MAX_STALL_MS
from tests import foreign, pytestruns
from tests.unit.reportsamples import ended, exposed

_TESTS = '''
import json, os, pathlib, subprocess, sys, time
from datetime import datetime, timezone

def report(pid, comm="worker", cause="forked", seconds=0.3, id="1"):
    """Write a stall that begins now."""
    stall = json.loads(pathlib.Path("stall.json").read_text())
    stall.update(time=now(), began_seconds=0.0, stall_seconds=seconds, id=id)
    stall["parent"].update(pid=pid, tid=pid, comm="app")
    stall["holders"][0].update(comm=comm, cause=cause)
    stall["advice"], stall["advice_source"] = f"Do something about {cause}.", "https://example.org"
    write(stall)

def expose(pid, cause="forked", count=1):
    """Write an exposure of now."""
    exposed = json.loads(pathlib.Path("exposure.json").read_text())
    exposed["parent"].update(pid=pid, tid=pid, comm="app")
    write({**exposed, "time": now(), "cause": cause, "count": count})

def now():
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")

def write(report):
    with open("stalls", "a") as file:
        file.write(json.dumps(report) + "\\n")

def gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of tests, which write stalls to the file ``stalls``."""
    (tmp_path / "stall.json").write_text(json.dumps(ended()))
    (tmp_path / "exposure.json").write_text(json.dumps(exposed()))
    (tmp_path / "helper.py").write_text(_TESTS)
    (tmp_path / "stalls").touch()
    return tmp_path


def _tests(folder: Path, **bodies: str) -> None:
    made = "".join(f"def test_{name}(): {body}\n" for name, body in bodies.items())
    (folder / "test_app.py").write_text(f"from helper import *\n{made}")


def _traced(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """With the report of trace-popen."""
    return pytestruns.run(folder, ["--spawnstall", *options], TRACE_POPEN_REPORT=str(folder / "stalls"))


# -- stalls from trace-popen --


def test_a_stall_is_named_with_its_test(folder: Path) -> None:
    _tests(folder, quiet="pass", bad="report(os.getpid(), id='1'); report(os.getpid(), seconds=0.5, id='2')")
    done = _traced(folder)
    assert done.returncode == 0
    assert "spawnstall: 2 stalls in 1 test, from trace-popen" in done.stdout
    [line] = re.findall(r"test_app.py::test_bad\n  (.*)", done.stdout)
    assert (
        line == "app was blocked 2 times, for 800.0 ms in total and 500.0 ms at most, held by worker (forked)"
    )
    assert "test_quiet" not in done.stdout


def test_the_last_state_of_a_stall_counts(folder: Path) -> None:
    _tests(folder, bad="report(os.getpid(), seconds=0.1); report(os.getpid(), seconds=1.5)")
    assert "app was blocked for 1.50 s, held by worker (forked)" in _traced(folder).stdout


def test_the_advice_is_there_once(folder: Path) -> None:
    bodies = {f"n{number}": f"report(os.getpid(), id='{number}')" for number in range(3)}
    _tests(folder, **bodies)
    done = _traced(folder)
    assert done.stdout.count("Do something about forked.") == 1
    assert "3 stalls in 3 tests" in done.stdout


def test_the_process_of_a_stall_can_be_a_descendant(folder: Path) -> None:
    _tests(
        folder,
        alive="child = subprocess.Popen(['sleep', '60']); report(child.pid, id='1'); time.sleep(1.1);"
        " globals().update(child=child)",
        gone="report(gone(), id='2'); child.kill()",
    )
    done = _traced(folder)
    for name in ("alive", "gone"):
        assert f"test_app.py::test_{name}\n  app was blocked" in done.stdout


def test_an_exposure_is_named_with_its_test(folder: Path) -> None:
    _tests(
        folder,
        quiet="pass",
        bad="expose(os.getpid(), count=2); expose(os.getpid()); expose(gone(), 'passed')",
    )
    done = _traced(folder)
    assert done.returncode == 0
    lines = re.findall(r"  (test_app.py::.*)", done.stdout)
    assert lines == [
        "test_app.py::test_bad: app, forked: 3 exposures",
        "test_app.py::test_bad: app, passed: 1 exposure",
    ]


def test_workers_of_xdist(folder: Path) -> None:
    _tests(folder, **{f"n{number}": f"report(os.getpid(), id='{number}')" for number in range(4)})
    done = _traced(folder, "-n", "2")
    assert "4 stalls in 4 tests" in done.stdout
    assert done.stdout.count("  app was blocked for 300.0 ms") == 4


def test_what_is_not_in_a_test_is_said_to_be_outside(folder: Path) -> None:
    (folder / "test_app.py").write_text("from helper import *\nreport(os.getpid())\ndef test_quiet(): pass\n")
    done = _traced(folder)
    assert "1 stall in 0 tests" in done.stdout
    assert "(outside of tests)\n  app was blocked" in done.stdout


def test_no_stall_is_said_too(folder: Path) -> None:
    _tests(folder, quiet="pass")
    assert "spawnstall: 0 stalls in 0 tests" in _traced(folder).stdout
    assert "spawnstall" not in pytestruns.run(folder).stdout


@pytest.mark.parametrize(
    ("stall", "status"),
    [
        ("", 0),
        ("report(os.getpid(), seconds=0.02)", 1),
        ("expose(os.getpid())", 1),
        ("report(os.getpid(), cause='late_exec')", 0),
        ("report(os.getpid(), cause='late_exec', seconds=1.2)", 1),
    ],
)
def test_the_status_fails_as_the_gate_of_trace_popen(stall: str, status: int, folder: Path) -> None:
    _tests(folder, one=stall or "pass")
    assert _traced(folder, "--spawnstall-fail").returncode == status
    assert _traced(folder).returncode == 0


def test_the_limits_are_those_of_the_gate() -> None:
    """The plugin imports nothing of ours, so that it has its own copy of them."""
    assert set(pytestplugin._RACES) == KEEPS_COPY
    assert pytestplugin._MAX_STALL_SECONDS * 1000 == DEFAULT_MAX_STALL_MS


# -- stalls from an agent --


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass


@pytest.fixture(params=["http"])
def agent(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of an agent that has the stalls of the file ``stalls``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stalls = [json.loads(line) for line in (folder / "stalls").read_text().splitlines()]
            ended = len(stalls) + len(list(folder.glob("lost*")))
            health = {"stalls_ended": ended, "time": "2100-01-01T00:00:00.000000Z"}
            status: dict[str, Any] = {"ongoing": [], "ended": stalls, "agent": health}
            exposures = folder / "exposures"
            value = exposures.read_text() if exposures.exists() else "3"
            metrics = f'spawnstall_exposures_total{{cause="forked",comm="app"}} {value}\n'
            self.send_response(200)
            self.end_headers()
            self.wfile.write((metrics if self.path == "/metrics" else json.dumps(status)).encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    server: socketserver.BaseServer
    if request.param == "http":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        url = f"http://127.0.0.1:{server.server_port}"
    else:
        server = _UnixServer(str(folder / "web.sock"), Handler)
        url = f"unix:{folder / 'web.sock'}"
    with server:
        threading.Thread(target=server.serve_forever).start()
        yield url
        server.shutdown()


def _with_agent(folder: Path, url: str) -> str:
    done = pytestruns.run(folder, ["--spawnstall-agent", url])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("agent", ["http", "unix"], indirect=True)
def test_stalls_of_other_processes_of_the_host_are_not_ours(agent: str, folder: Path) -> None:
    _tests(
        folder,
        ours="report(os.getpid(), id='1')",
        foreign="report(1, id='2')",
        gone="report(gone(), id='3')",
    )
    shown = _with_agent(folder, agent)
    assert f"1 stall in 1 test, from the agent at {agent}" in shown
    assert "test_ours\n" in shown and "test_foreign" not in shown and "test_gone" not in shown
    assert "1 more stall on this host, of processes that had ended before a look" in shown


def test_stalls_before_the_tests_are_not_theirs(agent: str, folder: Path) -> None:
    (folder / "stalls").write_text(json.dumps(ended()) + "\n")
    _tests(folder, quiet="pass")
    assert "0 stalls in 0 tests" in _with_agent(folder, agent)


def test_stalls_that_the_agent_no_longer_has_are_counted(agent: str, folder: Path) -> None:
    _tests(folder, many="pathlib.Path('lost1').touch(); pathlib.Path('lost2').touch()")
    assert "2 more stalls on this host" in _with_agent(folder, agent)


def test_exposures_are_named_with_the_tests_of_that_time(agent: str, folder: Path) -> None:
    _tests(folder, first="time.sleep(2.5)", racy="pathlib.Path('exposures').write_text('5'); time.sleep(2.5)")
    [line] = re.findall(r"  (test_app.*): app, forked: 2 exposures", _with_agent(folder, agent))
    assert "test_app.py::test_racy" in line


# -- usage --


def test_no_source_is_one_clear_error(folder: Path) -> None:
    _tests(folder, one="pass")
    for options, variables, words in (
        (["--spawnstall-agent", "http://127.0.0.1:1"], {}, ["no agent", "http://127.0.0.1:1", "refused"]),
        (["--spawnstall-agent", "ftp://x"], {}, ["ftp://x", "expected http://HOST:PORT or unix:PATH"]),
        (
            ["--spawnstall"],
            {"TRACE_POPEN_REPORT": "/no/such"},
            ["TRACE_POPEN_REPORT=/no/such", "No such file"],
        ),
        (["--spawnstall"], {"TRACE_POPEN_REPORT": "/dev/null"}, ["/dev/null", "not a regular file"]),
        (["--spawnstall-fail"], {}, ["--spawnstall-fail needs --spawnstall"]),
    ):
        done = pytestruns.run(folder, options, **variables)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        [line] = [line for line in done.stderr.splitlines() if line]
        assert line.startswith("ERROR: ") and all(word in line for word in words)


def test_the_error_without_any_source_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = spawnstall.pytestplugin
    monkeypatch.delenv("TRACE_POPEN_REPORT", raising=False)
    monkeypatch.setattr(plugin, "_DEFAULT_AGENT", "http://127.0.0.1:1")
    with pytest.raises(pytest.UsageError, match=r"http://127.0.0.1:1.*trace-popen --report FILE -- pytest"):
        plugin._source(None)


def test_it_imports_no_package_of_our_names(repo_root: Path, tmp_path: Path) -> None:
    """The tests of another project can have a package ``agent``."""
    variables = foreign.environment(tmp_path)
    variables["PYTHONPATH"] += f":{repo_root}"
    code = "import sys, spawnstall; spawnstall.pytestplugin; print('agent' in sys.modules)"
    path = ":".join(path for path in sys.path if path and Path(path) != repo_root)
    variables["PYTHONPATH"] += f":{path}"
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
