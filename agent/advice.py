"""What to do about a stall, in one sentence a cause."""

from __future__ import annotations

from agent.model import Cause

__all__ = ["advice"]


def advice(cause: Cause) -> str:
    """One short sentence, plain text."""
    return _ADVICE[cause]


_ADVICE = {
    Cause.FORKED: "Start worker processes before threads, or by multiprocessing's start method"
    " spawn or forkserver.",
    Cause.LEAKED: "Start programs with close_fds=True, or use subprocess32 or Python 3, whose fds are"
    " close-on-exec.",
    Cause.LATE_EXEC: "Do without preexec_fn, and look at what makes the holder's exec slow.",
    Cause.OWN_DESCENDANT: "Do not fork in preexec_fn; a child that forks before its exec must close its fds.",
    Cause.PASSED: "Find who passes the fd on (SCM_RIGHTS, pidfd_getfd, /proc/PID/fd), and close it there.",
    Cause.UNKNOWN: "When it happens again, look while it is going on: trace-popen --pid PID --snapshot.",
}
