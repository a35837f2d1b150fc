"""The functions that the kernel has for its system calls, and where those find their arguments.

A program at such a function costs a tenth of one at the system call's tracepoint, and other system calls
nothing: while any such tracepoint is in use, each system call of each process takes a longer way.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from probes import fentry
from probes.btf import Btf, BtfError

__all__ = ["AT_FUNCTIONS", "NoFunctionsError", "SyscallFunctions", "find"]

AT_FUNCTIONS = ("fentry:", "fexit:")
"""What the place of a program at a kernel function begins with."""

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
    try:
        # Before it (5.12, commit e21aa341785c, and its backports) a thread that sleeps in a function while
        # the program is detached from it comes back to freed memory.
        btf.offset("bpf_tramp_image", "image")
        for program in programs:
            _sys, side, call = program.split("_", 2)
            function = _PREFIXES[machine] + call
            events[program] = f"{'fentry' if side == 'enter' else 'fexit'}:{function}"
            ids[function] = btf.function(function)
        offsets = [_offset(btf, machine, place) for place in range(_ARGUMENTS)]
    except BtfError as error:
        raise NoFunctionsError(str(error)) from error
    problem = fentry.problem(ids.values(), offsets[0])
    if problem is not None:
        raise NoFunctionsError(problem)
    flags = [f"-DOFF_ARGUMENT_{place}={offset}" for place, offset in enumerate(offsets)]
    return SyscallFunctions(events, ids, ["-DFENTRY", *flags])


def _offset(btf: Btf, machine: str, place: int) -> int:
    """Of an argument in the saved registers."""
    if machine == "x86_64":
        return btf.offset("pt_regs", _REGISTERS[place])
    return btf.offset("pt_regs", "regs") + 8 * place
