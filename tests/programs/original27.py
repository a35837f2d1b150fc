# -*- coding: utf-8 -*-
# ruff: noqa
# mypy: ignore-errors
# For Python 2.7 ONLY (tests/python27.py unpacks one), so ruff and mypy do not look at this file.
"""Plays the original program of the problem: again and again, two threads start a shell command.

The errpipe of Python 2.7 is made by pipe() and only then set close-on-exec. A sibling forked in
between has a copy that survives the exec (cause `leaked`): the shell, and what the shell starts,
hold it until they exit.

By chance this stalls a few times in 100 iterations. With --force, every iteration of the first
thread stalls: a profile function in it yields the GIL right after the errpipe's os.pipe() returned,
and the sibling forks then. The subprocess module is the stock one.
"""
from __future__ import print_function

import argparse
import ctypes
import fcntl
import json
import os
import subprocess
import sys
import threading

if sys.version_info[:2] != (2, 7):
    sys.exit("original27: for Python 2.7 only")

CLOCK_MONOTONIC = 1
SYS_GETTID = {"x86_64": 186, "aarch64": 178}[os.uname()[4]]

libc = ctypes.CDLL(None)
lock = threading.Lock()
spawns = [0]
output = [1]


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def monotonic():
    now = Timespec()
    libc.clock_gettime(CLOCK_MONOTONIC, ctypes.byref(now))
    return now.seconds + now.nanoseconds / 1e9


def emit(**fields):
    os.write(output[0], json.dumps(fields) + "\n")


def keep_output_to_ourselves():
    """Without pipes the commands would print among the JSON lines: give them /dev/null."""
    output[0] = os.dup(1)
    fcntl.fcntl(output[0], fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def start_program(command, options):
    """Time one Popen: the popen and what to report of it."""
    arguments = {"shell": True, "close_fds": options.close_fds}
    if not options.no_pipes:
        arguments.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    start = monotonic()
    popen = subprocess.Popen(command, **arguments)
    seconds = monotonic() - start
    return popen, {
        "kind": "spawn",
        "pid": os.getpid(),
        "tid": libc.syscall(SYS_GETTID),
        "child": popen.pid,
        "seconds": seconds,
        "start": start,
        "command": command,
    }


def report(record):
    with lock:
        spawns[0] += 1
    emit(**record)


class Forced(object):
    """One forced stall: what the two threads tell each other."""

    def __init__(self):
        self.opened = threading.Event()
        self.forked = threading.Event()
        self.parent = os.getpid()

    def profile_victim(self, frame, event, function):
        # os.pipe() is called by Popen.pipe_cloexec(), for the errpipe from _execute_child()
        if event != "c_return" or function is not os.pipe:
            return
        if frame.f_back.f_code.co_name == "_execute_child":
            self.opened.set()
            self.forked.wait()

    def profile_sibling(self, frame, event, function):
        if event == "c_return" and function is os.fork and os.getpid() == self.parent:
            self.forked.set()


def run_forced(victim, sibling, options):
    for _ in range(options.iterations):
        forced = Forced()
        siblings = []

        def beside():
            forced.opened.wait()
            sys.setprofile(forced.profile_sibling)
            popen, record = start_program(sibling, options)
            sys.setprofile(None)
            report(dict(record, forced=False))
            siblings.append(popen)

        thread = threading.Thread(target=beside)
        thread.start()
        sys.setprofile(forced.profile_victim)
        popen, record = start_program(victim, options)
        sys.setprofile(None)
        thread.join()
        report(dict(record, forced=True, holder=siblings[0].pid))
        popen.communicate()
        siblings[0].communicate()


def run_free(victim, sibling, options):
    def once(command):
        popen, record = start_program(command, options)
        report(record)
        popen.communicate()

    for _ in range(options.iterations):
        threads = [threading.Thread(target=once, args=(command,)) for command in (victim, sibling)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=100, help="per thread")
    parser.add_argument("--sleep", type=float, default=0.03, help="of the sibling's command")
    parser.add_argument("--no-pipes", action="store_true", help="no stdout=PIPE, stderr=PIPE")
    parser.add_argument("--close-fds", action="store_true", help="close_fds=True for all")
    parser.add_argument("--force", action="store_true", help="every iteration stalls")
    options = parser.parse_args()
    if options.no_pipes:
        keep_output_to_ourselves()
    run = run_forced if options.force else run_free
    run("echo 1", "sleep %g" % options.sleep, options)
    emit(kind="done", spawns=spawns[0])


if __name__ == "__main__":
    main()
