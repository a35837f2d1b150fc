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
_RHEL_PACKAGES = "https://docs.redhat.com: the package manifests of RHEL 9 and 10; EPEL"
_RUNBOOKS = "dashboards/runbooks"
_5_2 = "c04c0d2b968a, bpf: increase complexity limit and maximum program size"
_MISPLACED = f"seen on RHEL 9.3; {_FEATURES}::test_arguments_that_are_elsewhere_than_the_format_says"
_PYTHONS = "tests/live/test_snapshot_pythons.py"
_BOOKWORM = "https://packages.debian.org/bookworm"
_BUILD = "the build machine, where .ci/run runs"
_SNAPSHOT = f"{_PYTHONS}::test_nothing_hangs, {_PYTHONS}::test_waits"
_WEB = "tests/unit/serve/test_web.py"
_METRICS = "tests/unit/serve/test_metrics.py"
_OBJECTS = "tests/unit/reports/test_objects.py"
_BUSY = f"{_WEB}::test_too_many_waiting_clients_get_a_503, {_WEB}::test_the_number_of_busy_threads_is_bounded"
_CLOEXEC = "PEP 446; https://pypi.org/project/subprocess32"
_VFORK = "subprocess: vfork since Python 3.10; probes/ERRPIPES.md"
_THREADS = "https://docs.python.org/3.14/whatsnew/3.14.html: names of threads"
_BULLSEYE = "seen on Debian 11's kernel in an emulated machine"

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
        _5_2,
        ("BTF, trampolines, a million instructions",),
    ),
    # -- Python --
    External(
        ".github/CONTRIBUTING.md",
        "test-pythons in the Makefile; tests/live/test_snapshot_pythons.py",
        (
            "works on Python 3.9, `agent/snapshot.py` on Python 3.6",
            "unit tests on Python 3.9, if PATH",
            "and on Python 3.14.",
        ),
    ),
    External(
        "tests/README.md",
        "test-pythons in the Makefile; tests/python27.py; tests/unpackedpython.py",
        (
            "a Python 2.7 for the original program, a Python 3.14, and",
            "on Python 3.9 with the oldest libraries",
            "and on Python 3.14 (",
        ),
    ),
    External(
        "README.md",
        _PYTHONS,
        (
            "host with Python 3.6 or later",
            "has only Python 2.7, such as CentOS 7",
        ),
    ),
    External("README.md", "config/setup.sh uses any", ("with Python 3, git and make",)),
    External("agent/README.md", _PYTHONS, ("file for Python 3.6 that",)),
    External(
        "agent/cli/TRACE-POPEN.md",
        _PYTHONS,
        (
            "one file for Python 3.6 and later",
            "also runs on Python 2.7.",
        ),
    ),
    External("config/README.md", _PYTHONS, ("for Python 2.7 as well",)),
    External(
        "config/INSTALL.md",
        _PYTHONS,
        (
            "Python 2.7 and 3.6 | objects",
            "host with Python 2.7 only (CentOS 7)",
        ),
    ),
    External("config/INSTALL.md", "config/deb/rules and dh_python3(1)", ("serves every Python 3:",)),
    External(
        "probes/PLATFORMS.md",
        "pyproject.toml; tests/live/test_snapshot_pythons.py",
        ("code runs on Python 3.9 and later, `agent/snapshot.py` on Python 3.6",),
    ),
    External(
        "agent/cli/TRACE-POPEN.md",
        "tests/unit/host/test_pyspy.py",
        (
            "stacks of Python 2.7 and 3, captured",
            "(Python before 3.11)",
        ),
    ),
    External(
        "agent/reports/JSON.md",
        _THREADS,
        ("name of its own (Python 3.14)",),
    ),
    External(
        _ERRPIPES,
        _THREADS,
        ("Since Python 3.14 threads have",),
    ),
    External(
        _ERRPIPES,
        "tests/runtimes/test_cpythons.py",
        (
            "| Python 2.7, 3.6 |",
            "| Python 3.8, 3.9 |",
            "| Python 3.10 to 3.12 |",
            "| Python 3.13 |",
        ),
    ),
    External(
        _ERRPIPES,
        "subprocess.py of these versions",
        (
            "was not close-on-exec (Python 2.7)",
            "### Python 2.7",
            "### Python 3",
            "Python 3 closes them before",
            "the race of Python 2.7",
            "(since Python 3.11; earlier",
        ),
    ),
    External(_ERRPIPES, "tests/python27.py", ("unpacks a Python 2.7 from",)),
    External(
        "tests/runtimes/README.md",
        "tests/runtimes/test_cpythons.py",
        (
            "| CPython 2.7 to 3.13 |",
            "by default since Python 3.13, with `close_fds=False` since Python 3.8",
        ),
    ),
    External(
        "README.md",
        _CLOEXEC,
        ("close-on-exec (Python 2.7) | `close_fds=True`, subprocess32, Python 3",),
    ),
    External(
        f"{_RUNBOOKS}/SpawnStallExposure.md",
        _CLOEXEC,
        ("subprocess32 or Python 3 instead of Python 2.7's",),
    ),
    External(
        f"{_RUNBOOKS}/SpawnStallOngoing.md",
        _CLOEXEC,
        ("subprocess32 or Python 3 instead of Python 2.7's",),
    ),
    External(
        f"{_RUNBOOKS}/SpawnStallTimeHigh.md",
        _CLOEXEC,
        ("subprocess32 or Python 3 instead of Python 2.7's",),
    ),
    External(
        f"{_RUNBOOKS}/SpawnExecSlow.md",
        _VFORK,
        ("vfork (Python 3.10 and later",),
    ),
    External(
        f"{_RUNBOOKS}/SpawnExecStuck.md",
        _VFORK,
        ("fork hooks (Python 3.10 and later",),
    ),
    External("dashboards/README.md", "dashboards/__init__.py says so", ("Needs Python 3.11.",)),
    External(
        "tests/kernels/README.md",
        "Debian 12's Python, tests/kernels/architectures.py",
        ("must be of Python 3.11",),
    ),
    # -- RHEL --
    External("README.md", "no RHEL is at hand", ("(RHEL 9 should work but is untested)",)),
    External(
        "agent/cli/TRACE-POPEN.md",
        "RHEL 7.6 has the first eBPF; tests/live/test_rhel93.py",
        ("(RHEL 7.5 and earlier, RHEL 9.3 on aarch64)",),
    ),
    External(
        "config/INSTALL.md",
        "RHEL 8 has Python 3.6, RHEL 7 Python 2.7",
        (
            "| RHEL 8 |",
            "CentOS 7.6 to 7.9 |",
            "## RHEL 8",
            "## RHEL and CentOS 7.6 to 7.9",
        ),
    ),
    External("config/INSTALL.md", "tests/roots/test_packages.py", ("versions of RHEL 9 and EPEL 9",)),
    External(
        "config/INSTALL.md",
        "bcc's version in RHEL 9.3, config/rpm/spawnstall.spec",
        (
            "bcc 0.26 (RHEL 9.3)",
            "RHEL 9.3 and later, RHEL 10, Debian 13.",
        ),
    ),
    External(
        "probes/DECISIONS.md",
        "sources and configurations of RHEL's kernels: see probes/PLATFORMS.md",
        ("RHEL 8.3, with BTF and trampolines",),
    ),
    External("probes/DECISIONS.md", _MISPLACED, ("On RHEL 9.3 the format file",)),
    External("probes/DECISIONS.md", _RHEL_PACKAGES, ("packages of RHEL 9 and EPEL 9.",)),
    External("probes/README.md", _MISPLACED, ("format files say (RHEL 9.3)",)),
    External(
        "probes/PLATFORMS.md",
        _MISPLACED,
        (
            "| RHEL 9.3 | the format file",
            "| RHEL 9.3 | functions",
        ),
    ),
    External(
        "probes/PLATFORMS.md",
        _RHEL_PACKAGES,
        (
            "RHEL 9 has Python 3.9, RHEL 10 Python 3.12;",
            "RHEL 9 and EPEL 9 have",
        ),
    ),
    External(
        "probes/PLATFORMS.md",
        "sources and configurations of these kernels, as the page says",
        (
            "| RHEL 7.6 | eBPF",
            "| RHEL 8.3, 8.4 | BTF",
            "| RHEL 7.6 to 7.9, 8.0 to 8.2 | tracepoints",
            "types (RHEL 8 only)",
            "| RHEL 8.3, 8.4 | tracepoints",
            "| RHEL 10 | functions",
        ),
    ),
    External(
        "probes/PLATFORMS.md",
        "the runs on kernels that were built from these sources",
        ("on x86_64 RHEL 8.1, 8.7, 8.10, 9.3, 9.6 and",),
    ),
    External(
        "probes/PLATFORMS.md", "https://github.com/aquasecurity/btfhub", ("kernels of CentOS 7 and 8 that",)
    ),
    External(
        "tests/kernels/README.md",
        _RHEL_KERNELS,
        (
            "built from RHEL 8.1's source",
            "RHEL 7.8's (Linux",
        ),
    ),
    # -- other systems and products --
    External(".github/CONTRIBUTING.md", _BUILD, ("on Debian 12 with `git`",)),
    External("README.md", _BUILD, ("On Debian 12 (RHEL 9",)),
    External("config/INSTALL.md", _BUILD, ("needs a checkout on Debian 12,",)),
    External(
        "config/INSTALL.md",
        "tests/roots/test_packages.py",
        (
            "| RPM | Debian 12 and 13, by",
            "| deb | Debian 12 and 13 | as",
            "| wheel | Debian 12 and 13, with",
            "RHEL, CentOS Stream 9 and 10, Fedora",
        ),
    ),
    External("config/INSTALL.md", "tests/live/test_wheel.py", ("Debian 12, with the newest libraries",)),
    External("config/INSTALL.md", "tests/live/test_service.py", ("| systemd unit | Debian 12, without",)),
    External(
        "config/INSTALL.md",
        "tests/roots/test_ansible.py",
        (
            "| Debian 12, without systemd | install",
            "Tried in a root of Debian 12",
        ),
    ),
    External(
        "config/INSTALL.md", "tests/e2e/test_container.py", ("| image, Debian 12 | podman 4.3, cgroup",)
    ),
    External(
        "config/INSTALL.md",
        "config/rpm/Containerfile",
        (
            "image, CentOS Stream 9 |",
            "For an image of CentOS Stream 9 with",
        ),
    ),
    External(
        "config/INSTALL.md",
        "https://packages.ubuntu.com/noble/python3-bpfcc: 0.29, and we require 0.26",
        ("Debian 12 and later, Ubuntu 24.04 and later",),
    ),
    External(
        "config/INSTALL.md", "config/ansible/roles/spawnstall/meta/main.yml", ("needs ansible-core 2.14 or",)
    ),
    External(
        "config/INSTALL.md",
        "kubeVersion in config/helm/Chart.yaml; tests/e2e/test_helm.py",
        (
            "Kubernetes 1.30 or later",
            "with Helm 3 or 4",
            "with helm 3 and helm 4",
        ),
    ),
    External(
        "config/SIZING.md",
        "Debian 12's Prometheus, which config/setup.sh installs",
        ("with one Prometheus 2.42 every",),
    ),
    External("dashboards/README.md", "grafana-foundation-sdk in pyproject.toml", ("(Grafana 11 and later)",)),
    External(
        "dashboards/README.md",
        "https://github.com/prometheus/prometheus/releases/tag/v2.42.0: keep_firing_for",
        ("rules need Prometheus 2.42;",),
    ),
    External(
        "dashboards/README.md",
        "https://grafana.com/docs/grafana/latest/whatsnew/whats-new-in-v12-0",
        ("Grafana before version 12 ignores",),
    ),
    External(
        "dashboards/README.md",
        "https://github.com/google/jsonnet/releases/tag/v0.18.0",
        ("(jsonnet 0.18 or later",),
    ),
    External(
        "probes/DECISIONS.md",
        _BULLSEYE,
        ("Debian 11's kernel has it",),
    ),
    External(
        "tests/kernels/README.md",
        _BULLSEYE,
        ("Debian 11's kernel refuses access",),
    ),
    External(
        "probes/DECISIONS.md",
        _RHEL_PACKAGES,
        (
            "They have pydantic 1.10, whose",
            "and jsonschema 3.2, which",
        ),
    ),
    External(
        "probes/DECISIONS.md",
        "https://docs.pydantic.dev/latest/migration",
        (
            "those of pydantic 2,",
            "pydantic 1 and 2 side",
        ),
    ),
    External(
        _ERRPIPES,
        _BOOKWORM,
        (
            "and glibc 2.36, unless",
            "| Go 1.19 |",
            "| Ruby 3.1 |",
            "| Java 17, default",
        ),
    ),
    External(
        _ERRPIPES,
        "https://github.com/nodesource/distributions: what the build machine has",
        ("| Node 20 |",),
    ),
    External(_ERRPIPES, "tests/python27.py, from Debian 11", ("from Debian 11's packages",)),
    External(
        "probes/PLATFORMS.md",
        "the kernels were built and run on Debian 12, whose bcc is 0.26",
        ("SELinux and lockdown, bcc 0.26:",),
    ),
    External(
        "probes/PLATFORMS.md",
        "tests/bench/recorded/kernels.json: arm64, and its runs",
        ("on aarch64 Debian 12 and 13.",),
    ),
    External(
        "probes/PLATFORMS.md",
        "tried by hand, see the message of commit e6afd2a",
        (
            "bcc 0.26, 0.31 and 0.35 compile",
            "what LLVM 14 to 21 makes",
        ),
    ),
    External("probes/PLATFORMS.md", "tests/live/test_compiler.py", ("tries Debian 13's)",)),
    External(
        "probes/PLATFORMS.md",
        "https://packages.ubuntu.com/jammy/python3-bpfcc; https://packages.debian.org/bullseye: libbpfcc",
        (
            "bcc 0.18 (Debian 11, Ubuntu 22.04) reads",
            "its LLVM 11 crashes",
        ),
    ),
    External("probes/PLATFORMS.md", _BOOKWORM, ("podman 4.3's default does not",)),
    External(
        "probes/PLATFORMS.md",
        _RHEL_PACKAGES,
        ("have PyYAML 5.4, Jinja2 2.11, prometheus_client 0.21, rich 13.1 and bcrypt 3.2.2,",),
    ),
    External("tests/README.md", "tests/debian.py, from trixie", ("Debian 13's bcc;",)),
    External(
        "tests/bench/README.md", _BOOKWORM, ("bpftrace 0.17, libbpf-tools 0.26, strace 6.1, perf 6.1.",)
    ),
    External("tests/kernels/README.md", "tests/kernels/architectures.py", ("root is Debian 12 for",)),
    External("tests/kernels/README.md", _BOOKWORM, ("Debian's gcc 11, and", "with Debian's gcc 12, a small")),
    External(
        "tests/kernels/README.md",
        "https://packages.debian.org/bullseye/gcc-9",
        ("with Debian 11's gcc 9.3, and",),
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
        ("(Linux 4.18.0-147), Linux 3.10", "(Linux 3.10.0-1127, with"),
    ),
    External(
        "tests/kernels/README.md",
        "https://github.com/Seneca-CDOT/dynaccel-kernel-4.18.0: Makefile.rhelver",
        ("* Linux 4.18.0-394, a kernel from the development of RHEL 8.7, was",),
    ),
    External(
        "tests/kernels/README.md",
        "the messages of the runs in tests/bench/recorded/kernels.json",
        (
            "Linux 4.18 was built from",
            "Linux 3.10 has no tracepoint at the exit of execve",
            "The emulated Linux 3.10 runs",
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
        _BULLSEYE,
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
        (
            "A machine uses one core of",
            "a kernel takes about a quarter of an hour on it",
            "once on two cores",
        ),
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
