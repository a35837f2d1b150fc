# SPDX-License-Identifier: Apache-2.0
"""Sentences, or parts of them, whose numbers are constants of the code."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import tomllib

from agent import diagnosis, pytestplugin, snapshot
from agent.cli import arguments, command, following
from agent.host import pyspy
from agent.model import Cause
from agent.reports import durations, gate, objects
from agent.serve import documents, labels, metrics, server, stallkinds
from agent.settings import agentfile, webfile
from agent.tracing import background, holdersearch, readers, stuckexecs, tracer
from dashboards import alerts, recordings
from dashboards.preview import simulate
from dashboards.rules import Alert
from probes import compiler, features, loader, openfiles, perfbuffer, records, selftest
from tests.bench.fleet import __main__ as fleet
from tests.bench.fleet import measure
from tests.bench.fleet.hosts import KINDS, series_by_part
from tests.bench.results import FOLDER, read
from tests.kernels.inside import CPUS
from tests.unit.serve.test_metrics import FakeSource

__all__ = ["Fact", "c_constant", "comments", "facts"]

Fact = tuple[str, str]
"""A document and a sentence, or a part of one, that it contains."""

_ROOT = Path(__file__).resolve().parents[2]
_WORDS = {
    1: "one",
    2: "two",
    3: "three",
    4: "four",
    5: "five",
    6: "six",
    10: "ten",
    15: "a quarter of an hour",
}
_RUNBOOKS = "dashboards/runbooks"
_MS = 10**6


def facts() -> list[Fact]:
    """Return all of them."""
    return [
        *_of_the_project(),
        *_of_the_agent(),
        *_of_the_agent_in_words(),
        *_of_alerts(),
        *_of_the_probes(),
        *_of_kernel_features(),
        *_of_kernels_in_code(),
        *_of_kernels_that_were_tried(),
        *_of_hosts(),
        *_of_tests(),
    ]


def _of_the_project() -> list[Fact]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    python = project["requires-python"].removeprefix(">=")
    bcc = ".".join(map(str, compiler._OLDEST_BCC))
    schema = json.loads((_ROOT / "agent" / "reports" / "schema.json").read_text())
    hardened = int(_test_constant("unit/project/test_fleet_files.py", r'"--threshold=(\d+)"'))
    draft = f"(draft {schema['$schema'].split('/')[-2]})"
    return [
        (".github/CONTRIBUTING.md", f"works on Python {python}"),
        (".github/SECURITY.md", f"depends on {_WORDS[len(project['dependencies'])]} Python packages"),
        ("config/INSTALL.md", f"must be at most {hardened / 10:.1f}"),
        ("config/INSTALL.md", f"and bcc {bcc} or later"),
        ("config/INSTALL.md", f"distribution with bcc {bcc} or later"),
        ("config/INSTALL.md", f"It requires Python {python}, bcc {bcc}"),
        ("probes/PLATFORMS.md", f"versions before bcc {bcc} are refused"),
        ("probes/PLATFORMS.md", f"the code runs on Python {python} and later"),
        ("agent/reports/JSON.md", draft),
        ("agent/reports/README.md", draft),
    ]


def _of_the_agent() -> list[Fact]:
    config = agentfile.Config()
    trace = _defaults(arguments.trace_parser())
    late = {10**9: "more than a second"}[stuckexecs.LATE_NS]
    look = {250_000_000: "a quarter of a second"}[tracer._LOOK_NS]
    modes = list(agentfile._MODES.values())
    error = {2**-10: "less than 0.1 %"}[2.0 ** (1 - durations._BITS)]
    hidden_ms = selftest._LONGEST_NS / _MS
    return [
        ("README.md", f"metrics on {config.web.listen}."),
        ("README.md", f"exit status {gate.DEFAULT_STATUS} if processes can stall"),
        (".github/SECURITY.md", f"its own stalls of up to {hidden_ms:.0f} ms"),
        (".github/SECURITY.md", f"requests of at most {server._REQUEST_BYTES // 1024} KiB"),
        (".github/SECURITY.md", f"at most {server.MAX_CONNECTIONS} connections"),
        (".github/SECURITY.md", f"{server._REQUEST_SECONDS} s for TLS handshake and request together"),
        ("agent/cli/TRACE-POPEN.md", f"the shortest stall to report; default {config.stalls.min_ms:g} |"),
        ("agent/cli/TRACE-POPEN.md", f"if the kernel has no eBPF; default {trace['interval']} s |"),
        ("agent/cli/TRACE-POPEN.md", f"milliseconds; default {gate.DEFAULT_MAX_STALL_MS:,.0f} |"),
        ("agent/cli/TRACE-POPEN.md", f"if the gate fails; default {gate.DEFAULT_STATUS} |"),
        ("agent/cli/TRACE-POPEN.md", f"the exit status is {gate.DEFAULT_STATUS} (`--exit-code`)"),
        ("agent/cli/TRACE-POPEN.md", f"| {gate.DEFAULT_STATUS} | with `--fail-on-stall`: the gate fails"),
        ("agent/cli/TRACE-POPEN.md", f"| {arguments.USAGE_ERROR} | usage error, or nothing can be traced"),
        ("agent/cli/TRACE-POPEN.md", f"| {command._NOT_EXECUTABLE}, {command._NOT_FOUND} | COMMAND cannot"),
        ("agent/cli/TRACE-POPEN.md", f"be executed ({command._NOT_EXECUTABLE})"),
        ("agent/cli/TRACE-POPEN.md", f"or does not exist ({command._NOT_FOUND})"),
        ("agent/cli/TRACE-POPEN.md", f"once it has lasted {look} (with"),
        ("agent/cli/TRACE-POPEN.md", f"It has {_WORDS[int(pyspy._TIMEOUT_SECONDS)]} seconds"),
        ("agent/reports/JSON.md", f"At most {objects._MAX_ARGUMENTS:,} of them |"),
        ("agent/reports/JSON.md", f"rounded up by {error} |"),
        ("agent/reports/JSON.md", f"after {stallkinds._LIMIT} kinds, `~other` |"),
        ("agent/reports/JSON.md", f"of the latest {stallkinds._KEPT:,} |"),
        ("agent/serve/HTTP.md", f"{config.web.listen} by default"),
        ("agent/serve/HTTP.md", f"the last `web.history` ({config.web.history})"),
        ("agent/serve/HTTP.md", f"have not called exec for {late}"),
        ("agent/serve/HTTP.md", f"for up to {_WORDS[int(documents._MAX_FRESH_SECONDS)]} seconds"),
        ("agent/serve/HTTP.md", f"At most {documents._MAX_WAITING} clients wait"),
        ("agent/serve/HTTP.md", f"{documents._PER_SECOND} a second are served"),
        ("agent/serve/HTTP.md", f"because {server.MAX_CONNECTIONS} were in use"),
        ("agent/serve/HTTP.md", f"`socket_mode` is {modes[0]} (the agent's user and root), {modes[1]} (also"),
        ("agent/serve/HTTP.md", f"the group) or {modes[2]}."),
        ("agent/serve/METRICS.md", f"was forked {late} ago"),
    ]


def _of_the_agent_in_words() -> list[Fact]:
    """Limits that the documents state in words."""
    unused = {3600.0: "an hour"}[labels._UNUSED_SECONDS]
    no_spawns = {3600 * 10**9: "an hour"}[tracer._UNUSED_NS]
    fresh, late, followed, young, stall = (
        {1.0: "a second"}[seconds]
        for seconds in (
            documents._FRESH_SECONDS,
            stuckexecs.LATE_NS / 10**9,
            following._INTERVAL_SECONDS,
            snapshot._YOUNG_SECONDS,
            agentfile.Config().stalls.ongoing_seconds,
        )
    )
    longest_fresh = _WORDS[int(documents._MAX_FRESH_SECONDS)]
    making = {20: "a twentieth of a core"}[documents._FRESH_PER_COST]
    guessing = {3: "a quarter of a core"}[webfile._PAUSE_PER_CHECK]
    waiting = {8: "eight"}[webfile._MAX_CHECKS]
    look = {1.0: "about a second"}[pytestplugin._LOOK_SECONDS]
    lost = {60: "a minute per hour"}[alerts._STALLED_SECONDS_PER_HOUR]
    return [
        (".github/SECURITY.md", f"not used for {unused} make room"),
        (".github/SECURITY.md", f"serves all who ask within {fresh}"),
        (".github/SECURITY.md", {60.0: "one log line a minute"}[server._COMPLAINT_SECONDS]),
        (".github/SECURITY.md", f"at most {guessing}; {waiting} wait"),
        ("agent/cli/TRACE-POPEN.md", f"lasts longer than {stall} is also reported"),
        ("agent/cli/TRACE-POPEN.md", f"once they have lasted {stall}, and grow"),
        ("agent/cli/TRACE-POPEN.md", f"which is known to {look}."),
        ("agent/cli/TRACE-POPEN.md", f"forked less than {young} ago"),
        ("agent/cli/TRACE-POPEN.md", f"Once {followed}, `trace-popen` looks"),
        ("agent/cli/TRACE-POPEN.md", f"has not called exec for {late}:"),
        ("agent/reports/JSON.md", f"has not called exec for {late} is a wait"),
        ("agent/reports/JSON.md", f"within the last {no_spawns.split()[1]} in `spawns`"),
        ("agent/serve/HTTP.md", f"who ask for it within {fresh}"),
        ("agent/serve/HTTP.md", f"making it takes at most {making}"),
        ("agent/serve/METRICS.md", f"at most {fresh} old, or up to {longest_fresh} with"),
        ("agent/serve/METRICS.md", f"if that is at least {unused}:"),
        ("agent/serve/METRICS.md", f"had no spawn for {no_spawns}"),
        ("config/SIZING.md", f"not used for {unused} make room, so as many new series can begin each hour"),
        ("dashboards/README.md", f"more than {lost}"),
        (f"{_RUNBOOKS}/SpawnStallAgentBlind.md", f"removed after {no_spawns} without a spawn"),
        ("probes/LIMITS.md", {500 * _MS: "can take half a second to be noticed"}[tracer._CENSUS_NS]),
    ]


def comments() -> list[Fact]:
    """Return the measures in comments, by file, that are constants of the code or of the system."""
    tick = f"{1000 // os.sysconf('SC_CLK_TCK')} ms"
    error = {2**-10: "less than 0.1 %"}[2.0 ** (1 - durations._BITS)]
    idle, forgotten, closing, notice = (
        c_constant("errpipe.bpf.c", f"{name}_NS") for name in ("IDLE", "FORGOTTEN", "CLOSING", "NOTICE")
    )
    unit = (_ROOT / "config/systemd/spawnstall.service").read_text()
    watchdog = int(re.findall(r"(?m)^WatchdogSec=(\d+)$", unit)[0])
    budgets = [
        f"{burn.factor * burn.long_hours / (30 * 24):.0%}".replace("%", " %") for burn in alerts._BURNS
    ]
    *_, last = records.BUCKET_BOUNDS_NS
    return [
        ("agent/host/identity.py", f"one tick, {tick}"),
        ("agent/pytestplugin.py", f"one tick, {tick}"),
        ("agent/reports/durations.py", f"differ by {error}"),
        ("agent/reports/durations.py", f"rounded up by {error}"),
        ("agent/reports/objects.py", "The time within which 99 % of all spawns ended"),  # quantile(0.99)
        ("agent/serve/documents.py", f"(up to {documents._MAX_FRESH_SECONDS:.0f} s)"),
        ("agent/serve/stallkinds.py", f"at most {stallkinds._LIMIT * stallkinds._KEPT * 8 / 10**6:g} MB"),
        ("agent/tracing/tracer.py", f"that is {tracer._LOOK_NS / 10**9:g} s ago"),
        ("config/systemd/spawnstall.service", f"every {watchdog // 2} s (half the timeout)"),
        ("dashboards/alerts.py", f"{budgets[0]} of the budget in 1h, {budgets[1]} in 6h, {budgets[2]} in 1d"),
        ("probes/errpipe.bpf.c", f"{idle // 10**9} s: an older pipe"),
        ("probes/errpipe.bpf.c", f"{forgotten // 10**9} s: an older spawn"),
        ("probes/errpipe.bpf.c", f"{closing // 1000} us: a close"),
        ("probes/errpipe.bpf.c", f"{notice // _MS} ms: minimum time"),
        ("probes/errpipe.h", f"up to {c_constant('errpipe.h', 'BUCKET_0_NS') // 1000} us * 2^b"),
        ("probes/errpipe.h", f"first {len(records.BUCKET_BOUNDS_NS)} ends at {last / 10**9:.0f} s"),
        ("probes/perfbuffer.py", f"all rings together: {perfbuffer._MAX_PAGES * 4096 // 2**20} MiB"),
        ("probes/records.py", f"at most one of a kind in {notice // _MS} ms"),
    ]


def _defaults(parser: argparse.ArgumentParser) -> dict[str, object]:
    return {action.dest: action.default for action in parser._actions}


def _of_alerts() -> list[Fact]:
    slow_ms = f"{float(recordings.SLOW_SPAWN_BUCKET) * 1000:.0f} ms"
    objective = f"{alerts.OBJECTIVE:.0%}".replace("%", " %")
    restart = f"for {_WORDS[int(alerts._RESTART[:-1])]} minutes after"
    lasting = [
        int(each.labels["lasting"][:-1]) for each in alerts.alerts() if each.name == "SpawnStallOngoing"
    ]
    warning, critical = (_WORDS[minutes] for minutes in lasting)
    stalled, stalled_now = _limits(_alert("SpawnStallTimeHigh"))
    [exposures, _zero] = _limits(_alert("SpawnStallExposure"))
    unreachable, absent = (
        _WORDS[_minutes("SpawnStallAgentDown", reason=reason)] for reason in ("unreachable", "absent")
    )
    slow_bucket = re.findall(r'le="([\d.]+)"', _alert("SpawnExecSlow").expr)[0]
    share = float(_limits(_alert("SpawnExecSlow"))[-1])
    [full] = _limits(_alert("SpawnStallAgentBlind", reason="map_nearly_full"))
    allowed = 100 * (1 - alerts.OBJECTIVE)
    [hour, *_] = _ranges("SpawnStallExposure")
    stalled_over, stalled_now_over = _ranges("SpawnStallTimeHigh")
    [slow_over, *_] = _ranges("SpawnExecSlow")
    minute = {60: "each minute"}[recordings.INTERVAL_SECONDS]
    assert alerts._MIN_SPAWNS == 100  # "a hundred"
    return [
        ("dashboards/README.md", f"{objective} of spawns below {slow_ms}"),
        ("dashboards/README.md", f"a program is stuck for {warning} minute, or for {critical}"),
        ("dashboards/README.md", f"called exec for {warning} minute, or for {critical}"),
        ("dashboards/README.md", f"evaluated every {recordings.INTERVAL_SECONDS} seconds"),
        ("dashboards/README.md", f"a simulated fleet of {simulate._HOSTS} hosts"),
        (f"{_RUNBOOKS}/SpawnExecSlow.md", f"In the {slow_over}, more than {share * 100:g} % of the children"),
        (f"{_RUNBOOKS}/SpawnExecSlow.md", f"more than {float(slow_bucket) * 1000:.0f} ms from the fork"),
        (
            f"{_RUNBOOKS}/SpawnExecStuck.md",
            f"a warning after {warning} minute and critical after {critical};",
        ),
        (f"{_RUNBOOKS}/SpawnExecStuck.md", restart),
        (f"{_RUNBOOKS}/SpawnLatencyHigh.md", f"{objective} of a host's spawns take less than {slow_ms}"),
        (f"{_RUNBOOKS}/SpawnLatencyHigh.md", "fewer than a hundred spawns in the long window"),
        *(
            (
                f"{_RUNBOOKS}/SpawnLatencyHigh.md",
                f"| {burn.long} ({burn.short}) | more than {burn.factor * allowed:g} % | {burn.severity} |",
            )
            for burn in alerts._BURNS
        ),
        (f"{_RUNBOOKS}/SpawnStallAgentBlind.md", f"is more than {float(full) * 100:g} % full"),
        (f"{_RUNBOOKS}/SpawnStallAgentBlind.md", f"more than {background.Budget.max_fds:,} in one process"),
        (
            f"{_RUNBOOKS}/SpawnStallOngoing.md",
            f"a warning after {warning} minute and critical after {critical}.",
        ),
        (f"{_RUNBOOKS}/SpawnStallOngoing.md", restart),
        (f"{_RUNBOOKS}/SpawnStallTimeHigh.md", f"In the {stalled_over}, stalls cost"),
        (
            f"{_RUNBOOKS}/SpawnStallTimeHigh.md",
            f"more than {stalled} seconds, and more than {stalled_now} seconds in the {stalled_now_over}",
        ),
        (
            f"{_RUNBOOKS}/SpawnStallExposure.md",
            f"In the {hour}, more than {_WORDS[int(exposures)]} foreign processes",
        ),
        ("config/SIZING.md", f"the rules are evaluated {minute}"),
        (f"{_RUNBOOKS}/SpawnStallAgentDown.md", f"`reason: unreachable`: for {unreachable} minutes,"),
        (f"{_RUNBOOKS}/SpawnStallAgentDown.md", f"`reason: absent`: for {absent},"),
    ]


def _alert(name: str, **labels: str) -> Alert:
    [found] = [
        each for each in alerts.alerts() if each.name == name and labels.items() <= each.labels.items()
    ]
    return found


def _minutes(name: str, **labels: str) -> int:
    [minutes] = re.findall(r"^(\d+)m$", _alert(name, **labels).wait)
    return int(minutes)


def _limits(alert: Alert) -> list[str]:
    """The last number of each comparison in an alert's expression."""
    return re.findall(r" > ([\d.]+)", alert.expr)


