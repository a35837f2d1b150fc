# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: ``pytest --spawnstall`` names the tests in which stalls and exposures happened.

It runs in other people's pytest, where ``agent`` may be a package of theirs.  So it imports nothing of ours,
and ``spawnstall.py``, which is the entry point, loads it by its path.  It starts no thread: Python warns of
forks in a process that has several, and a fork beside a spawn is what the plugin looks for.

The stalls come from the report that the trace-popen around pytest writes, or from an agent.  The process
that runs a test (with pytest-xdist a worker) notes when it ran.  The main process looks for stalls after
tests, when most of their processes are still there to be identified.
"""

from __future__ import annotations

import bisect
import functools
import http.client
import json
import math
import os
import re
import socket
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union
from urllib.parse import urlsplit

import pytest

__all__ = ["pytest_addoption", "pytest_configure"]

_REPORT = "TRACE_POPEN_REPORT"
_DEFAULT_AGENT = "http://127.0.0.1:9848"
_OUTSIDE = "(outside of tests)"
_LOOK_SECONDS = 1.0  # the agent renews its answers once a second
_SETTLE_SECONDS = 1.0
_TIMEOUT_SECONDS = 10.0
_LATE_SECONDS = 0.02  # start times have a resolution of one tick, 10 ms
_RACES = ("forked", "leaked", "own_descendant", "passed")
_MAX_STALL_SECONDS = 1.0
_MAX_ROWS = 200
_MAX_TESTS = 3
_NO_ANSWER = (OSError, http.client.HTTPException, ValueError, LookupError)
_EXPOSURE = re.compile(r"^spawnstall_exposures_total\{(.*)\} (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_Object = dict[str, Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("spawnstall", "stalls of subprocess.Popen and similar calls")
    group.addoption(
        "--spawnstall",
        action="store_true",
        help="name the tests in which stalls happened, by the trace-popen --report FILE that runs pytest, or"
        f" by the agent at {_DEFAULT_AGENT}",
    )
    group.addoption(
        "--spawnstall-agent",
        metavar="URL",
        help="the same, from the agent at http://HOST:PORT or unix:PATH",
    )
    group.addoption(
        "--spawnstall-fail",
        action="store_true",
        help="with --spawnstall: exit with status 1 if a test had a stall",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start if an option requests it; raises pytest.UsageError without a report and an agent."""
    url = config.getoption("spawnstall_agent")
    if not url and not config.getoption("spawnstall"):
        if config.getoption("spawnstall_fail"):
            raise pytest.UsageError("--spawnstall-fail needs --spawnstall")
        return
    config.pluginmanager.register(_Spans(), "spawnstall-spans")
    if not hasattr(config, "workerinput"):  # of pytest-xdist
        watch = _Watch(_source(url), config.getoption("spawnstall_fail"))
        config.pluginmanager.register(watch, "spawnstall-watch")


def _source(url: Optional[str]) -> _Source:
    report = os.environ.get(_REPORT)
    try:
        if url:
            return _Agent(url)
        return _Report(Path(report)) if report else _Agent(_DEFAULT_AGENT)
    except _NO_ANSWER as error:
        if report and not url:
            raise pytest.UsageError(f"--spawnstall: {_REPORT}={report}: {error}") from error
        hint = "" if url else "; or run trace-popen --report FILE -- pytest --spawnstall"
        raise pytest.UsageError(
            f"--spawnstall: no agent answers at {url or _DEFAULT_AGENT}: {error}{hint}"
        ) from error


# -- when and where each test runs --


class _Spans:
    """Adds to the last report of each test when it ran and in which process."""

    def __init__(self) -> None:
        self._began = 0.0

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
        outcome = yield
        if call.when == "setup":
            self._began = call.start
        elif call.when == "teardown":
            span = {"pid": os.getpid(), "began": self._began, "ended": call.stop}
            outcome.get_result().spawnstall = span


class _Test(NamedTuple):
    """A test that has run: the wall-clock time of its begin and end."""

    began: float
    ended: float
    name: str


