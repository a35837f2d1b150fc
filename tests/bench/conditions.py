# SPDX-License-Identifier: Apache-2.0
"""The conditions of a measurement: the machine, its load, the time, and versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from tests.bench.bench import ROOT
from tests.bench.results import Result, Table

__all__ = ["describe", "recorded"]

_TOOLS = {
    "bpftrace": ("bpftrace", "--version"),
    "execsnoop (libbpf-tools)": ("execsnoop", "--version"),
    "strace": ("strace", "--version"),
    "perf": ("perf", "--version"),
    "gcc": ("gcc", "--version"),
}


def describe() -> dict[str, Any]:
    """Return the machine, its kernel and current load, the date, and versions."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "commit": _first_line("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "tools": {name: _first_line(*command) for name, command in _TOOLS.items()},
    }


def recorded(how: str, tables: Mapping[str, Table], figures: Optional[Mapping[str, float]] = None) -> Result:
    """Return what was measured on this machine today, to write to a file."""
    here = describe()
    machine = f"{here['cores']} cores of {here['processor']}"
    return Result(here["date"][:10], here["kernel"], machine, how, tables, figures or {})


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]