def _ranges(name: str) -> list[str]:
    """The ranges in an alert's expression, in words."""
    words = {"1h": "last hour", "15m": "last quarter of an hour"}
    return [words[found] for found in re.findall(r"\[(\w+)\]", _alert(name).expr)]


def _of_the_probes() -> list[Fact]:
    options = loader.Options()
    look = {250_000_000: "a quarter of a second"}[tracer._LOOK_NS]
    notice_ms = tracer._SOONEST_NS // _MS
    exiting_ms = diagnosis._EXITING_NS // _MS
    search_share = {5: "a fifth of a core"}[holdersearch._NEW_SHARE]
    pending = _WORDS[c_constant("errpipe.h", "MAX_PENDING")]
    copies, few = holdersearch._MAX_COPIES, holdersearch._FEW
    sizes = {runtime: size for size, runtime in snapshot._RUNTIMES.items()}
    steps, tail_calls = c_constant("errpipe.bpf.c", "MAX_STEPS"), 33  # MAX_TAIL_CALL_CNT of the kernel
    closing = {10**9: "a second"}[holdersearch._CLOSING_NS]
    return [
        ("probes/LIMITS.md", f"passed to a process less than {closing} after it closed"),
        ("probes/DECISIONS.md", f"does, at most every {notice_ms} ms."),
        ("probes/DECISIONS.md", f"So a ring has up to {options.buffer_pages * 4 // 1024} MiB,"),
        ("probes/DECISIONS.md", f"all together {perfbuffer._MAX_PAGES * 4 // 1024} MiB,"),
        ("probes/DECISIONS.md", f"fast enough for stalls of {notice_ms} ms:"),
        ("probes/LIMITS.md", f"less than about {notice_ms} ms ends before the first look"),
        ("probes/LIMITS.md", f"ends within {diagnosis._LATE_WAKE_NS // _MS} ms after a release"),
        ("probes/LIMITS.md", f"for {exiting_ms} ms, a copy that is counted"),
        ("probes/LIMITS.md", f"made during these {exiting_ms} ms"),
        ("probes/LIMITS.md", f"up to {diagnosis._EXIT_NS // _MS} ms of the wait"),
        ("probes/LIMITS.md", f"at most { ({10: 'a tenth'}[diagnosis._REST_SHARE]) } of the wait"),
        ("probes/LIMITS.md", f"has {holdersearch._BUDGET_NS // 10**9} s of CPU time"),
        ("probes/LIMITS.md", f"takes {copies:,} copies (at least {few} of each pipe)"),
        ("probes/LIMITS.md", f"{background.Budget.max_fds:,} open files of a process"),
        ("probes/LIMITS.md", f"at most {search_share}"),
        ("probes/LIMITS.md", f"found after {readers.SEARCHED_WITHIN_NS // 10**9} s is reported"),
        ("probes/LIMITS.md", f"only waits of at least {look} are reported"),
        ("probes/LIMITS.md", f"stalls of at least {look}"),
        ("probes/LIMITS.md", f"| {options.max_spawns:,} (`max_spawns`) |"),
        ("probes/LIMITS.md", f"| {options.max_processes:,} (`max_processes`) |"),
        ("probes/LIMITS.md", f"| {options.max_comms:,} (`max_comms`) |"),
        ("probes/LIMITS.md", f"| {records.MAX_NUMBERS} (`MAX_NUMBERS`) |"),
        ("probes/LIMITS.md", f"| {records._MAX_ANCESTORS} (`MAX_ANCESTORS`) |"),
        ("probes/LIMITS.md", {10**9: "idle for a second"}[c_constant("errpipe.bpf.c", "IDLE_NS")]),
        ("probes/LIMITS.md", {3600 * 10**9: "without spawns for an hour"}[tracer._UNUSED_NS]),
        ("probes/README.md", f"at most {pending})"),
        ("probes/README.md", f"the latest {_WORDS[records.MAX_RELEASES]}, with time, way and comm"),
        (
            f"{_RUNBOOKS}/SpawnStallAgentBlind.md",
            f"copies of a write end at more than {_WORDS[records.MAX_NUMBERS]} fds",
        ),
        (
            "probes/LIMITS.md",
            f"about {steps * tail_calls // 1000:,},000 (`MAX_STEPS` in each of {tail_calls} tail calls)",
        ),
        ("probes/README.md", f"at most every {notice_ms} ms;"),
        ("probes/ERRPIPES.md", f"The wait is `read(r, buf, {sizes['Python 2.7']})`"),
        ("probes/ERRPIPES.md", f"then `read(r, buf, {sizes['Python 3']})`"),
        ("probes/ERRPIPES.md", f"| `read(r, {sizes['Tcl']})` |"),
        *(("probes/README.md", row) for row in features.table().splitlines() if "---" not in row),
        ("probes/openfiles.py", f"for every {openfiles._MAX_ASKED:,} pipes"),
    ]


