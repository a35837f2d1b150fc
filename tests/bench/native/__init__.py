# SPDX-License-Identifier: Apache-2.0
"""Compile and run the measured programs in C."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NAMES", "compile_all", "result_of"]

NAMES = ("calls", "spawns", "stalls", "sleepers")
_HERE = Path(__file__).parent


def compile_all(folder: Path) -> None:
    """Compile each as folder/NAME.  Raises subprocess.CalledProcessError."""
    for name in NAMES:
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(folder / name)]
        subprocess.run([*command, str(_HERE / f"{name}.c")], check=True)


def result_of(command: Sequence[str]) -> dict[str, float]:
    """Run a program; return the JSON object that it prints.  Raises subprocess.CalledProcessError."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
