# SPDX-License-Identifier: Apache-2.0
"""Measure inside the machine how long the probes take to load at functions and at tracepoints, in turns.

Usage: python -m tests.kernels.start
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time

from probes.loader import Options, Probes

_WAYS = {"functions": Options(), "tracepoints": Options(tracepoints=True)}
_COMPILED, _KEPT = 9, 9


def main() -> None:
    """Print the seconds of each turn, and the ratio of the medians: compiling, then with kept programs."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CACHE_DIRECTORY"] = folder
        _seconds("tracepoints", empty=True)  # reads bcc and LLVM from the host's disk
        _measure("compiling", _COMPILED, empty=True)
        for way in _WAYS:
            _seconds(way, empty=False)
        _measure("kept", _KEPT, empty=False)


def _measure(name: str, turns: int, empty: bool) -> None:
    taken: dict[str, list[float]] = {way: [] for way in _WAYS}
    for turn in range(turns):
        for way in list(_WAYS)[:: 1 if turn % 2 else -1]:
            taken[way].append(round(_seconds(way, empty), 2))
    medians = {way: statistics.median(seconds) for way, seconds in taken.items()}
    ratio = round(medians["functions"] / medians["tracepoints"], 2)
    print(json.dumps({"programs": name, **taken, "functions / tracepoints": ratio}), flush=True)


def _seconds(way: str, empty: bool) -> float:
    folder = os.environ["CACHE_DIRECTORY"]
    if empty:
        shutil.rmtree(folder)
        os.mkdir(folder)  # noqa: PTH102
    began = time.monotonic()
    with Probes(_WAYS[way], lambda record: None):
        return time.monotonic() - began


if __name__ == "__main__":
    main()
