# SPDX-License-Identifier: Apache-2.0
"""Live tests (the folders of _LIVE) run where they can: as root, with bcc, tracefs and bpf(2).

Elsewhere they are skipped with the reason. With REQUIRE_LIVE_TESTS=1 (CI sets it) a live test
that is skipped, for whatever reason, fails instead: a machine without eBPF must not look green.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from collections.abc import Generator
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, settings

from probes.bpfcall import BPF_SYSCALL
from probes.loader import Options, find_ways
from probes.preflight import PreflightError, UnsupportedError, find_tracefs

# No deadline, because machines that run tests are busy. The examples are the same in each run, except with
# FUZZ_EXAMPLES (`make fuzz`). FUZZ_PROFILE=quick (`make check`) and few
# (`make test-pythons`) run fewer of them.
_EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
settings.register_profile(
    "patient",
    deadline=None,
    derandomize=not _EXAMPLES,
    max_examples=int(_EXAMPLES or 100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("patient"), max_examples=20)
settings.register_profile("few", settings.get_profile("patient"), max_examples=3)
settings.load_profile(os.environ.get("FUZZ_PROFILE", "patient"))

_ROOT = Path(__file__).resolve().parent.parent
_LIVE = {_ROOT / "tests" / folder for folder in ("live", "e2e", "roots", "runtimes")}


def _bpf_error() -> Optional[str]:
    """Create the smallest map; return why that failed."""
    number = BPF_SYSCALL.get(platform.machine())
    if number is None:
        return None  # unknown here: let the test itself find out
    libc = ctypes.CDLL(None, use_errno=True)
    # union bpf_attr of BPF_MAP_CREATE (0): map_type (2: array), key_size, value_size, max_entries
    attributes = (ctypes.c_uint32 * 4)(2, 4, 4, 1)
    size = ctypes.c_uint(ctypes.sizeof(attributes))
    descriptor = libc.syscall(ctypes.c_long(number), ctypes.c_int(0), attributes, size)
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return None


def _why_not_live() -> Optional[str]:
    """Return the reason why live tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "not root"
    if importlib.util.find_spec("bcc") is None:
        return "no bcc: python3-bpfcc is not installed, or this is not the distribution's Python"
    try:
        find_tracefs()  # RHEL 7's 3.10 has it only in debugfs
    except PreflightError as error:
        return str(error)
    refused = _bpf_error()
    if refused:
        return f"bpf(2) fails: {refused}"
    return _why_not(Options())


def _why_not(options: Options) -> Optional[str]:
    """Return why this kernel cannot be traced with these options (RHEL 9.3), or None."""
    try:
        find_ways(find_tracefs(), options)
    except UnsupportedError as error:
        return str(error)
    return None


def _live_required() -> bool:
    return os.environ.get("REQUIRE_LIVE_TESTS") == "1"


def _skip_reason(longrepr: object) -> object:
    return longrepr[2] if isinstance(longrepr, tuple) else longrepr


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    live = []
    for item in items:
        if not _LIVE.isdisjoint(item.path.parents):
            item.add_marker("live")
        if item.get_closest_marker("live"):
            live.append(item)
    reason = _why_not_live() if live else None
    at_tracepoints = [item for item in live if item.get_closest_marker("tracepoints")]
    if at_tracepoints and not reason:
        live, reason = at_tracepoints, _why_not(Options(tracepoints=True))
    if reason:
        for item in live:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected = hasattr(report, "wasxfail")
    if report.skipped and not expected and item.get_closest_marker("live") and _live_required():
        report.outcome = "failed"
        report.longrepr = f"live test skipped, but required: {_skip_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module can skip itself (``pytest.importorskip``): then there is no test to ask."""
    report = yield
    if report.skipped and not _LIVE.isdisjoint(collector.path.parents) and _live_required():
        report.outcome = "failed"
        report.longrepr = f"live tests skipped, but required: {_skip_reason(report.longrepr)}"
    return report


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The top directory of the checkout."""
    return _ROOT