def c_constant(file: str, name: str) -> int:
    """Return the number that a C file defines."""
    [value] = re.findall(rf"#define {name} +(\d+)", (_ROOT / "probes" / file).read_text())
    return int(value)


def _of_kernel_features() -> list[Fact]:
    """Since when the kernel has them; their table in probes/README.md is generated."""
    types, types_rhel = _since("the kernel's types", r"([\d.]+) .*, RHEL ([\d.]+)")
    loops, loops_rhel = _since("loops", r"([\d.]+) .*, RHEL ([\d.]+)")
    calls, calls_commit = _since("programs at the tracepoints of system calls", r"([\d.]+) \((\w+)\)")
    several, several_commit = _since("more than one program", r"([\d.]+) \((\w+)\)")
    [execve] = _since("the exit of execve", r"on x86_64 ([\d.]+)")
    [group_dead] = _since("the end of a process", r"([\d.]+)")
    [pipe_read] = _since("a function that reads pipes", r"`anon_pipe_read` since ([\d.]+)")
    [trampolines] = _since("programs at functions", r"`bpf_tramp_image` \(.*RHEL ([\d.]+)\)")
    [iterator, rhel8] = _since("an iterator", r"([\d.]+) .*, RHEL (8[\d.]+)")
    platforms, decisions = "probes/PLATFORMS.md", "probes/DECISIONS.md"
    return [
        ("config/INSTALL.md", f"Before RHEL {types_rhel} the kernel has no BTF"),
        (decisions, f"no BTF before RHEL {types_rhel};"),
        (decisions, f"`anon_pipe_read` since Linux {pipe_read}"),
        ("probes/LIMITS.md", f"no BTF (before Linux {types}, and RHEL before {types_rhel})"),
        ("probes/README.md", f"before Linux {loops} no loops"),
        (platforms, f"* Loops since Linux {loops} (RHEL {loops_rhel})"),
        (platforms, f"that needs Linux {calls} (`{calls_commit}`)"),
        (platforms, f"Before Linux {several} (`{several_commit}`) a tracepoint takes only one program"),
        (platforms, f"Before Linux {execve} x86_64 has no tracepoint at the exit of execve"),
        (platforms, f"`group_dead` since Linux {group_dead}."),
        (platforms, f"| RHEL {trampolines} to 8.10, 9.0 to 9.2, 9.4 to 9.6 | functions |"),
        (platforms, f"RHEL {rhel8} and 9.6: the iterator over open files"),
        ("probes/openfiles.bpf.c", f'("task_file", since Linux {iterator})'),
    ]


