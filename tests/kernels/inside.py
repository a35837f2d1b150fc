# SPDX-License-Identifier: Apache-2.0
"""Run the core of the live tests inside the machine; print one JSON line per case.

Usage: python -m tests.kernels.inside CASE...
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence

import pytest

__all__ = ["CASES", "CPUS", "NEWER_COMPILER"]

NEWER_COMPILER = "newer compiler"
"""The case that needs Debian 13's bcc, which is unpacked for this host's architecture only."""

CASES = {
    "self-test": "tests/live/test_tracer.py::test_every_probe_attaches_and_the_self_test_passes",
    "at functions": "tests/live/test_tracer.py::test_probes_are_all_at_functions_or_all_at_tracepoints",
    "at tracepoints": "tests/live/test_tracer.py::test_at_tracepoints_on_request",
    "forked": "tests/live/test_stalls.py::test_worker_that_never_execs",
    "late_exec": "tests/live/test_stalls.py::test_sibling_with_a_slow_preexec_fn[--close-fds]",
    "leaked, Python 2.7": "tests/live/test_stalls.py::test_forced_leak_on_python_2",
    "own preexec_fn": "tests/live/test_stalls.py::test_own_childs_slow_preexec_fn_is_exec_latency",
    "output pipes": "tests/live/test_stalls.py::test_output_pipes_are_no_errpipes[beside1]",
    "shells": "tests/live/test_stalls.py::test_shells_are_not_reported",
    "dup2": "tests/live/test_lineage.py::test_unusual_holder[dup2]",
    "close_range": "tests/live/test_lineage.py::test_unusual_holder[close_range]",
    "another thread's exec": "tests/live/test_lineage.py::test_unusual_holder[thread_exec]",
    "without BTF": "tests/live/test_tracer.py::test_without_btf_a_confirmed_holder_is_named",
    "shifted arguments": "tests/live/test_tracer.py::test_self_test_fails_if_arguments_are_elsewhere",
    NEWER_COMPILER: "tests/live/test_compiler.py::test_the_kernel_accepts_what_a_newer_compiler_makes[host]",
    "clock step": "tests/kernels/clockstep.py::test_step_of_the_clock_during_a_stall",
    "many CPUs": "tests/live/test_no_ceiling.py::test_spawns_in_flight_at_once",
}
"""The live tests by their name in the table."""

CPUS = {"many CPUs": 16}
"""Cases in a machine of their own, which takes long, so they run only on request.

16 CPUs reserve 2,048 free entries of each LRU map for themselves (LRU in probes/errpipe.bpf.c), so a map of
4,608 without more would not do for 4,096 spawns in flight.
"""


class _Reporter:
    """A pytest plugin that prints the outcome of each test under the name of its case."""

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            case = next(name for name, node in CASES.items() if node == report.nodeid)
            line = {"case": case, "outcome": report.outcome, "seconds": round(report.duration, 1)}
            print("\n" + json.dumps(line), flush=True)


def main(cases: Sequence[str]) -> None:
    """Run the cases, and print the output of pytest too."""
    print(json.dumps({"release": platform.release(), "version": platform.version()}), flush=True)
    # The clocks of an emulated machine are inaccurate.
    os.environ["TEST_TOLERANCE_SECONDS"] = "1"
    os.environ["TEST_PATIENCE_SECONDS"] = "240"
    os.environ["MAY_STEP_THE_CLOCK"] = "1"
    # The default folder cannot be written here, and each case would compile for most of a minute.
    os.environ["CACHE_DIRECTORY"] = "/run/spawnstall"
    options = ["-q", "-p", "no:cacheprovider", "--color=no", "--tb=short", "--show-capture=log"]
    pytest.main([*options, *(CASES[case] for case in cases)], plugins=[_Reporter()])


if __name__ == "__main__":
    main(sys.argv[1:])
