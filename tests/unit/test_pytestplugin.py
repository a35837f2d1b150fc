# SPDX-License-Identifier: Apache-2.0
"""agent.pytestplugin in a pytest within this one, with reports and agents that are made up."""

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


pytest_plugins = ["pytester"]


_LOOK_SECONDS = 0.1


class _Project:
    """A folder of tests, which write stalls to the file ``stalls``."""

    def __init__(self, pytester: pytest.Pytester, patch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._patch = patch
        pytester.syspathinsert()
        self.folder = folder = pytester.path
        (folder / "stall.json").write_text(json.dumps(ended()))
        (folder / "exposure.json").write_text(json.dumps(exposed()))
        (folder / "helper.py").write_text(_TESTS)
        (folder / "stalls").touch()

    def write(self, **bodies: str) -> None:
        """Write a test for each body."""
        made = "".join(f"def test_{name}(): {body}\n" for name, body in bodies.items())
        (self.folder / "test_app.py").write_text(f"from helper import *\n{made}")

    def run(self, *options: str, **variables: str) -> pytest.RunResult:
        """Run the tests in this process."""
        with self._patch.context() as patch:
            for name in ("TRACE_POPEN_REPORT", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
                patch.delenv(name, raising=False)
            for name, value in {"COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}.items():
                patch.setenv(name, value)
            return self._pytester.runpytest_inprocess(*pytestruns.options(self.folder), *options)

    def traced(self, *options: str) -> pytest.RunResult:
        """Run them with the report of trace-popen."""
        return self.run("--spawnstall", *options, TRACE_POPEN_REPORT=str(self.folder / "stalls"))

    def shown(self, agent: str) -> str:
        """Run them with an agent; return what pytest shows."""
        done = self.run("--spawnstall-agent", agent)
        assert done.ret == 0, f"{done.stdout}{done.stderr}"
        return done.stdout.str()


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> _Project:
    monkeypatch.setattr(spawnstall.pytestplugin, "_LOOK_SECONDS", _LOOK_SECONDS)
    monkeypatch.setattr(spawnstall.pytestplugin, "_SETTLE_SECONDS", _LOOK_SECONDS)
    return _Project(pytester, monkeypatch)


# -- stalls from trace-popen --


def test_a_stall_is_named_with_its_test(project: _Project) -> None:
    project.write(quiet="pass", bad="report(os.getpid(), id='1'); report(os.getpid(), seconds=0.5, id='2')")
    done = project.traced()
    assert done.ret == 0
    assert "spawnstall: 2 stalls in 1 test, from trace-popen" in done.stdout.str()
    [line] = re.findall(r"test_app.py::test_bad\n  (.*)", done.stdout.str())
    assert all(word in line for word in ("app", "2 times", "800.0 ms", "500.0 ms", "worker", "forked"))
    assert "test_quiet" not in done.stdout.str()


def test_the_last_state_of_a_stall_counts(project: _Project) -> None:
    project.write(bad="report(os.getpid(), seconds=0.1); report(os.getpid(), seconds=1.5)")
    assert "app was blocked for 1.50 s, held by worker (forked)" in project.traced().stdout.str()


def test_the_advice_is_there_once(project: _Project) -> None:
    bodies = {f"n{number}": f"report(os.getpid(), id='{number}')" for number in range(3)}
    project.write(**bodies)
    done = project.traced()
    assert done.stdout.str().count("Do something about forked.") == 1
    assert "3 stalls in 3 tests" in done.stdout.str()


def test_the_process_of_a_stall_can_be_a_descendant(project: _Project) -> None:
    project.write(
        alive="child = subprocess.Popen(['sleep', '60']); report(child.pid, id='1'); time.sleep(0.3);"
        " globals().update(child=child)",
        gone="report(gone(), id='2'); child.kill()",
    )
    done = project.traced()
    for name in ("alive", "gone"):
        assert f"test_app.py::test_{name}\n  app was blocked" in done.stdout.str()


def test_an_exposure_is_named_with_its_test(project: _Project) -> None:
    project.write(
        quiet="pass",
        bad="expose(os.getpid(), count=2); expose(os.getpid()); expose(gone(), 'passed')",
    )
    done = project.traced()
    assert done.ret == 0
    lines = re.findall(r"  (test_app.py::.*)", done.stdout.str())
    assert lines == [
        "test_app.py::test_bad: app, forked: 3 exposures",
        "test_app.py::test_bad: app, passed: 1 exposure",
    ]


def test_workers_of_xdist(project: _Project) -> None:
    project.write(**{f"n{number}": f"report(os.getpid(), id='{number}')" for number in range(4)})
    variables = {"TRACE_POPEN_REPORT": str(project.folder / "stalls")}
    done = pytestruns.run(project.folder, ["--spawnstall", "-n", "2"], **variables)
    assert "4 stalls in 4 tests" in done.stdout
    assert done.stdout.count("  app was blocked for 300.0 ms") == 4


def test_what_is_not_in_a_test_is_said_to_be_outside(project: _Project) -> None:
    (project.folder / "test_app.py").write_text(
        "from helper import *\nreport(os.getpid())\ndef test_quiet(): pass\n"
    )
    done = project.traced()
    assert "1 stall in 0 tests" in done.stdout.str()
    assert "(outside of tests)\n  app was blocked" in done.stdout.str()


def test_no_stall_is_said_too(project: _Project) -> None:
    project.write(quiet="pass")
    assert "spawnstall: 0 stalls in 0 tests" in project.traced().stdout.str()
    assert "spawnstall" not in project.run().stdout.str()


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
def test_the_status_fails_as_the_gate_of_trace_popen(stall: str, status: int, project: _Project) -> None:
    project.write(one=stall or "pass")
    assert project.traced("--spawnstall-fail").ret == status
    assert project.traced().ret == 0


def test_the_limits_are_those_of_the_gate() -> None:
    """The plugin imports nothing of ours, so that it has its own copy of them."""
    assert set(pytestplugin._RACES) == KEEPS_COPY
    assert pytestplugin._MAX_STALL_SECONDS * 1000 == DEFAULT_MAX_STALL_MS


# -- stalls from an agent --


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass


@pytest.fixture(params=["http"])
def agent(request: pytest.FixtureRequest, project: _Project) -> Iterator[str]:
    """The URL of an agent that has the stalls of the file ``stalls``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stalls = [json.loads(line) for line in (project.folder / "stalls").read_text().splitlines()]
            ended = len(stalls) + len(list(project.folder.glob("lost*")))
            health = {"stalls_ended": ended, "time": "2100-01-01T00:00:00.000000Z"}
            status: dict[str, Any] = {"ongoing": [], "ended": stalls, "agent": health}
            exposures = project.folder / "exposures"
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
        server = _UnixServer(str(project.folder / "web.sock"), Handler)
        url = f"unix:{project.folder / 'web.sock'}"
    with server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield url
        server.shutdown()


@pytest.mark.parametrize("agent", ["http", "unix"], indirect=True)
def test_stalls_of_other_processes_of_the_host_are_not_ours(agent: str, project: _Project) -> None:
    project.write(
        ours="report(os.getpid(), id='1')",
        foreign="report(1, id='2')",
        gone="report(gone(), id='3')",
    )
    shown = project.shown(agent)
    assert f"1 stall in 1 test, from the agent at {agent}" in shown
    assert "test_ours\n" in shown and "test_foreign" not in shown and "test_gone" not in shown
    assert "1 more stall on this host, of processes that had ended before a look" in shown


def test_stalls_before_the_tests_are_not_theirs(agent: str, project: _Project) -> None:
    (project.folder / "stalls").write_text(json.dumps(ended()) + "\n")
    project.write(quiet="pass")
    assert "0 stalls in 0 tests" in project.shown(agent)


def test_stalls_that_the_agent_no_longer_has_are_counted(agent: str, project: _Project) -> None:
    project.write(many="pathlib.Path('lost1').touch(); pathlib.Path('lost2').touch()")
    assert "2 more stalls on this host" in project.shown(agent)


def test_exposures_are_named_with_the_tests_of_that_time(agent: str, project: _Project) -> None:
    project.write(first="time.sleep(0.5)", racy="pathlib.Path('exposures').write_text('5'); time.sleep(0.5)")
    [line] = re.findall(r"  (test_app.*): app, forked: 2 exposures", project.shown(agent))
    assert "test_app.py::test_racy" in line


# -- usage --


def test_no_source_is_one_clear_error(project: _Project) -> None:
    project.write(one="pass")
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
        done = project.run(*options, **variables)
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        [line] = [line for line in done.errlines if line]
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
