# SPDX-License-Identifier: Apache-2.0
"""Drop the capabilities that are needed only to load and attach the probes.

Capabilities are per thread, so drop them before starting threads.  See capabilities(7), capset(2).
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Collection
from enum import IntEnum
from pathlib import Path

__all__ = ["Capability", "drop"]

_log = logging.getLogger(__name__)
_VERSION_3 = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38
_UNPRIVILEGED_BPF = Path("/proc/sys/kernel/unprivileged_bpf_disabled")


class Capability(IntEnum):
    """Capabilities that may be needed after the start, by their numbers in <linux/capability.h>."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    FOWNER = 3
    KILL = 5
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    BPF = 39


_READ_PROCESSES = (Capability.DAC_READ_SEARCH, Capability.SYS_PTRACE)


def drop(
    read_maps: Callable[[], object],
    more: Collection[Capability] = (),
    unprivileged_bpf: Path = _UNPRIVILEGED_BPF,
) -> None:
    """Drop all capabilities but those for reading other processes and more; child processes get no others.

    The capability for bpf(2) is kept if read_maps, which reads the probes' maps, fails without it.  A failure
    to drop capabilities is logged.
    """
    try:
        permitted, inheritable = _get()
        kept = permitted & _set_of((*_READ_PROCESSES, *more))
        _set(kept, permitted, inheritable)
        if _maps_need_a_capability(read_maps, unprivileged_bpf):
            # Before Linux 5.8, CAP_SYS_ADMIN is needed instead of CAP_BPF.
            for_bpf = permitted & _set_of((Capability.BPF,)) or permitted & _set_of((Capability.SYS_ADMIN,))
            kept |= for_bpf
        _set(kept, kept, inheritable & kept)
        _call("prctl", ctypes.c_int(_PR_SET_NO_NEW_PRIVS), *map(ctypes.c_ulong, (1, 0, 0, 0)))
    except OSError as error:
        _log.warning("cannot drop the capabilities that are no longer needed: %s", error)
        return
    names = [capability.name for capability in Capability if kept & _set_of((capability,))]
    _log.info("remaining capabilities: %s", ", ".join(names) or "none")


def _maps_need_a_capability(read_maps: Callable[[], object], unprivileged_bpf: Path) -> bool:
    """Whether reading maps needs one: before Linux 5.19 (commit c8644cd0efe7), unless the sysctl is 0.

    A sysctl of 0 can become 1 at any time, so a successful read does not prove that none is needed.
    """
    try:
        if unprivileged_bpf.read_text().strip() == "0":
            return True
        read_maps()
    except OSError:
        return True
    return False


def _set_of(capabilities: Collection[Capability]) -> int:
    return sum(1 << capability for capability in set(capabilities))


def _get() -> tuple[int, int]:
    """The permitted and the inheritable set, as bit masks."""
    data = (ctypes.c_uint32 * 6)()  # low words of effective, permitted, inheritable; then high words
    _call("capget", (ctypes.c_uint32 * 2)(_VERSION_3, 0), data)
    return data[1] | data[4] << 32, data[2] | data[5] << 32


def _set(effective: int, permitted: int, inheritable: int) -> None:
    words = (effective, permitted, inheritable)
    data = (ctypes.c_uint32 * 6)(*(word & 0xFFFFFFFF for word in words), *(word >> 32 for word in words))
    _call("capset", (ctypes.c_uint32 * 2)(_VERSION_3, 0), data)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
