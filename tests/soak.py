# SPDX-License-Identifier: Apache-2.0
"""`make soak`: run thousands of random fd programs (tests/fdprograms) under the probes.

    python -m tests.soak --programs 10000 [--seed S]

A disagreement is shrunk to the shortest program that shows it, and printed.  The last line is
"N passed, M failed".
"""

from __future__ import annotations

import argparse
import platform
import secrets
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings

from probes.loader import Options
from tests.fdprograms.compare import Disagreement, Prover
from tests.fdprograms.generator import Choice, Limits, choices, plan
from tests.fdprograms.player import PlayerError

_BATCH = 500


def main() -> int:
    """Run the command line; return 0 if there was no disagreement."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--overflow", action="store_true", help="also copies at more fds than are followed")
    parser.add_argument("--ioctl", action="store_true", help="also FIOCLEX and FIONCLEX")
    parser.add_argument(
        "--max-spawns", type=int, default=Options().max_spawns, help="places for spawns: a multiple of 512"
    )
    options = parser.parse_args()
    limits = Limits(overflow=options.overflow, ioctl=options.ioctl)
    print(f"seed {options.seed}, kernel {platform.release()}", flush=True)
    passed = failed = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Prover(Path(folder), options.max_spawns) as prover:
        for first in range(0, options.programs, _BATCH):
            count = min(_BATCH, options.programs - first)
            good, complaint = _batch(prover, limits, options.seed + first // _BATCH, count)
            passed += good
            if complaint:
                failed += 1
                print(f"seed {options.seed + first // _BATCH}: {complaint}\n", flush=True)
            rate = (passed + failed) / (time.monotonic() - began)
            print(f"{first + count}: {passed} passed, {failed} failed, {rate:.0f}/s", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _batch(prover: Prover, limits: Limits, number: int, count: int) -> tuple[int, str]:
    """Run count programs; return how many passed before the first failure, and what is wrong with it."""
    passed = 0
    complained = False

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(choices(limits))
    def run(drawn: list[Choice]) -> None:
        nonlocal passed, complained
        try:
            prover.prove(plan(drawn, limits))
        except (Disagreement, PlayerError):
            complained = True
            raise
        if not complained:  # programs of the shrinking do not count
            passed += 1

    try:
        run()
    except (Disagreement, PlayerError) as error:
        return passed, f"{type(error).__name__}: {error}"
    return passed, ""


if __name__ == "__main__":
    sys.exit(main())
