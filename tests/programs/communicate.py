#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Look-alike: long reads from *data* pipes.

``communicate()`` waits for the child's output; the Popen itself is quick.
"""

from __future__ import annotations

import argparse
import subprocess
import threading
import time

from _spawns import TRUE, done, emit, spawn


def communicate(count: int, sleep: float) -> None:
    for _ in range(count):
        popen = spawn(
            ["sleep", str(sleep)],
            {"program": "sleep"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        start = time.monotonic()
        popen.communicate()
        emit(kind="communicate", child=popen.pid, seconds=time.monotonic() - start, start=start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--sleep", type=float, default=1.0, help="how long each child runs")
    parser.add_argument("--beside", action="store_true", help="in a thread, beside other Popens of /bin/true")
    parser.add_argument("--pause", type=float, default=0.01, help="between the other Popens")
    options = parser.parse_args()
    if options.beside:
        thread = threading.Thread(target=communicate, args=(options.count, options.sleep))
        thread.start()
        while thread.is_alive():
            spawn(TRUE, {"program": "true"}).wait()
            time.sleep(options.pause)
    else:
        communicate(options.count, options.sleep)
    done()


if __name__ == "__main__":
    main()
