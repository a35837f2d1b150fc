# SPDX-License-Identifier: Apache-2.0
"""Run the core of the live tests on other kernels, each in an emulated machine, and print a table.

Usage: python -m tests.kernels [--arch ARCH] [--suite SUITE]... | --kernel IMAGE [--modules FOLDER] [--cpus N]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Optional

from tests.debian import DebianError
from tests.kernels.architectures import ARCHITECTURES, HOST, foreign_root
from tests.kernels.inside import CASES, CPUS
from tests.kernels.kernels import fetch
from tests.kernels.machine import Kernel, MachineError, run
from tests.kernels.modules import ModuleError
from tests.python27 import install

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / ".cache" / "kernels"
_CPUS = 2

Outcomes = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__.split("\n")[0])
    defaults = "; ".join(f"{name}: {', '.join(each.suites)}" for name, each in ARCHITECTURES.items())
    parser.add_argument("--arch", choices=ARCHITECTURES, default="amd64", help="default: amd64")
    parser.add_argument("--suite", action="append", help=f"a Debian release (default: {defaults})")
    parser.add_argument("--kernel", type=Path, help="a kernel image instead, such as a bzImage")
    parser.add_argument(
        "--modules", type=Path, help="folder of its modules (default: none, everything is built in)"
    )
    parser.add_argument(
        "--case", action="append", choices=CASES, help="run only this case (default: all but many CPUs)"
    )
    parser.add_argument(
        "--cpus", type=int, help=f"of the machine (default: {_CPUS}, or as many as the case needs)"
    )
    parser.add_argument("--minutes", type=float, default=20, help="for each machine (default: 20)")
    options = parser.parse_args()
    architecture = ARCHITECTURES[options.arch]
    cases = options.case or [case for case in CASES if case not in CPUS]
    table: dict[str, Outcomes] = {}
    try:
        root = foreign_root(architecture, _CACHE)
        install(_ROOT, architecture.machine)
        if options.kernel:
            image = options.kernel.absolute()
            modules = options.modules and options.modules.absolute()
            kernels = [Kernel(image.name, image, modules, architecture)]
        else:
            suites = options.suite or architecture.suites
            kernels = [fetch(suite, architecture, _CACHE) for suite in suites]
        for kernel in kernels:
            outcomes = Outcomes()
            release = kernel.name
            for cpus, those in _machines(cases, options.cpus).items():
                release = _play(kernel, cpus, root, those, options.minutes * 60, outcomes)
            table[release] = outcomes
    except (DebianError, ModuleError, OSError) as error:
        sys.exit(f"kernels: {error}")
    print(_markdown(cases, table))
    seen = [outcomes.get(case) for outcomes in table.values() for case in cases]
    return 0 if set(seen) <= {"passed", "skipped"} else 1


def _machines(cases: list[str], cpus: Optional[int]) -> dict[int, list[str]]:
    """The cases by the number of CPUs of their machine."""
    machines: dict[int, list[str]] = {}
    for case in cases:
        machines.setdefault(cpus or CPUS.get(case, _CPUS), []).append(case)
    return machines


def _play(
    kernel: Kernel, cpus: int, root: Optional[Path], cases: list[str], seconds: float, outcomes: Outcomes
) -> str:
    """Add the outcome of each case, and return the kernel's release; print what the machine prints."""
    release = kernel.name
    _CACHE.mkdir(parents=True, exist_ok=True)
    command = [*_python(root), "-m", "tests.kernels.inside", *cases]
    began = time.monotonic()
    try:
        console = _CACHE / f"{kernel.name}.console"
        for line in run(kernel, cpus, root, _ROOT, command, console, seconds):
            print(f"[{kernel.name} {time.monotonic() - began:4.0f} s] {line}", flush=True)
            report = json.loads(line) if line.startswith("{") else {}
            release = report.get("release", release)
            case = report.get("case")
            if case and outcomes.get(case, "passed") == "passed":
                outcomes[case] = report["outcome"]
    except MachineError as error:
        print(f"kernels: {kernel.name}: {error}", file=sys.stderr)
    return release


def _python(root: Optional[Path]) -> list[str]:
    """The Python in the machine; a foreign one imports its own packages, and the host's pure Python ones."""
    if root is None:
        return [".venv/bin/python"]
    [packages] = (_ROOT / ".venv").resolve().glob("lib/python3*/site-packages")
    paths = f"/usr/lib/python3/dist-packages:/{HOST}{packages}"
    return ["env", f"PYTHONPATH={paths}", "/usr/bin/python3"]


def _markdown(cases: list[str], table: dict[str, Outcomes]) -> str:
    rows = [["", *table], ["---"] * (len(table) + 1)]
    rows += [[case, *(outcomes.get(case, "not run") for outcomes in table.values())] for case in cases]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
