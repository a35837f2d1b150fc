# SPDX-License-Identifier: Apache-2.0
"""What to do about a stall: for good, one sentence for each cause and runtime, with its source; and now."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Optional

from agent.model import Cause

__all__ = ["Advice", "advise", "release", "wait_for_exit"]

_Named = tuple[Optional[int], str]


@dataclass(frozen=True)
class Advice:
    """One sentence of plain text, and the URL of its source."""

    text: str
    source: str


@functools.lru_cache(maxsize=1024)
def advise(cause: Cause, exe: Optional[str] = None) -> Advice:
    """The advice for a cause and the parent's executable (None if unknown)."""
    return _BY_RUNTIME.get((cause, _runtime(exe)), _BY_CAUSE[cause])


def release(
    parent: int,
    holders: Sequence[_Named],
    cause: Cause,
    forker: Optional[int] = None,
    crashed: bool = False,
) -> Optional[str]:
    """How to end a stall in progress now, and what that costs; None if that is not known.

    holders: pid (None if unknown) and printable comm, the one that is waited for first; cause, forker,
    crashed: of that one, forker None if unknown, crashed if the kernel writes its core dump.
    """
    cost = _COSTS.get(cause)
    if cost is None or any(pid is None for pid, _ in holders):
        return None
    if crashed:
        cost = "it has crashed, and the core dump that the kernel writes is then incomplete"
    elif cause is Cause.FORKED and forker == parent:
        cost = f"it is a worker that pid {parent} forked, and its current job is lost"
    names = _names(holders)
    if len(names) > 1:
        return f"Ending all of pids {', '.join(names)} releases it. As for the first: {cost}."
    return f"Ending pid {names[0]} releases it; {cost}."


def wait_for_exit(holders: Sequence[_Named]) -> str:
    """What ends a stall by holders that are exiting already; holders: as in ``release``."""
    names = _names(holders)
    who = f"Pids {', '.join(names)} are" if len(names) > 1 else f"Pid {names[0]} is"
    return (
        f"{who} exiting: the kernel frees memory and closes files. "
        "If that takes long, a file system or a device does not respond."
    )


def _names(holders: Sequence[_Named]) -> list[str]:
    names = [f"{pid} ({comm})" for pid, comm in holders[:_MAX_NAMED]]
    if len(holders) > len(names):
        names.append(f"{len(holders) - len(names)} more")
    return names


_MAX_NAMED = 4
_COSTS = {
    Cause.FORKED: "it is a forked process that has not called exec, and what it is doing is lost",
    Cause.LEAKED: "it is another program, so check what it serves first",
    Cause.LATE_EXEC: "it is about to call exec, so the program that it would run does not start",
    Cause.OWN_DESCENDANT: "it was forked by the program that was started, and what it is doing is lost",
    Cause.PASSED: "it received the copy from another process, so check what it serves first",
}
"""What ending the holder costs, by cause."""

_RUNTIMES = (("python2", r"python2(\.\d)?"), ("python", r"python3[.\d]*"), ("ruby", r"ruby[.\d]*"))
"""Patterns that match the whole name of the executable."""


def _runtime(exe: Optional[str]) -> str:
    name = PurePosixPath((exe or "").removesuffix(" (deleted)")).name
    return next((runtime for runtime, pattern in _RUNTIMES if re.fullmatch(pattern, name)), "")


_BY_CAUSE = {
    Cause.FORKED: Advice(
        "Fork workers before any thread starts programs, or have them call exec.",
        "https://man7.org/linux/man-pages/man2/fork.2.html",
    ),
    Cause.LEAKED: Advice(
        "The pipe was not close-on-exec when another thread started its program: create it with"
        " pipe2(O_CLOEXEC), or start programs from one thread only.",
        "https://man7.org/linux/man-pages/man2/pipe.2.html",
    ),
    Cause.LATE_EXEC: Advice(
        "Find what delays the holder's exec: a hook between fork and exec, or a program on a slow"
        " (network) file system.",
        "https://man7.org/linux/man-pages/man2/execve.2.html",
    ),
    Cause.OWN_DESCENDANT: Advice(
        "A child that forks before its exec must close inherited fds in the process that stays behind.",
        "https://man7.org/linux/man-pages/man7/daemon.7.html",
    ),
    Cause.PASSED: Advice(
        "Find the process that passes the fd on (SCM_RIGHTS, pidfd_getfd, /proc/PID/fd), and close it there.",
        "https://man7.org/linux/man-pages/man7/unix.7.html",
    ),
    Cause.UNKNOWN: Advice(
        "If it happens again, run trace-popen --pid PID while the stall is in progress.",
        "https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html",
    ),
}

_BY_RUNTIME = {
    (Cause.FORKED, "python"): Advice(
        "Start multiprocessing workers with spawn or forkserver, or fork them before threads start programs.",
        "https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods",
    ),
    (Cause.FORKED, "python2"): Advice(
        "Fork workers before any thread starts programs: Python 2's multiprocessing can only fork.",
        "https://docs.python.org/2.7/library/multiprocessing.html",
    ),
    (Cause.FORKED, "ruby"): Advice(
        "Fork workers (Process.fork, prefork servers) before any thread starts programs.",
        "https://docs.ruby-lang.org/en/master/Process.html#method-c-fork",
    ),
    (Cause.LEAKED, "python2"): Advice(
        "Pass close_fds=True wherever programs are started, or use subprocess32 or Python 3 (PEP 446).",
        "https://peps.python.org/pep-0446/",
    ),
    (Cause.LATE_EXEC, "python"): Advice(
        "Find what delays the holder's exec: preexec_fn (user=, cwd= and others replace it), or a program on"
        " a slow (network) file system.",
        "https://docs.python.org/3/library/subprocess.html#subprocess.Popen",
    ),
    (Cause.LATE_EXEC, "python2"): Advice(
        "Find what delays the holder's exec: preexec_fn (move its work to a small program), or a program on a"
        " slow (network) file system.",
        "https://docs.python.org/2.7/library/subprocess.html#subprocess.Popen",
    ),
    (Cause.OWN_DESCENDANT, "python"): Advice(
        "Do not fork in preexec_fn; let the started program daemonize itself.",
        "https://docs.python.org/3/library/subprocess.html#subprocess.Popen",
    ),
}
