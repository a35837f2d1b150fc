# SPDX-License-Identifier: Apache-2.0
"""subprocess of any CPython since 2.7, so without annotations. Its arguments are below."""

import argparse
import json
import os
import subprocess
import time

BY = {
    "plain": {"stdout": None},
    "preexec_fn": {"preexec_fn": int},
    "no_close_fds": {"close_fds": False},
    "output": {"stdout": subprocess.PIPE},
}
start_program = getattr(subprocess, "Popen")  # noqa: B009 (its overloads do not suit **)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--program", default="/bin/true")
parser.add_argument("ways", choices=sorted(BY), nargs="+")
options = parser.parse_args()
clock = getattr(time, "monotonic", time.time)
for way in options.ways:
    start = clock()
    try:
        popen = start_program([options.program], **BY[way])  # type: ignore[arg-type]
    except OSError:
        popen = None
    seconds = clock() - start
    line = {
        "kind": "spawn",
        "pid": os.getpid(),
        "child": popen.pid if popen else None,
        "seconds": seconds,
        "failed": popen is None,
    }
    os.write(1, json.dumps(line).encode() + b"\n")
    if popen:
        popen.communicate()
os.write(1, json.dumps({"kind": "done", "spawns": len(options.ways)}).encode() + b"\n")
