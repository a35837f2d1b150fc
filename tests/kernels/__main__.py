# SPDX-License-Identifier: Apache-2.0
"""Run the core of the live tests on other kernels, each in an emulated machine, and print a table.

Usage: python -m tests.kernels [--suite SUITE]... | --kernel IMAGE [--modules FOLDER]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.debian import DebianError
from tests.kernels.inside import CASES
from tests.kernels.kernels import SUITES, fetch
from tests.kernels.machine import Kernel, MachineError, run
from tests.kernels.modules import ModuleError
from tests.python27 import install

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / ".cache" / "kernels"

Outcomes = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__.split("\n")[0])
    parser.add_argument("--suite", action="append", help=f"a Debian release (default: {', '.join(SUITES)})")
    parser.add_argument("--kernel", type=Path, help="a kernel image instead, such as a bzImage")
    parser.add_argument(
        "--modules", type=Path, help="folder of its modules (default: none, everything is built in)"
    )
    parser.add_argument("--case", action="append", choices=CASES, help="run only this case")
    parser.add_argument("--minutes", type=float, default=20, help="for each kernel (default: 20)")
    options = parser.parse_args()
    cases = options.case or list(CASES)
    table: dict[str, Outcomes] = {}
    try:
        install(_ROOT / ".cache" / "python2.7")
        if options.kernel:
            image = options.kernel.absolute()
            kernels = [Kernel(image.name, image, options.modules and options.modules.absolute())]
        else:
            kernels = [fetch(suite, _CACHE) for suite in options.suite or SUITES]
        for kernel in kernels:
            release, outcomes = _play(kernel, cases, options.minutes * 60)
            table[release] = outcomes
    except (DebianError, ModuleError, OSError) as error:
        sys.exit(f"kernels: {error}")
    print(_markdown(cases, table))
    seen = [outcomes.get(case) for outcomes in table.values() for case in cases]
    return 0 if set(seen) <= {"passed", "skipped"} else 1


def _play(kernel: Kernel, cases: list[str], seconds: float) -> tuple[str, Outcomes]:
    """Return the kernel's release and the outcome of each case; print what the machine prints."""
    release, outcomes = kernel.name, Outcomes()
    _CACHE.mkdir(parents=True, exist_ok=True)
    command = [".venv/bin/python", "-m", "tests.kernels.inside", *cases]
    began = time.monotonic()
    try:
        for line in run(kernel, _ROOT, command, _CACHE / f"{kernel.name}.console", seconds):
            print(f"[{kernel.name} {time.monotonic() - began:4.0f} s] {line}", flush=True)
            report = json.loads(line) if line.startswith("{") else {}
            release = report.get("release", release)
            case = report.get("case")
            if case and outcomes.get(case, "passed") == "passed":
                outcomes[case] = report["outcome"]
    except MachineError as error:
        print(f"kernels: {kernel.name}: {error}", file=sys.stderr)
    return release, outcomes


def _markdown(cases: list[str], table: dict[str, Outcomes]) -> str:
    rows = [["", *table], ["---"] * (len(table) + 1)]
    rows += [[case, *(outcomes.get(case, "not run") for outcomes in table.values())] for case in cases]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
