#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Demonstrates the problem: a "web app" beside a pool of forked workers that never exec.

Threads run ``/bin/true`` in a loop, as ``subprocess.run`` does; another thread keeps a few
``multiprocessing`` workers (fork context) running that live about 0.3 s. From time to time a worker is
forked while a Popen has its errpipe open, and that Popen waits for the worker. Nothing is forced.
Prints one line on stderr for each slow Popen.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import threading
import time
from multiprocessing.context import ForkProcess
from pathlib import Path

from _spawns import TRUE, done, emit, emit_spawn


def set_comm(name: str) -> None:
    Path("/proc/self/comm").write_text(name)


def work(live: float) -> None:
    set_comm("pool-worker")
    time.sleep(live)


class Demo:
    def __init__(self, options: argparse.Namespace) -> None:
        self.json: bool = options.json
        self.live: float = options.live
        self.workers: int = options.workers
        self.gap: float = options.gap
        self.pause: float = options.pause
        self.slow: float = options.slow
        self.end = time.monotonic() + options.seconds
        self.popens = 0
        self.slow_popens = 0
        self.lock = threading.Lock()

    def popen_loop(self) -> None:
        while time.monotonic() < self.end:
            start = time.monotonic()
            popen = subprocess.Popen(TRUE)
            seconds = time.monotonic() - start
            popen.wait()
            with self.lock:
                self.popens += 1
                self.slow_popens += seconds > self.slow
            if seconds > self.slow:
                sys.stderr.write(f"Popen({TRUE!r}) took {seconds:.2f} s\n")
            if self.json:
                emit_spawn(start, seconds, popen.pid)
            time.sleep(self.pause)

    def pool_loop(self) -> None:
        context = multiprocessing.get_context("fork")
        running: list[tuple[float, ForkProcess]] = []
        while time.monotonic() < self.end:
            running = [entry for entry in running if not self.reaped(*entry)]
            if len(running) < self.workers:
                start = time.monotonic()
                worker = context.Process(target=work, args=(self.live,))
                worker.start()
                running.append((start, worker))
            time.sleep(self.gap)
        for start, worker in running:
            worker.join()
            self.reaped(start, worker)

    def reaped(self, start: float, worker: ForkProcess) -> bool:
        if worker.is_alive():
            return False
        if self.json:
            emit(kind="worker", pid=worker.pid, start=start, end=time.monotonic())
        return True

    def run(self, threads: int) -> None:
        loops = [threading.Thread(target=self.popen_loop) for _ in range(threads)]
        loops.append(threading.Thread(target=self.pool_loop))
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()
        sys.stderr.write(f"{self.slow_popens} of {self.popens} Popens took more than {self.slow:g} s\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=3, help="threads that run /bin/true")
    parser.add_argument("--pause", type=float, default=0.002, help="between a thread's programs")
    parser.add_argument("--workers", type=int, default=4, help="workers at a time")
    parser.add_argument("--live", type=float, default=0.3, help="how long a worker lives")
    parser.add_argument("--gap", type=float, default=0.01, help="between checks of the pool")
    parser.add_argument("--slow", type=float, default=0.1, help="report a Popen that takes longer than this")
    parser.add_argument("--json", action="store_true", help="also print JSON lines on stdout")
    options = parser.parse_args()
    set_comm("web-app")
    Demo(options).run(options.threads)
    if options.json:
        done()


if __name__ == "__main__":
    main()
