# SPDX-License-Identifier: Apache-2.0
"""Delay what a thread does at a tracepoint, so that a race between two CPUs has a certain outcome.

The eBPF programs at a tracepoint run in the order in which they were attached. One that walks the stack in a
loop delays those that are attached later, and what the kernel does next. As a program, this module runs a
command. Under a tracer that has attached its own programs, it delays only what the kernel does next:

    python -m tests.live.delays EVENT MILLISECONDS COMMAND [ARG...]
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Iterator

from probes import attachment, preflight, programs

__all__ = ["COMM", "delayed", "delaying"]

COMM = "late-one"
"""Only threads whose comm begins with these eight bytes are delayed."""

_GET_CURRENT_COMM, _GET_STACK = 16, 67  # enum bpf_func_id
_STACK_BYTES = 256
_CALLS = 5_000  # by one program: the verifier walks each of them
_CALLS_MS = 4.0  # the least time that these take


def _instruction(code: int, registers: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("<BBhi", code, registers, offset, number)


def _program() -> bytes:
    """Return: if (comm == COMM) for (r7 = 0; r7 < _CALLS; r7++) bpf_get_stack(context, …);."""
    low, high = struct.unpack("<ii", COMM.encode())
    return b"".join(
        [
            _instruction(0xBF, 0x16),  # r6 = r1, the context
            _instruction(0xBF, 0xA1),  # r1 = r10
            _instruction(0x07, 0x01, 0, -16),  # r1 -= 16
            _instruction(0xB7, 0x02, 0, 16),  # r2 = 16
            _instruction(0x85, 0, 0, _GET_CURRENT_COMM),
            _instruction(0x79, 0xA1, -16),  # r1 = *(u64 *)(r10 - 16)
            _instruction(0x18, 0x02, 0, low),  # r2 = COMM
            _instruction(0, 0, 0, high),
            _instruction(0x5D, 0x21, 9),  # if r1 != r2 goto out
            _instruction(0xB7, 0x07, 0, 0),  # r7 = 0
            _instruction(0xBF, 0x61),  # call: r1 = r6
            _instruction(0xBF, 0xA2),  # r2 = r10
            _instruction(0x07, 0x02, 0, -_STACK_BYTES),  # r2 -= _STACK_BYTES
            _instruction(0xB7, 0x03, 0, _STACK_BYTES),  # r3 = _STACK_BYTES
            _instruction(0xB7, 0x04, 0, 0),  # r4 = 0
            _instruction(0x85, 0, 0, _GET_STACK),
            _instruction(0x07, 0x07, 0, 1),  # r7 += 1
            _instruction(0xA5, 0x07, -8, _CALLS),  # if r7 < _CALLS goto call
            _instruction(0xB7, 0x00, 0, 0),  # out: r0 = 0
            _instruction(0x95),  # exit
        ]
    )


@contextlib.contextmanager
def delayed(event: str, milliseconds: float = 4) -> Iterator[list[int]]:
    """Delay an event such as ``syscalls:sys_exit_read``; yield the fds that keep the programs attached."""
    tracefs = preflight.find_tracefs()
    with contextlib.ExitStack() as stack:
        fds: list[int] = []
        for _ in range(max(1, round(milliseconds / _CALLS_MS))):  # one program attaches to an event once
            program = programs.load("delay", _program(), programs.TRACEPOINT)
            stack.callback(os.close, program)
            fds.append(attachment.to_tracepoint(program, event, tracefs))
            stack.callback(os.close, fds[-1])
        yield fds


def delaying(event: str, milliseconds: float, command: list[str]) -> list[str]:
    """Return the command that runs another one with the delay."""
    return [sys.executable, "-m", __name__, event, str(milliseconds), *command]


def main() -> None:
    event, milliseconds, *command = sys.argv[1:]
    with delayed(event, float(milliseconds)) as fds:
        for fd in fds:
            os.set_inheritable(fd, True)
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
