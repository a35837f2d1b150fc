"""The functions that the kernel has for its system calls, and where those find their arguments.

A program at such a function costs a tenth of one at the system call's tracepoint, and other system calls
nothing: while any such tracepoint is in use, each system call of each process takes a longer way.  Where the
kernel names its function for the read of a pipe, that stands for the system call: other reads cost nothing.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from probes import fentry
from probes.btf import Btf, BtfError

__all__ = ["AT_FUNCTIONS", "NoFunctionsError", "SyscallFunctions", "find"]

AT_FUNCTIONS = ("fentry:", "fexit:")
"""What the place of a program at a kernel function begins with."""

_PIPE_READS = ("anon_pipe_read", "pipe_read")  # as of 6.15, and before

_PREFIXES = {"x86_64": "__x64_sys_", "aarch64": "__arm64_sys_"}
_ARGUMENTS = 4
_REGISTERS = ("di", "si", "dx", "r10")  # of x86_64; aarch64 has them in an array


class NoFunctionsError(Exception):
    """This kernel or machine attaches nothing to them; one line that says why."""


@dataclass(frozen=True)
class SyscallFunctions:
    """events: where to attach each program, ``fentry:FUNCTION`` or ``fexit:FUNCTION``, by the program's name.

    ids: of the functions in the kernel's BTF.  flags: clang's, with the offsets of the arguments.
    """

    events: dict[str, str]
    ids: dict[str, int]
    flags: list[str]


def find(btf: Btf, programs: Sequence[str]) -> SyscallFunctions:
    """programs: ``sys_enter_CALL`` and ``sys_exit_CALL``.  Raises NoFunctionsError: it is all or nothing."""
    machine = platform.machine()
    if machine not in _PREFIXES:
        raise NoFunctionsError(f"not known for {machine}")
    events, ids = {}, {}
    flags = ["-DFENTRY"]
    try:
        # Before it (5.12, commit e21aa341785c, and its backports) a thread that sleeps in a function while
        # the program is detached from it comes back to freed memory.
        btf.offset("bpf_tramp_image", "image")
        offsets = [_offset(btf, machine, place) for place in range(_ARGUMENTS)]
        flags += [f"-DOFF_ARGUMENT_{place}={offset}" for place, offset in enumerate(offsets)]
        pipe_read = _pipe_read(btf)
        if pipe_read is not None:
            flags += ["-DPIPE_READ", f"-DOFF_KIOCB_FILE={btf.offset('kiocb', 'ki_filp')}"]
        for program in programs:
            _sys, side, call = program.split("_", 2)
            function = pipe_read if call == "read" and pipe_read else _PREFIXES[machine] + call
            events[program] = f"{'fentry' if side == 'enter' else 'fexit'}:{function}"
            ids[function] = btf.function(function)
    except BtfError as error:
        raise NoFunctionsError(str(error)) from error
    problem = fentry.problem({number: offsets[0] for name, number in ids.items() if name != pipe_read})
    if problem is not None:
        raise NoFunctionsError(problem)
    return SyscallFunctions(events, ids, flags)


def _pipe_read(btf: Btf) -> Optional[str]:
    """The function that reads a pipe for whoever reads it; None: the kernel lets no program be there."""
    for name in _PIPE_READS:
        with contextlib.suppress(BtfError):
            if fentry.problem({btf.function(name): btf.offset("kiocb", "ki_filp")}) is None:
                return name
    return None


def _offset(btf: Btf, machine: str, place: int) -> int:
    """Of an argument in the saved registers."""
    if machine == "x86_64":
        return btf.offset("pt_regs", _REGISTERS[place])
    return btf.offset("pt_regs", "regs") + 8 * place
