# SPDX-License-Identifier: Apache-2.0
"""Sentences, or parts of them, whose numbers come from elsewhere, or are held by a test of their own.

Add one only if no constant of the code and no recorded result has the number.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EXTERNAL", "External"]


class External(NamedTuple):
    """source: a test or code that shows it, by its path, or a published source."""

    document: str
    source: str
    sentences: tuple[str, ...]


_ERRPIPES = "probes/ERRPIPES.md"
_FDS = "POSIX: standard input, output and error are the fds 0, 1 and 2"
_MISPLACED = "seen on RHEL 9.3; tests/unit/probes/test_features.py finds it in the kernel's types"
_STATUSES = "RFC 9110 for the meaning; tests/unit/serve/test_web.py for the use"

EXTERNAL = (
    # -- exit statuses --
    External(
        "README.md", "tests/live/test_snapshot_pythons.py", ("is 0 if nothing hangs and 1 if a thread does",)
    ),
    External(
        "agent/cli/TRACE-POPEN.md",
        "tests/live/test_snapshot_pythons.py; 2 in main of agent/snapshot.py",
        ("0 if nothing hangs, 1 if a thread does, 2 if the process cannot be looked at",),
    ),
    External(
        "agent/cli/TRACE-POPEN.md",
        "tests/unit/cli/test_command.py",
        ("| 0 | success |", "128 + N if signal N"),
    ),
    External(
        "agent/cli/TRACE-POPEN.md", "tests/unit/test_pytestplugin.py", ("exits with status 1 if a test",)
    ),
    External("tests/README.md", "tests/live/test_faults_files.py", ("one line with the name, status 2,",)),
    External("dashboards/runbooks/SpawnExecStuck.md", "signal(7): SIGKILL is 9", ("`returncode` -9",)),
    # -- HTTP --
    External(
        "agent/serve/HTTP.md",
        _STATUSES,
        (
            "200 while the agent traces, otherwise 503",
            "the others get 503",
            "503: too many clients",
            "503: no thread",
            "421, 403: see",
            "| 401 |",
            "`Sec-Fetch-Site`) get 403",
            "other names get 421",
        ),
    ),
    External(
        ".github/SECURITY.md",
        _STATUSES,
        ("few wait, the rest get 503", "the client waits or gets 503", "eight wait, the rest get 503"),
    ),
    External("agent/serve/HTTP.md", "RFC 1122", ("point its own name to 127.0.0.1",)),
    External(
        "agent/serve/HTTP.md",
        "tests/unit/settings/test_webfile.py; TLS10 and TLS11 in agent/settings/webfile.py",
        ("HTTP/2,", "TLS before 1.2"),
    ),
    # -- what values of metrics and keys mean --
    External(
        "agent/serve/METRICS.md",
        "tests/unit/serve/test_metrics.py",
        (
            "count from 0 if it returns",
            "0 if there is none",
            "1 if the start-up self-test passed",
            "0 if a tracepoint or kernel function did not accept its program",
            "`spawnstall_bpf_stats_enabled` is 1 |",
            "1 while the sysctl",
            "0 after an invalid file",
            "kernel, bcc | 1 |",
        ),
    ),
    External(
        "agent/reports/JSON.md",
        "tests/unit/reports/test_objects.py",
        ("if it is not 0, stalls may be missing", "99 % of the spawns", "of the 99th percentile"),
    ),
    # -- installation --
    External(
        "config/INSTALL.md",
        "tests/e2e/test_container.py",
        ("has at most 440 MB", "as uid 65532"),
    ),
    External("config/INSTALL.md", "tests/unit/project/test_fleet_files.py", ("must be at most 3.0",)),
    External(
        "config/SIZING.md",
        "tests/unit/project/test_documents.py",
        ("| series | 451 | 2,033 | 21,021 |", "A host has about 120 series", "about 120 series a host"),
    ),
    # -- other projects --
    External(
        "probes/DECISIONS.md", "https://json-schema.org/draft/2020-12", ("does not know draft 2020-12",)
    ),
    External(
        "probes/DECISIONS.md",
        _MISPLACED,
        ("says that fd is at 16, and the argument is at 24",),
    ),
    External("probes/PLATFORMS.md", _MISPLACED, ("says fd at 16, but the argument is at 24",)),
    External("probes/LIMITS.md", "syscall(2)", ("a 32-bit system call",)),
    # -- runtimes and pipes --
    External(_ERRPIPES, _FDS, ("never has a copy on fd 0 to 2", "puts a copy on fd 1, which survives")),
    External("probes/README.md", _FDS, ("puts a copy on fd 0 to 2",)),
    External(
        _ERRPIPES,
        "tests/runtimes/test_runtimes.py",
        ("returns 4 bytes, a *second* read", "moves its copy to fd 3"),
    ),
    External(_ERRPIPES, "fork(2)", ("returns from clone or vfork, with 0.",)),
    External(_ERRPIPES, "pipe_read in jobs.c of bash", ("the *child* reads one byte",)),
    External(
        "probes/PLATFORMS.md",
        "c04c0d2b968a, bpf: increase complexity limit and maximum program size",
        ("BTF, trampolines, a million instructions",),
    ),
    # -- tests --
    External(".github/CONTRIBUTING.md", "seen on the build machine", ("It takes a minute once",)),
    External(
        "tests/kernels/README.md",
        "seen when tests/bench/recorded/kernels.json was written",
        ("A kernel takes about a quarter of an hour on two cores",),
    ),
    External("tests/bench/README.md", "tests/bench/fleet/measure.py", ("in the second half of the",)),
    # -- conventions --
    External(".github/CONTRIBUTING.md", "a convention", ("in at most 72 characters",)),
    External("tests/bench/README.md", "seen in a run with the defaults", ("needs 8 GB of memory",)),
    External(
        "tests/README.md",
        "an example",
        ("`GATE_RUNS=20` makes `live/test_gate.py` repeat its programs 20 times",),
    ),
)
