#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A worker holds a copy, as many others do that are forked after it: more than the tracer has room for.

The others end after half of the worker's life. It is the only holder from then on.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time

from _spawns import TRUE, HookedEnv, done, fork_worker, spawn


def play(others: int, live: float) -> None:
    fields: dict[str, int] = {}
    pids: list[int] = []

    def end_others() -> None:
        time.sleep(live / 2)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def fork_all() -> None:
        fields["holder"] = fork_worker(live)
        pids.extend(fork_worker(live) for _ in range(others))
        threading.Thread(target=end_others).start()

    def hook() -> None:
        forker = threading.Thread(target=fork_all)
        forker.start()
        forker.join()

    spawn(TRUE, fields, env=HookedEnv(hook)).wait()
    for pid in (fields["holder"], *pids):
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--others", type=int, default=500)
    parser.add_argument("--live", type=float, default=4, help="seconds that the worker lives")
    options = parser.parse_args()
    play(options.others, options.live)
    done()


if __name__ == "__main__":
    main()
