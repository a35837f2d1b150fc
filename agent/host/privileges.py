"""Gives up what only the beginning needs: to load and attach the probes takes more rights than to read them.

A capability belongs to a thread, so this is to be done before there are others.  capabilities(7), capset(2).
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
    """Those that anything here needs after the beginning, by their numbers in <linux/capability.h>."""

    DAC_READ_SEARCH = 2
    KILL = 5
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    BPF = 39


_LOOK_AT_OTHERS = (Capability.DAC_READ_SEARCH, Capability.SYS_PTRACE)


def drop(
    read_maps: Callable[[], object],
    more: Collection[Capability] = (),
    unprivileged_bpf: Path = _UNPRIVILEGED_BPF,
) -> None:
    """Keeps the capabilities to look at other processes, and more; no program that is started has others.

    The one for bpf(2) is kept too where read_maps, which reads the probes' maps, fails without it.  What
    cannot be given up is said in the log.
    """
    try:
        permitted, inheritable = _get()
        kept = permitted & _set_of((*_LOOK_AT_OTHERS, *more))
        _set(kept, permitted, inheritable)
        if _maps_take_a_capability(read_maps, unprivileged_bpf):
            # CAP_BPF is there since 5.8.
            for_bpf = permitted & _set_of((Capability.BPF,)) or permitted & _set_of((Capability.SYS_ADMIN,))
            kept |= for_bpf
        _set(kept, kept, inheritable & kept)
        _call("prctl", ctypes.c_int(_PR_SET_NO_NEW_PRIVS), *map(ctypes.c_ulong, (1, 0, 0, 0)))
    except OSError as error:
        _log.warning("the capabilities that are not needed any more could not be given up: %s", error)
        return
    names = [capability.name for capability in Capability if kept & _set_of((capability,))]
    _log.info("capabilities from now on: %s", ", ".join(names) or "none")


def _maps_take_a_capability(read_maps: Callable[[], object], unprivileged_bpf: Path) -> bool:
    """Whether reading maps needs one: before 5.19 (commit c8644cd0efe7) it does, where the sysctl is not 0.

    Where it is 0 it can become 1 at any time, and what works now proves nothing.
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
    """Permitted and inheritable, as bits."""
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
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
