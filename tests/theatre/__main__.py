# SPDX-License-Identifier: Apache-2.0
"""`make theatre`: play thousands of random plays under the tracer, and compare its reports with the truth.

    python -m tests.theatre --plays 10000 [--seed S]

Prints each play with a fault.  The last line is "N plays, M with faults".
"""

from __future__ import annotations

import argparse
import platform
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.theatre.check import Result, check, told
from tests.theatre.generator import make_play
from tests.theatre.play import written
from tests.theatre.troupe import Troupe

_BATCH = 250


def main() -> int:
    """Run the command line; return 0 if there was no fault."""
    parser = argparse.ArgumentParser(prog="theatre", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--plays", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first play")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--stages", type=int, default=8, help="plays at once")
    options = parser.parse_args()
    print(f"seed {options.seed}, kernel {platform.release()}", flush=True)
    total = Result()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="theatre-") as folder,
        Troupe(Path(folder), options.stages) as troupe,
    ):
        last = options.first + options.plays
        for first in range(options.first, last, _BATCH):
            plays = [make_play(options.seed, number) for number in range(first, min(first + _BATCH, last))]
            truths, reports = troupe.perform(plays)
            result = check(truths, reports)
            for number, faults in sorted(result.faults.items()):
                print(f"play {number} of seed {options.seed}:", *faults, sep="\n  ")
                if number >= 0:
                    print(
                        written(plays[number - first]), told(truths[number - first]), "", sep="\n", flush=True
                    )
            total.add(result)
            rate = total.counts["plays"] / (time.monotonic() - began)
            print(f"{first + len(plays)}: {len(total.faults)} with faults, {rate:.1f}/s", flush=True)
    for name, count in sorted(total.counts.items()):
        print(f"{count:8,} {name}")
    print(f"{total.counts['plays']} plays, {len(total.faults)} with faults")
    return 1 if total.faults else 0


if __name__ == "__main__":
    sys.exit(main())
