# SPDX-License-Identifier: Apache-2.0
"""Run the core of the live tests on other kernels, each in an emulated machine, and print a table.

Usage: python -m tests.kernels [--arch ARCH] [--suite SUITE]... | --kernel IMAGE [--modules FOLDER] [--cpus N]
                               [--start] [--record]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from tests.bench import results
from tests.debian import DebianError
from tests.kernels.architectures import ARCHITECTURES, HOST, foreign_root
from tests.kernels.inside import CASES, CPUS, NEWER_COMPILER
from tests.kernels.kernels import fetch
from tests.kernels.machine import Kernel, MachineError, run
from tests.kernels.modules import ModuleError
from tests.python27 import install
from tests.unpackedpython import with_bcc

_ROOT = Path(__file__).resolve().parents[2]
_CACHE = _ROOT / ".cache" / "kernels"
_CPUS = 2
_RECORD = f"{results.FOLDER}/kernels.json"
_RUN_ON = "run on"
_BY_KERNEL = "Cases by kernel"

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
    parser.add_argument("--parameters", default="", help="for the command line of that kernel")
    parser.add_argument(
        "--case", action="append", choices=CASES, help="run only this case (default: all but many CPUs)"
    )
    parser.add_argument(
        "--cpus", type=int, help=f"of the machine (default: {_CPUS}, or as many as the case needs)"
    )
    parser.add_argument("--start", action="store_true", help="only measure how long the probes take to load")
    parser.add_argument("--record", action="store_true", help=f"also write the outcomes to {_RECORD}")
    parser.add_argument("--minutes", type=float, default=20, help="for each machine (default: 20)")
    options = parser.parse_args()
    architecture = ARCHITECTURES[options.arch]
    left_out = {*CPUS, NEWER_COMPILER} if architecture.is_foreign else {*CPUS}
    cases = options.case or [case for case in CASES if case not in left_out]
    table: dict[str, Outcomes] = {}
    try:
        root = foreign_root(architecture, _CACHE)
        install(_ROOT, architecture.machine)
        if NEWER_COMPILER in cases:
            with_bcc(_ROOT / ".cache", "trixie")
        if options.kernel:
            image = options.kernel.absolute()
            modules = options.modules and options.modules.absolute()
            kernels = [Kernel(image.name, image, modules, architecture, options.parameters)]
        else:
            suites = options.suite or architecture.suites
            kernels = [fetch(suite, architecture, _CACHE) for suite in suites]
        seconds = options.minutes * 60
        if options.start:
            for kernel in kernels:
                start = ["tests.kernels.start"]
                list(_lines(kernel, options.cpus or _CPUS, root, start, seconds, parallel=True))
            return 0
        for kernel in kernels:
            outcomes = Outcomes()
            release = kernel.name
            for cpus, those in _machines(cases, options.cpus).items():
                release = _play(kernel, cpus, root, those, seconds, outcomes)
            table[release] = outcomes
    except (DebianError, MachineError, ModuleError, OSError) as error:
        sys.exit(f"kernels: {error}")
    print(_markdown(cases, table))
    if options.record:
        _record(architecture.debian, table)
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
    """Add the outcome of each case, and return the kernel's release."""
    release = kernel.name
    try:
        for line in _lines(kernel, cpus, root, ["tests.kernels.inside", *cases], seconds):
            report = json.loads(line) if line.startswith("{") else {}
            release = report.get("release", release)
            case = report.get("case")
            if case and outcomes.get(case, "passed") == "passed":
                outcomes[case] = report["outcome"]
    except MachineError as error:
        print(f"kernels: {kernel.name}: {error}", file=sys.stderr)
    return release


def _lines(
    kernel: Kernel,
    cpus: int,
    root: Optional[Path],
    module: list[str],
    seconds: float,
    parallel: bool = False,
) -> Iterator[str]:
    """Run a module in a machine; print and yield what it prints.  Raises MachineError."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    console = _CACHE / f"{kernel.name}.console"
    began = time.monotonic()
    command = [*_python(root), "-m", *module]
    for line in run(kernel, cpus, root, _ROOT, command, console, seconds, parallel):
        print(f"[{kernel.name} {time.monotonic() - began:4.0f} s] {line}", flush=True)
        yield line


def _python(root: Optional[Path]) -> list[str]:
    """The Python in the machine; a foreign one imports its own packages, and the host's pure Python ones."""
    if root is None:
        return [".venv/bin/python"]
    [packages] = (_ROOT / ".venv").resolve().glob("lib/python3*/site-packages")
    paths = f"/usr/lib/python3/dist-packages:/{HOST}{packages}"
    return ["env", f"PYTHONPATH={paths}", "/usr/bin/python3"]


def _record(architecture: str, table: dict[str, Outcomes]) -> None:
    """Replace the columns of these kernels in the recorded results, or add them."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    result = results.read(_RECORD)
    merged = merge(result.tables[_BY_KERNEL], architecture, today, table)
    results.write(_RECORD, dataclasses.replace(result, date=today, tables={_BY_KERNEL: merged}))


def merge(old: results.Table, architecture: str, today: str, table: dict[str, Outcomes]) -> results.Table:
    """Return the table with new columns for these kernels; a header begins with the version, such as 6.12."""
    columns = {
        title: {row[0]: row[place] for row in old.rows} for place, title in enumerate(old.header) if place
    }
    for release, outcomes in table.items():
        version = ".".join(re.split(r"[.-]", release)[:2])
        name = version if architecture == "amd64" else f"{version}-{architecture}"
        title = next((each for each in columns if each.split()[0] == name), name)
        columns[title] = {_RUN_ON: today, **outcomes}
    cases = dict.fromkeys(case for column in columns.values() for case in column)
    rows = [[case, *(column.get(case, "not run") for column in columns.values())] for case in cases]
    return results.Table(["", *columns], rows)


def _markdown(cases: list[str], table: dict[str, Outcomes]) -> str:
    rows = [["", *table], ["---"] * (len(table) + 1)]
    rows += [[case, *(outcomes.get(case, "not run") for outcomes in table.values())] for case in cases]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