def _of_kernels_in_code() -> list[Fact]:
    """The versions that the code and its comments name, most with the commit."""
    errpipe = "probes/errpipe.bpf.c"
    capabilities = _in("agent/host/privileges.py", r"Before Linux ([\d.]+), CAP_SYS_ADMIN is needed")
    maps = _in("agent/host/privileges.py", r"before Linux ([\d.]+) \(commit c8644cd0efe7\)")
    stack = _in(errpipe, r"Before ([\d.]+) \(commit d71962f3e627\)")
    padding = _in(errpipe, r"before ([\d.]+) the verifier rejects a structure")
    index = _in(errpipe, r"Before ([\d.]+) \(commit f1174f77b50c\)")
    null = _in("probes/release.bpf.c", r"Before ([\d.]+) \(commit cc2b14d51053\)")
    [oldest] = _since("the tracepoints of dup", r"^([\d.]+)")
    right = _in("probes/loader.py", r"boot a later kernel, such as RHEL ([\d.]+)'s")
    readme, install = "probes/README.md", "config/INSTALL.md"
    return [
        (".github/SECURITY.md", f"`BPF` (before Linux {capabilities} `SYS_ADMIN`)"),
        (".github/SECURITY.md", f"reading the maps needs it (before Linux {maps};"),
        (install, f"Linux before {capabilities} does not have them"),
        (install, f"nodes with Linux before {capabilities} (RHEL 8)"),
        (install, f"read the maps without it: Linux {maps} and later"),
        (readme, f"Before Linux {stack} a program inserts a value"),
        (readme, f"before Linux {padding} the verifier rejects one"),
        (readme, f"Before Linux {null} the verifier takes a null pointer"),
        (readme, f"Before Linux {index} an index is never truncated"),
        ("probes/DECISIONS.md", f"serves all kernels from Linux {oldest} on"),
        ("probes/PLATFORMS.md", f"fixed in RHEL {right}"),
    ]


