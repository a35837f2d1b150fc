# SPDX-License-Identifier: Apache-2.0
"""Sentences, or parts of them, whose numbers come from elsewhere, or are held by a test of their own.

Add one only if no constant of the code and no recorded result has the number.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EXTERNAL", "External"]


class External(NamedTuple):
    """source: tests that have the numbers, as ``path::name``; a file, by its path; or what is published."""

    document: str
    source: str
    sentences: tuple[str, ...]


_ERRPIPES = "probes/ERRPIPES.md"
_FDS = "POSIX: standard input, output and error are the fds 0, 1 and 2"
_FEATURES = "tests/unit/probes/test_features.py"
_RHEL_KERNELS = "https://access.redhat.com/articles/3078: the releases of RHEL and their kernels"
_5_2 = "c04c0d2b968a, bpf: increase complexity limit and maximum program size"
_MISPLACED = f"seen on RHEL 9.3; {_FEATURES}::test_arguments_that_are_elsewhere_than_the_format_says"
_PYTHONS = "tests/live/test_snapshot_pythons.py"
_SNAPSHOT = f"{_PYTHONS}::test_nothing_hangs, {_PYTHONS}::test_waits"
_WEB = "tests/unit/serve/test_web.py"
_METRICS = "tests/unit/serve/test_metrics.py"
_OBJECTS = "tests/unit/reports/test_objects.py"
_BUSY = f"{_WEB}::test_too_many_waiting_clients_get_a_503, {_WEB}::test_the_number_of_busy_threads_is_bounded"

EXTERNAL = (
    # -- exit statuses --
    External("README.md", _SNAPSHOT, ("is 0 if nothing hangs and 1 if a thread does",)),
    External(
        "agent/cli/TRACE-POPEN.md",
        "main of agent/snapshot.py",
        ("0 if nothing hangs, 1 if a thread does, 2 if the process cannot be looked at",),
    ),
    External(
        "agent/cli/TRACE-POPEN.md",
        "tests/unit/cli/test_command.py::test_exit_status_is_passed_on,"
        " tests/unit/cli/test_command.py::test_killed_command_has_the_status_that_a_shell_reports",
        ("| 0 | success |", "128 + N if signal N"),
    ),
    External(
        "agent/cli/TRACE-POPEN.md",
        "tests/unit/test_pytestplugin.py::test_the_status_fails_as_the_gate_of_trace_popen",
        ("exits with status 1 if a test",),
    ),
    External(
        "tests/README.md",
        "tests/live/test_faults_files.py::test_full_device",
        ("one line with the name, status 2,",),
    ),
    External("dashboards/runbooks/SpawnExecStuck.md", "signal(7): SIGKILL is 9", ("`returncode` -9",)),
    # -- HTTP --
    External("agent/serve/HTTP.md", f"{_WEB}::test_healthz", ("200 while the agent traces, otherwise 503",)),
    External("agent/serve/HTTP.md", _BUSY, ("the others get 503", "503: too many clients", "503: no thread")),
    External(
        "agent/serve/HTTP.md",
        f"{_WEB}::test_a_foreign_host_name_on_the_loopback_is_refused,"
        f" {_WEB}::test_requests_for_pages_of_other_sites_are_refused",
        ("421, 403: see", "`Sec-Fetch-Site`) get 403", "other names get 421"),
    ),
    External("agent/serve/HTTP.md", f"{_WEB}::test_users", ("| 401 |",)),
    External(
        ".github/SECURITY.md",
        _BUSY,
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
        f"{_METRICS}, where a series ends and returns",
        ("count from 0 if it returns",),
    ),
    External("agent/serve/METRICS.md", f"{_METRICS}::test_stalls_in_progress", ("0 if there is none",)),
    External(
        "agent/serve/METRICS.md",
        f"{_METRICS}::test_self_test",
        ("1 if the start-up self-test passed",),
    ),
    External(
        "agent/serve/METRICS.md",
        f"{_METRICS}::test_probes_and_their_run_time",
        (
            "0 if a tracepoint or kernel function did not accept its program",
            "`spawnstall_bpf_stats_enabled` is 1 |",
            "1 while the sysctl",
        ),
    ),
    External(
        "agent/serve/METRICS.md",
        f"{_METRICS}::test_reloads_of_the_configuration",
        ("0 after an invalid file",),
    ),
    External("agent/serve/METRICS.md", f"{_METRICS}::test_build_info", ("kernel, bcc | 1 |",)),
    External(
        "agent/reports/JSON.md",
        f"{_OBJECTS}::test_an_empty_summary",
        ("if it is not 0, stalls may be missing",),
    ),
    External(
        "agent/reports/JSON.md",
        f"{_OBJECTS}::test_quantiles",
        ("99 % of the spawns", "of the 99th percentile"),
    ),
    # -- installation --
    External(
        "config/INSTALL.md",
        "tests/e2e/test_container.py::test_what_is_in_the_image",
        ("has at most 440 MB",),
    ),
    External(
        "config/INSTALL.md",
        "tests/e2e/test_container.py::test_as_the_quadlet_starts_it",
        ("as uid 65532",),
    ),
    External(
        "config/SIZING.md",
        "tests/unit/project/test_documents.py, the test of this page",
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
        "strace of the programs in tests/programs/runtimes",
        ("returns 4 bytes, a *second* read", "moves its copy to fd 3"),
    ),
    External(_ERRPIPES, "fork(2)", ("returns from clone or vfork, with 0.",)),
    External(_ERRPIPES, "pipe_read in jobs.c of bash", ("the *child* reads one byte",)),
    External(
        "probes/PLATFORMS.md",
        "c04c0d2b968a, bpf: increase complexity limit and maximum program size",
        ("BTF, trampolines, a million instructions",),
    ),
    # -- kernels --
    External(
        "probes/PLATFORMS.md",
        _RHEL_KERNELS,
        (
            "eBPF since Linux 3.10.0-957",
            "RHEL 8.1 (Linux 4.18.0-147)",
            "RHEL 8.10 (Linux 4.18.0-553.66.1)",
            "RHEL 9.3 (Linux 5.14.0-362.24.1)",
            "RHEL 9.6 (Linux 5.14.0-570.32.1)",
        ),
    ),
    External(
        "probes/PLATFORMS.md",
        "the sources from which these kernels were built",
        ("Linux 3.10 (RHEL 7.7 and 7.9 source)", "Linux 4.18 (RHEL 8.1 source)"),
    ),
    External(
        "tests/kernels/README.md",
        _RHEL_KERNELS,
        ("(Linux 4.18.0-147), Linux 3.10", "(Linux 3.10.0-1062, with"),
    ),
    External(
        "tests/kernels/README.md",
        "the messages of the runs in tests/bench/recorded/kernels.json",
        (
            "Linux 4.18 was built from",
            "Linux 3.10 has no tracepoint at the exit of execve",
            'functions" failed on Linux 3.10 because',
        ),
    ),
    External("tests/kernels/README.md", "tests/kernels/architectures.py", ("arm64 kernels, Linux 6.1 and",)),
    External("config/INSTALL.md", _RHEL_KERNELS, ("Linux 3.10.0-957 and later have eBPF",)),
    External(
        "config/INSTALL.md",
        "capabilities(7): CAP_BPF is of Linux 5.8, and RHEL 8's kernel is 4.18",
        ("Linux 4.18 does not have CAP_BPF",),
    ),
    External(
        ".github/SECURITY.md",
        "seen on Debian 11's kernel in an emulated machine",
        ("observed on Linux 5.10)",),
    ),
    External(
        "probes/DECISIONS.md",
        "457f44363a88, bpf: Implement BPF ring buffer and verifier support for it",
        ("ring buffer needs Linux 5.8;",),
    ),
    External(
        "probes/PLATFORMS.md",
        "6ae08ae3dea2, bpf: Add probe_read_{user, kernel} and probe_read_{user, kernel}_str helpers",
        ("`bpf_probe_read_user` since Linux 5.5",),
    ),
    External("probes/PLATFORMS.md", _5_2, ("at most 4,096 instructions before Linux 5.2;",)),
    External("probes/README.md", _5_2, ("Before Linux 5.2 a program has at most 4,096 instructions",)),
    External(
        "probes/PLATFORMS.md",
        "https://lore.kernel.org/bpf/20201201215900.3569844-1-guro@fb.com",
        ("counts before Linux 5.11 (",),
    ),
    External(
        "probes/README.md",
        "e9a53aeb5e0a, bpf/task_iter: In task_file_seq_get_next use task_lookup_next_fd_rcu",
        ("(before Linux 5.11 also to the fd table)",),
    ),
    External(
        "probes/README.md",
        "seen on Debian 13's kernel in an emulated machine, by the case 'at functions'",
        ("attached alike: Linux 6.12 compares the types",),
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
