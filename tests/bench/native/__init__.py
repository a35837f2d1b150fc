"""The programs in C that are measured, compiled into a folder and run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NAMES", "compile_all", "result_of"]

NAMES = ("calls", "spawns", "stalls", "sleepers")
_HERE = Path(__file__).parent


def compile_all(folder: Path) -> None:
    """Makes each of them, as folder/NAME.  Raises subprocess.CalledProcessError."""
    for name in NAMES:
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(folder / name)]
        subprocess.run([*command, str(_HERE / f"{name}.c")], check=True)


def result_of(command: Sequence[str]) -> dict[str, float]:
    """The JSON object that a program says at its end.  Raises subprocess.CalledProcessError."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
