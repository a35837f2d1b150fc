#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""GLib's g_spawn_async, which blocks until end-of-file of its errpipe; the own child moves it to fd 3."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from typing import Any

from gi.repository import GLib  # type: ignore[import-untyped,import-not-found,unused-ignore]


def _emit(**fields: Any) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--program", default="/bin/true")
    options = parser.parse_args()
    for _ in range(options.count):
        child = None
        start = time.monotonic()
        with contextlib.suppress(GLib.Error):
            child = GLib.spawn_async([options.program], flags=GLib.SpawnFlags.DO_NOT_REAP_CHILD)[0]
        seconds = time.monotonic() - start
        _emit(kind="spawn", pid=os.getpid(), child=child, seconds=seconds, failed=child is None)
        if child is not None:
            os.waitpid(child, 0)
    _emit(kind="done", spawns=options.count)


if __name__ == "__main__":
    main()
