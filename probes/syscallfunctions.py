# SPDX-License-Identifier: Apache-2.0
"""The kernel functions that implement system calls, and the offsets of their arguments.

A program at such a function costs about half of one at the system call's tracepoint, and other system calls
nothing; while a tracepoint of any system call is in use, every system call of every process takes a slower
path.  For read, the function that reads pipes is used if the kernel accepts programs there, so other reads
cost nothing.
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
"""Prefixes of places at kernel functions."""

_PIPE_READS = ("anon_pipe_read", "pipe_read")  # since 6.15, and before

_PREFIXES = {"x86_64": "__x64_sys_", "aarch64": "__arm64_sys_"}
_ARGUMENTS = 4
_REGISTERS = ("di", "si", "dx", "r10")  # on x86_64; on aarch64 they are an array


class NoFunctionsError(Exception):
    """Programs cannot be attached to these functions; the message is one line that says why."""


@dataclass(frozen=True)
class SyscallFunctions:
    """Where to attach the programs of system calls.

    events: ``fentry:FUNCTION`` or ``fexit:FUNCTION`` by name of the program; ids: by function, its id in the
    kernel's BTF; flags: for clang, with the offsets of the arguments.
    """

    events: dict[str, str]
    ids: dict[str, int]
    flags: list[str]


def find(btf: Btf, programs: Sequence[str]) -> SyscallFunctions:
    """Find the functions of all programs, which are named ``sys_enter_CALL`` or ``sys_exit_CALL``.

    Raises NoFunctionsError if one of them cannot be used.
    """
    machine = platform.machine()
    if machine not in _PREFIXES:
        raise NoFunctionsError(f"the functions of the system calls on {machine} are unknown")
    events, ids = {}, {}
    flags = ["-DFENTRY"]
    try:
        # Without it (5.12, commit e21aa341785c), a thread that sleeps in a function while the program is
        # detached returns to freed memory.
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
    """The kernel's function that reads pipes; None if it accepts no program there."""
    for name in _PIPE_READS:
        with contextlib.suppress(BtfError):
            if fentry.problem({btf.function(name): btf.offset("kiocb", "ki_filp")}) is None:
                return name
    return None


def _offset(btf: Btf, machine: str, place: int) -> int:
    """Offset of an argument in the saved registers."""
    if machine == "x86_64":
        return btf.offset("pt_regs", _REGISTERS[place])
    return btf.offset("pt_regs", "regs") + 8 * place
