"""How long a snapshot takes on a host with many processes: at best, in the middle, at worst.

Beside sleeping processes with 20 open files each, a real stall is looked at again and again.

    .venv/bin/python -m tests.bench.snapshot_scale [--processes 2000] [--rounds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

from agent import snapshot
from tests.live.lab import PYTHON

_FILES = 20
_STALL = Path(__file__).resolve().parents[1] / "programs" / "fork_beside_popen.py"


def main() -> None:
    """Prints a JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    stall = subprocess.Popen(
        [PYTHON, str(_STALL), "--force", "1", "--plain", "0", "--live", "300"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    sleepers = []
    try:
        sleepers = [_sleeper() for _ in range(options.processes)]
        while not snapshot.take(stall.pid):
            time.sleep(0.05)
        seconds, alone = [], []
        for _ in range(options.rounds):
            began = time.perf_counter()
            found = snapshot.take(stall.pid)
            seconds.append(time.perf_counter() - began)
            assert len(found) == 1
            began = time.perf_counter()
            command = [PYTHON, "-I", "-S", str(snapshot.__file__), str(stall.pid)]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            alone.append(time.perf_counter() - began)
        quiet = []
        for _ in range(options.rounds):
            began = time.perf_counter()
            assert snapshot.take(sleepers[0]) == []
            quiet.append(time.perf_counter() - began)
    finally:
        for pid in sleepers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.killpg(stall.pid, signal.SIGKILL)
        stall.wait()
    print(
        json.dumps(
            {
                "processes": options.processes,
                "files": _FILES,
                "seconds": _three(seconds),
                "seconds_as_a_program": _three(alone),
                "seconds_when_nothing_is_blocked": _three(quiet),
            }
        )
    )


def _sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        for _ in range(_FILES // 2):
            os.pipe()
        while True:
            signal.pause()
    return pid


def _three(seconds: list[float]) -> dict[str, float]:
    return {
        "min": round(min(seconds), 4),
        "median": round(statistics.median(seconds), 4),
        "max": round(max(seconds), 4),
    }


if __name__ == "__main__":
    main()
