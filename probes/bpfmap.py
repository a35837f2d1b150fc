# SPDX-License-Identifier: Apache-2.0
"""Read and write eBPF maps by bpf(2), without bcc, whose LLVM would cost the agent much memory permanently.

Commands and structures: <linux/bpf.h>, bpf(2).
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from typing import Any, Generic, Optional, TypeVar

from probes.bpfcall import bpf

__all__ = ["BpfMap"]

_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY, _LOOKUP_BATCH = 1, 2, 3, 4, 24
_BATCH = 64  # keeps the buffers small

_Value = TypeVar("_Value")


class _Element(ctypes.Structure):
    """union bpf_attr of the commands on one element."""

    _fields_ = [
        ("map_fd", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),  # or next_key
        ("flags", ctypes.c_uint64),
    ]


class _Batch(ctypes.Structure):
    """union bpf_attr of the commands on many elements."""

    _fields_ = [
        ("in_batch", ctypes.c_uint64),
        ("out_batch", ctypes.c_uint64),
        ("keys", ctypes.c_uint64),
        ("values", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("map_fd", ctypes.c_uint32),
        ("elem_flags", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    ]


class BpfMap(Generic[_Value]):
    """A map by its file descriptor.  Keys and values have ctypes types; reads return copies.

    Methods raise OSError if the kernel refuses.
    """

    def __init__(self, fd: int, key: Any, value: type[_Value]) -> None:
        self.fd = fd
        self._key = key
        self._value = value
        self._has_batches = True

    def get(self, key: object) -> Optional[_Value]:
        """Return a copy of an element's value; None if there is no such element."""
        value = self._value()
        if self._element(_LOOKUP, self._key_of(key), value):
            return value
        return None

    def set(self, key: object, value: object) -> None:
        """Write one element."""
        made = value if isinstance(value, self._value) else self._value(value)  # type: ignore[call-arg]
        self._element(_UPDATE, self._key_of(key), made)

    def delete(self, key: object) -> None:
        """Delete one element, if it exists."""
        self._element(_DELETE, self._key_of(key), None)

    def items(self) -> Iterator[tuple[bytes, _Value]]:
        """Yield raw keys and copies of values; may miss elements that are added or deleted meanwhile."""
        if self._has_batches:
            try:
                yield from self._batches()
                return
            except OSError as error:
                if error.errno not in (
                    errno.EINVAL,
                    errno.ENOTSUP,
                    524,
                ):  # 524: ENOTSUPP
                    raise
                self._has_batches = False  # before 5.6 (commit cb4d03ab499d)
        for key in self.keys():
            value = self._value()
            if self._element(_LOOKUP, self._key.from_buffer_copy(key), value):
                yield key, value

    def keys(self) -> Iterator[bytes]:
        """Yield raw keys, with one system call each."""
        key = None
        while True:
            following = self._key()
            if not self._element(_NEXT_KEY, key, following):
                return
            yield bytes(following)
            key = following

    def count(self) -> int:
        """Return the number of elements."""
        return len({*self.keys()})  # after a deletion, the kernel can begin again

    def _key_of(self, key: object) -> Any:
        return key if isinstance(key, self._key) else self._key(key)

    def _element(self, command: int, key: Any, value: Any) -> bool:
        """Run a command; return False if there is no such element."""
        attributes = _Element(map_fd=self.fd)
        attributes.key = 0 if key is None else ctypes.addressof(key)
        attributes.value = 0 if value is None else ctypes.addressof(value)
        try:
            bpf(command, attributes)
        except FileNotFoundError:
            return False
        return True

    def _batches(self) -> Iterator[tuple[bytes, _Value]]:
        key_size, value_size = ctypes.sizeof(self._key), ctypes.sizeof(self._value)  # type: ignore[arg-type]
        keys = ctypes.create_string_buffer(key_size * _BATCH)
        values = ctypes.create_string_buffer(value_size * _BATCH)
        token = ctypes.create_string_buffer(max(key_size, 4))
        first = True
        room = _BATCH
        while True:
            attributes = _Batch(
                in_batch=0 if first else ctypes.addressof(token),
                out_batch=ctypes.addressof(token),
                keys=ctypes.addressof(keys),
                values=ctypes.addressof(values),
                count=room,
                map_fd=self.fd,
            )
            is_last = False
            try:
                bpf(_LOOKUP_BATCH, attributes)
            except FileNotFoundError:
                is_last = True
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # A hash bucket has more elements than fit.
                room *= 4
                keys = ctypes.create_string_buffer(key_size * room)
                values = ctypes.create_string_buffer(value_size * room)
                continue
            for place in range(attributes.count):
                yield (
                    keys.raw[place * key_size : (place + 1) * key_size],
                    self._value.from_buffer_copy(values, place * value_size),  # type: ignore[attr-defined]
                )
            if is_last:
                return
            first = False
