"""What the agent costs others: system calls of an uninvolved process, and spawns; beside nothing.

Rounds alternate (without, with, without, with ...) because the machine is noisy; medians are given.

    .venv/bin/python -m tests.bench.overhead [--rounds 7]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from tests.live.lab import PYTHON, Lab

_CALLS = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
int main(void)
{
    char byte;
    int zero = open("/dev/zero", O_RDONLY), n = 1000000;
    double a = now();
    for (int i = 0; i < n; i++) syscall(SYS_getppid);
    double b = now();
    for (int i = 0; i < n; i++) syscall(SYS_close, 999);
    double c = now();
    for (int i = 0; i < n; i++) syscall(SYS_read, zero, &byte, 1);
    double d = now();
    for (int i = 0; i < n; i++) syscall(SYS_fcntl, zero, F_GETFL);
    double e = now();
    printf("{\"getppid\": %f, \"close\": %f, \"read\": %f, \"fcntl\": %f}\n",
           (b - a) / n, (c - b) / n, (d - c) / n, (e - d) / n);
}
"""
_SPAWNS = """
import subprocess, time
def rate():
    began = time.monotonic()
    for _ in range(1500):
        subprocess.Popen(["/bin/true"]).wait()
    return 1500 / (time.monotonic() - began)
print('{"spawns_per_second": %f}' % rate())
"""


def main() -> None:
    """Prints a JSON object: for each figure without, with, and the difference or ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "calls.c"), Path(folder, "calls")
        source.write_text(_CALLS)
        subprocess.run(["gcc", "-O2", "-o", str(binary), str(source)], check=True)
        lab = Lab(Path(__file__).resolve().parent.parent.parent, Path(folder))
        without: dict[str, list[float]] = {}
        beside: dict[str, list[float]] = {}
        for _ in range(rounds):
            _measure(str(binary), without)
            with lab.agent():
                _measure(str(binary), beside)
    result = {}
    for name in without:
        before, after = statistics.median(without[name]), statistics.median(beside[name])
        result[name] = {"without": before, "with": after, "added": after - before, "ratio": after / before}
    print(json.dumps(result, indent=2))


def _measure(binary: str, into: dict[str, list[float]]) -> None:
    for command in ([binary], [PYTHON, "-c", _SPAWNS]):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for name, value in json.loads(done.stdout).items():
            into.setdefault(name, []).append(value)


if __name__ == "__main__":
    main()