class _Tests:
    """The tests that have run, by the process that ran them; in each, one after another."""

    def __init__(self) -> None:
        self._by_pid: dict[int, list[_Test]] = {}

    def add(self, pid: int, test: _Test) -> None:
        self._by_pid.setdefault(pid, []).append(test)

    def ran_in(self, pid: int) -> bool:
        return pid in self._by_pid

    def at(self, when: float, pid: int) -> Optional[str]:
        """The test that ran in a process at a time."""
        tests = self._by_pid[pid]
        place = bisect.bisect_right(tests, (when, math.inf, "")) - 1
        return tests[place].name if place >= 0 and when <= tests[place].ended else None

    def all_at(self, when: float) -> list[str]:
        return [name for name in (self.at(when, pid) for pid in self._by_pid) if name is not None]

    def between(self, began: float, ended: float) -> list[str]:
        """The tests that ran at any moment of a time span."""
        found = []
        for tests in self._by_pid.values():
            for test in reversed(tests):
                if test.ended < began:
                    break
                if test.began <= ended:
                    found.append(test)
        return [test.name for test in sorted(found)]


# -- where stalls come from --


class _Report:
    """The report of a trace-popen that traces this pytest; it is read as it grows.

    only_ours: all stalls in it are of processes that trace-popen's COMMAND started.
    """

    only_ours = True
    name = "trace-popen"

    def __init__(self, path: Path) -> None:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("not a regular file: let trace-popen write --report to one")
        self._file = path.open("rb")
        self._rest = b""

    def reports(self) -> Iterator[_Object]:
        """The stalls and exposures that have been written since the last call, in progress or ended."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            report = json.loads(line)
            if report["type"] in ("stall", "exposure"):
                yield report

    def exposures(self) -> Mapping[tuple[str, str], int]:
        """None by comm: each is an object of the report."""
        return {}

    def problems(self) -> list[str]:
        return []

    def settle(self) -> None:
        """Wait until the stalls that have ended are written."""
        time.sleep(_SETTLE_SECONDS)


class _Agent:
    """An agent, which reports the stalls of the whole host; the constructor raises if none answers."""

    only_ours = False

    def __init__(self, url: str) -> None:
        self.name = f"the agent at {url}"
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._connect: Callable[[], http.client.HTTPConnection] = functools.partial(
                _UnixConnection, parts.path
            )
        elif parts.scheme == "http" and parts.hostname:
            self._connect = functools.partial(
                http.client.HTTPConnection, parts.hostname, parts.port or 80, timeout=_TIMEOUT_SECONDS
            )
        else:
            raise ValueError("expected http://HOST:PORT or unix:PATH")
        self._missed = 0
        self._failure: Optional[str] = None
        status = self._status()
        self._seen = {_key(stall) for stall in status["ended"]}
        self._ended = status["agent"]["stalls_ended"]
        self._time = _seconds(status["agent"]["time"])

    def reports(self) -> Iterator[_Object]:
        """The stalls in progress, and those that have ended since the last call."""
        try:
            status = self._status()
        except _NO_ANSWER as error:
            self._failure = self._failure or str(error)
            return
        new = [stall for stall in status["ended"] if _key(stall) not in self._seen]
        self._seen = {_key(stall) for stall in status["ended"]}
        self._missed += max(0, status["agent"]["stalls_ended"] - self._ended - len(new))
        self._ended = status["agent"]["stalls_ended"]
        self._time = _seconds(status["agent"]["time"])
        yield from (*status["ongoing"], *new)

    def exposures(self) -> Mapping[tuple[str, str], int]:
        """The number of exposures since the agent started, by comm and cause."""
        try:
            text = self._get("/metrics")
        except _NO_ANSWER as error:
            self._failure = self._failure or str(error)
            return {}
        found = {}
        for labels, value in _EXPOSURE.findall(text):
            named = dict(_LABEL.findall(labels))
            found[named.get("comm", ""), named.get("cause", "")] = int(float(value))
        return found

    def problems(self) -> list[str]:
        """What was missed, one line each."""
        found = []
        if self._missed:
            found.append(
                f"{self._missed} more stalls on this host were too many for web.history of the agent"
            )
        if self._failure is not None:
            found.append(f"the agent stopped answering, so stalls can be missing: {self._failure}")
        return found

    def settle(self) -> None:
        """Wait for an answer that is newer than now: the agent keeps one for up to five seconds."""
        now = time.time() + _LATE_SECONDS
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < deadline and self._failure is None:
            time.sleep(_SETTLE_SECONDS)
            try:
                if _seconds(self._status()["agent"]["time"]) > now:
                    return
            except _NO_ANSWER as error:
                self._failure = str(error)

    def _status(self) -> _Object:
        status: _Object = json.loads(self._get("/api/stalls"))
        return status

    def _get(self, path: str) -> str:
        connection = self._connect()
        try:
            connection.request("GET", path, headers={"Host": "localhost"})
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise ValueError(f"{path}: status {response.status}")
        return body


_Source = Union[_Report, _Agent]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


# -- which test had which stall --


class _Seen(NamedTuple):
    """The last state of a stall, or an exposure.

    pids: of the parent and its ancestors; only the parent if it was gone.
    """

    report: _Object
    pids: tuple[int, ...]


class _Watch:
    """Collects stalls while tests run, and reports them at the end.  Only in the main process."""

    def __init__(self, source: _Source, fails: bool) -> None:
        self._source = source
        self._fails = fails
        self._tests = _Tests()
        self._stalls: dict[Any, _Seen] = {}
        self._exposed_spawns: list[_Seen] = []
        self._began = self._looked = time.time()
        self._exposed = dict(source.exposures())
        self._exposures: dict[tuple[str, str, tuple[str, ...]], int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        span = getattr(report, "spawnstall", None)
        if span is not None:
            self._tests.add(span["pid"], _Test(span["began"], span["ended"], report.nodeid))
            if time.time() - self._looked >= _LOOK_SECONDS:
                self._look()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._source.settle()
        self._look()
        if (
            self._fails
            and session.exitstatus == pytest.ExitCode.OK
            and (any(_fails(stall) for _, stall in self._found()) or any(self._exposures_by_test()))
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _look(self) -> None:
        for report in self._source.reports():
            if report["type"] == "exposure":
                parent = report["parent"]["pid"]
                pids = (parent, *_ancestors(parent, _seconds(report["time"])))
                self._exposed_spawns.append(_Seen(report, pids))
                continue
            before, pid = self._stalls.get(_key(report)), report["parent"]["pid"]
            pids = (
                before.pids
                if before is not None and len(before.pids) > 1
                else (pid, *_ancestors(pid, _began(report)))
            )
            self._stalls[_key(report)] = _Seen(report, pids)
        now, exposed = time.time(), self._source.exposures()
        tests = tuple(self._tests.between(self._looked - _LOOK_SECONDS, now))
        for (comm, cause), number in exposed.items():
            more = number - self._exposed.get((comm, cause), 0)
            if more > 0:
                self._exposures[comm, cause, tests] += more
        self._exposed.update(exposed)
        self._looked = now

    # -- the answer --

    def _found(self) -> Iterator[tuple[str, _Object]]:
        """Each stall of the processes of this pytest, with the name of the test in which it began."""
        for stall in self._stalls.values():
            name = self._test_of(stall.pids, _began(stall.report))
            if name is not None:
                yield name, stall.report

    def _test_of(self, pids: Sequence[int], when: float) -> Optional[str]:
        """The test in which a process, given with its ancestors, did something; None if it is not ours."""
        if when < self._began:
            return None
        pid = next(filter(self._tests.ran_in, pids), None)
        if pid is not None:
            return self._tests.at(when, pid) or _OUTSIDE
        if os.getpid() in pids:
            return _OUTSIDE
        return _one_of(self._tests.all_at(when)) if self._source.only_ours else None

    def _exposures_by_test(self) -> Mapping[tuple[str, str, str], int]:
        """The exposures that the source reports one by one, by test, comm and cause."""
        found: dict[tuple[str, str, str], int] = defaultdict(int)
        for report, pids in self._exposed_spawns:
            name = self._test_of(pids, _seconds(report["time"]))
            if name is not None:
                found[name, report["parent"]["comm"], report["cause"]] += report["count"]
        return found

    def _unidentified(self) -> int:
        """The number of stalls on this host whose process was gone before anybody could see whose it was."""
        if self._source.only_ours:
            return 0
        return sum(
            len(stall.pids) == 1
            and not self._tests.ran_in(stall.pids[0])
            and _began(stall.report) >= self._began
            for stall in self._stalls.values()
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        found = list(self._found())
        spans: dict[tuple[str, ...], list[float]] = defaultdict(list)
        advice: dict[str, str] = {}
        for name, stall in found:
            holder = stall["holders"][0]
            key = (name, stall["parent"]["comm"], holder["comm"] or "an unknown process", holder["cause"])
            spans[key].append(stall["stall_seconds"] or 0.0)
            advice.setdefault(stall["advice"], stall["advice_source"])
        tests = len({name for name, *_ in spans} - {_OUTSIDE})
        terminalreporter.section(
            f"spawnstall: {_count(len(found), 'stall')} in {_count(tests, 'test')}, from {self._source.name}"
        )
        for line in (*_rows(spans), *_advice_lines(advice), *self._exposure_lines(), *self._problems()):
            terminalreporter.write_line(line)

    def _exposure_lines(self) -> Iterator[str]:
        by_test = self._exposures_by_test()
        if by_test:
            yield "exposures that could have become long stalls:"
        for (name, comm, cause), number in sorted(by_test.items())[:_MAX_ROWS]:
            yield f"  {name}: {comm}, {cause}: {_count(number, 'exposure')}"
        if self._exposures:
            yield "exposures on this host that could have become long stalls, about the time of:"
        for (comm, cause, tests), number in sorted(self._exposures.items())[:_MAX_ROWS]:
            yield f"  {_one_of(tests)}: {comm}, {cause}: {_count(number, 'exposure')}"

    def _problems(self) -> Iterator[str]:
        gone = self._unidentified()
        if gone:
            yield f"{_count(gone, 'more stall')} on this host, of processes that had ended before a look"
        yield from self._source.problems()


def _rows(spans: Mapping[tuple[str, ...], Sequence[float]]) -> Iterator[str]:
    """A line for each test, and below it one for each (who waited, held by, cause)."""
    before = ""
    rows = sorted(spans.items())
    for (name, comm, holder, cause), seconds in rows[:_MAX_ROWS]:
        if name != before:
            yield name
        before = name
        times = f"for {_duration(sum(seconds))}"
        if len(seconds) > 1:
            times = f"{len(seconds)} times, {times} in total and {_duration(max(seconds))} at most"
        yield f"  {comm} was blocked {times}, held by {holder} ({cause})"
    if len(rows) > _MAX_ROWS:
        yield f"and {len(rows) - _MAX_ROWS} more"


def _advice_lines(advice: Mapping[str, str]) -> Iterator[str]:
    for text, source in advice.items():
        yield f"advice: {text}"
        yield f"  {source}"


def _one_of(names: Sequence[str]) -> str:
    """One name, or several between which nothing decides."""
    if not names:
        return _OUTSIDE
    shown = " or ".join(names[:_MAX_TESTS])
    more = len(names) - _MAX_TESTS
    return f"{shown} or {_count(more, 'other test')}" if more > 0 else shown


def _fails(stall: _Object) -> bool:
    """Whether ``trace-popen --fail-on-stall`` fails on it, too: short ones by an exec are common."""
    return stall["holders"][0]["cause"] in _RACES or (stall["stall_seconds"] or 0.0) > _MAX_STALL_SECONDS


def _key(stall: _Object) -> Any:
    return stall["id"], stall["parent"]["pid"], stall["parent"]["tid"]


def _began(stall: _Object) -> float:
    """When a stall began, in seconds since the epoch."""
    return _seconds(stall["time"]) + (stall["began_seconds"] or 0.0)


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339.replace("Z", "+00:00")).timestamp()


def _ancestors(pid: int, when: float) -> Iterator[int]:
    """The ancestors of the process that had a pid at a time; none if it is gone."""
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    while pid > 0:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return
        age = uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        if time.time() - age > when + _LATE_SECONDS:
            return  # the pid has been reused
        pid = int(fields[1])
        yield pid


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
