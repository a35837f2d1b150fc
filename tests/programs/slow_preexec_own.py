#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`slow_exec`: the own child's preexec_fn is slow.

Popen blocks in read, but no foreign process holds the errpipe: no stall.
"""

from __future__ import annotations

import argparse
import time

from _spawns import TRUE, done, spawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--sleep", type=float, default=0.3, help="how long preexec_fn takes")
    options = parser.parse_args()
    for _ in range(options.count):
        spawn(TRUE, preexec_fn=lambda: time.sleep(options.sleep)).wait()
    done()


if __name__ == "__main__":
    main()
