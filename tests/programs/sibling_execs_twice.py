#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A stall of cause `late_exec`: a sibling's helper takes a copy through its exec, and will call exec again.

Java starts programs by such a helper. Its parent begins to read only after the helper has released the copy.
"""

from __future__ import annotations

import argparse
import os
import threading
import time

from _spawns import TRUE, done, emit_spawn

_HELPER = """\
import os, sys, time
copy, errpipe, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
time.sleep(seconds)
os.close(copy)
sys.stdin.read(1)
os.set_inheritable(errpipe, False)
os.execv("/bin/true", ["true"])
"""


def _start(argv: list[str], inherited: list[int], stdin: int) -> int:
    child = os.fork()
    if child == 0:
        for fd in inherited:
            os.set_inheritable(fd, True)
        os.dup2(stdin, 0)
        os.execv(argv[0], argv)
    return child


def play(hold: float) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    told, tell = os.pipe()
    read_end, write_end = os.pipe()
    helper: list[int] = []
    forked, read_its = threading.Event(), threading.Event()

    def sibling() -> None:
        start = time.monotonic()
        its_read_end, its_write_end = os.pipe()
        argv = ["/usr/bin/python3", "-c", _HELPER, str(write_end), str(its_write_end), str(hold)]
        helper.append(_start(argv, [write_end, its_write_end], told))
        forked.set()
        read_its.wait()
        os.close(its_write_end)
        os.write(tell, b".")
        assert os.read(its_read_end, 1) == b""
        emit_spawn(start, time.monotonic() - start, helper[0], role="sibling")
        os.close(its_read_end)

    thread = threading.Thread(target=sibling)
    start = time.monotonic()
    thread.start()
    forked.wait()
    child = _start(TRUE, [], null)
    os.close(write_end)
    assert os.read(read_end, 1) == b""
    emit_spawn(start, time.monotonic() - start, child, role="stalled", holder=helper[0])
    read_its.set()
    thread.join()
    for fd in (read_end, null, told, tell):
        os.close(fd)
    for pid in (child, helper[0]):
        os.waitpid(pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hold", type=float, default=0.4, help="seconds until the helper closes its copy")
    play(parser.parse_args().hold)
    done()


if __name__ == "__main__":
    main()