def _of_kernels_that_were_tried() -> list[Fact]:
    """Those of the build machine and of the columns of recorded results."""
    host = ".".join(read(f"{FOLDER}/random.json").kernel.split(".")[:2])
    header = read(f"{FOLDER}/kernels.json").tables["Cases by kernel"].header
    debian = [re.fullmatch(r"([\d.]+) \((Debian .*)\)", column) for column in header]
    [mainline] = [column.split()[0] for column in header if "mainline" in column]
    arm64 = [column.split("-")[0] for column in header if column.endswith("-arm64")]
    platforms, kernels = "probes/PLATFORMS.md", "tests/kernels/README.md"
    return [
        ("config/INSTALL.md", f"on x86_64 and Linux {host} unless"),
        ("probes/ERRPIPES.md", f"Seen with strace and eBPF on Linux {host} and"),
        (platforms, f"Debian 12 with Linux {host} (two cores"),
        (platforms, f"in Linux {host} `sched_process_fork` has"),
        (platforms, f"Mainline Linux {mainline}, built from source"),
        (kernels, f"* Linux {mainline} is mainline, built from source"),
        (kernels, f"and {arm64[-1]}, on `qemu-system-aarch64`"),
        *((platforms, f"Linux {found[1]} ({found[2]}) |") for found in debian if found),
        *(
            (platforms, f"| {found[2]} (Linux {found[1]})")
            for found in debian
            if found and "testing" not in found[2]
        ),
    ]


