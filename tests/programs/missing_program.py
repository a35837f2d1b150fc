#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Failing spawns: the errpipe carries data (the error) before its EOF. None of them stalls."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

from _spawns import TRUE, done, emit_spawn


class KeptPopen(subprocess.Popen[bytes]):
    """A Popen whose pid can be read although the constructor raises."""

    last: Optional[KeptPopen] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        KeptPopen.last = self
        super().__init__(*args, **kwargs)


def fail(case: str, args: list[str], cwd: Optional[str] = None) -> None:
    start = time.monotonic()
    error: Optional[OSError] = None
    try:
        popen = KeptPopen(args, cwd=cwd)
    except OSError as caught:
        error = caught
    seconds = time.monotonic() - start
    child = getattr(KeptPopen.last, "pid", None)
    name = type(error).__name__ if error else None
    errno = error.errno if error else None
    emit_spawn(start, seconds, child, case=case, error=name, errno=errno)
    if error is None:
        popen.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5, help="how often to start the missing program")
    parser.add_argument("--name", default="/nonexistent/program", help="the missing program")
    parser.add_argument("--cwd", action="store_true", help="also /bin/true in a missing folder")
    options = parser.parse_args()
    for _ in range(options.count):
        fail("missing", [options.name])
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "not-executable")
        plain.write_text("#!/bin/sh\n")
        fail("not_executable", [str(plain)])
    if options.cwd:
        fail("cwd", TRUE, cwd="/nonexistent/folder")
    done()


if __name__ == "__main__":
    main()