def _in(file: str, pattern: str) -> str:
    """The group of a pattern that occurs once in a file of the code."""
    [found] = set(re.findall(pattern, (_ROOT / file).read_text()))
    return str(found)


def _since(feature: str, pattern: str) -> Sequence[str]:
    """The groups of a pattern in what probes/features.py says of a feature."""
    [since] = [each.since for each in features.FEATURES if each.name.startswith(feature)]
    found = re.search(pattern, since)
    assert found, since
    return found.groups()


def _of_hosts() -> list[Fact]:
    """What installation and sizing depend on."""
    config = agentfile.Config()
    parts = series_by_part(FakeSource())
    pairs = metrics._PAIRS_PER_LABEL * config.labels.limit
    options = fleet._options([])
    kinds = fleet._kinds(options.agents, options.busy, options.worst)
    counts = {kind: kinds.count(kind) for kind in KINDS}
    comms = " | ".join(str(kind.comms) for kind in KINDS)
    stalls = " | ".join(str(kind.stalls) for kind in KINDS)
    shares = [f"{counts[kind] * 100 / len(kinds):g} %" for kind in KINDS]
    triples = sum(kind.stalls * count for kind, count in counts.items())
    hours = f"{measure.RANGE_SECONDS // 3600} h"
    agents = {1000: "a thousand"}[options.agents]
    sizing, bench = "config/SIZING.md", "tests/bench/README.md"
    return [
        (sizing, f"{parts['comm']} for each comm that spawns"),
        (sizing, f"{parts['comm, holder, cause']} for each (comm, holder, cause)"),
        (sizing, f"{_WORDS[metrics._PAIRS_PER_LABEL]} times `labels.limit`"),
        (sizing, f"at most {pairs} pairs with {_WORDS[len(Cause)]} causes each"),
        (sizing, f"{pairs * len(Cause) * parts['comm, holder, cause']:,} series of stalls"),
        (sizing, f"| comms that spawn | {comms} |"),
        (sizing, f"| (comm, holder, cause) that stalled | {stalls} |"),
        (sizing, f"({shares[0]} quiet, {shares[1]} busy, {shares[2]} at `labels.limit`)"),
        (sizing, f"every {options.interval} s, with"),
        (sizing, f"what Prometheus needs for {agents} or ten thousand of them"),
        (sizing, f"## {agents.capitalize()} hosts"),
        (sizing, f"`make bench-fleet` scrapes {agents} simulated agents"),
        (sizing, f"The fleet has {triples:,} (comm, holder, cause)"),
        (sizing, f"within {options.patience} s."),
        (bench, f"| {agents} simulated agents and one Prometheus:"),
        (bench, f"interval is {options.interval} s (`--interval`)"),
        (bench, f"{hours} are not scraped"),
        (bench, f"with the {options.points} points that Grafana requests for {hours}"),
        (bench, f"are read as {hours} contain"),
        (bench, f"with a timeout of {options.patience} s"),
    ]


def _of_tests() -> list[Fact]:
    [cpus] = CPUS.values()
    theatre, kernels = "tests/theatre/README.md", "tests/kernels/README.md"
    runs = _test_constant("live/test_gate.py", r'"GATE_RUNS", "(\d+)"')
    crowd = int(_test_constant("live/test_faults_host.py", r"_PROCESSES = (\d+)"))
    scrapes = _test_constant("live/test_faults_http.py", r"_watched\(agent\), ThreadPoolExecutor\((\d+)\)")
    spawns, pids = (
        _test_constant("live/test_faults_host.py", rf'"--{name}", "(\d+)"') for name in ("spawns", "pids")
    )
    idle_ns = int(_test_constant("theatre/check.py", r"_IDLE_NS = ([\d_]+)"))
    instructions = int(_test_constant("live/test_old_verifiers.py", r"_INSTRUCTIONS = (\d+)"))
    soak = {1_000_000: "a million"}[int(_test_constant("soak_spawns.py", r'"--spawns".*default=([\d_]+)'))]
    error = {1: "a second"}[int(_test_constant("kernels/inside.py", r'"TEST_TOLERANCE_SECONDS"\] = "(\d+)"'))]
    walked = int(_test_constant("live/test_old_verifiers.py", r"_WALKED = (\d+)"))
    return [
        ("tests/README.md", f"20 times instead of {runs}."),
        ("tests/README.md", f"| {spawns} spawns with {pids} PIDs:"),
        ("tests/README.md", f"({crowd:,} holders of one errpipe)"),
        ("tests/README.md", f"`make soak-spawns`: {soak} spawns beside an agent"),
        ("tests/README.md", f"| {soak} spawns |"),
        (kernels, f"allow an error of {error} (`TEST_TOLERANCE_SECONDS`)"),
        ("tests/README.md", f"| {scrapes} scrapes at once"),
        (kernels, f"emulates {cpus} CPUs and has"),
        (theatre, f"except for the {diagnosis._LATE_WAKE_NS // _MS} ms"),
        (theatre, f"({diagnosis._EXIT_NS // _MS} ms after an exit)"),
        (theatre, f"has had a copy for {idle_ns / 10**9:g} s |"),
        ("probes/README.md", f"has at most {instructions:,} instructions"),
        ("probes/README.md", f"give up after {walked:,} instructions"),
        ("probes/PLATFORMS.md", f"no BTF; at most {instructions:,} instructions"),
        ("probes/PLATFORMS.md", f"at most {instructions:,} instructions before Linux 5.2"),
    ]


def _test_constant(file: str, pattern: str) -> str:
    """A number in a test, which is read and not imported: it may need what is not installed."""
    [number] = re.findall(pattern, (_ROOT / "tests" / file).read_text())
    return str(number).replace("_", "")
