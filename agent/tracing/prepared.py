# SPDX-License-Identifier: Apache-2.0
"""The options of a tracer, and compiling and loading its probes in the background."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from agent.errors import UserError
from probes import loader, preflight

if TYPE_CHECKING:
    from agent.settings.agentfile import Config

__all__ = ["Prepared", "RecordQueue", "TraceError", "TracerOptions"]

_MAX_RECORDS = 16384
"""Queued records, half a kilobyte each."""


class TraceError(UserError):
    """Tracing cannot start; one line says why and what to do.

    no_ebpf: this host cannot be traced by eBPF, so only /proc can be used.
    """

    def __init__(self, message: str, no_ebpf: bool = False) -> None:
        super().__init__(message)
        self.no_ebpf = no_ebpf


@dataclass(frozen=True)
class TracerOptions(loader.Options):
    """What to trace; the rest is as in loader.Options.

    min_ns: minimum duration of a stall that is reported.
    ongoing_ns: a stall of this duration is reported while in progress.
    targets: trace only these processes and their descendants; empty: the whole host.
    stacks: add stack traces to each stall; this can delay the report of one in progress by two seconds.
    """

    min_ns: int = 10_000_000
    ongoing_ns: int = 1_000_000_000
    targets: tuple[int, ...] = ()

    @staticmethod
    def of(config: Config) -> TracerOptions:
        """The options that an agent configuration sets."""
        return TracerOptions(
            min_ns=int(config.stalls.min_ms * 1e6),
            ongoing_ns=int(config.stalls.ongoing_seconds * 1e9),
            stacks=config.stacks.capture,
            tracepoints=config.probes.attach == "tracepoints",
        )


class RecordQueue:
    """A bounded queue of received records; records beyond the bound are counted as lost."""

    def __init__(self) -> None:
        self.lost = 0
        self._waiting: deque[loader.Record] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: loader.Record) -> None:
        """Append a record, or count it as lost if the queue is full."""
        if len(self._waiting) < _MAX_RECORDS:
            self._waiting.append(record)
        else:
            self.lost += 1

    def next(self) -> loader.Record:
        """Remove and return the oldest record."""
        return self._waiting.popleft()


class Prepared:
    """Probes that are compiled and loaded while the program continues to start.

    A context manager: on exit it releases probes that no Tracer has taken.
    """

    options: TracerOptions

    def __init__(self) -> None:
        """Start the compiler process early, because it takes a moment to start."""
        self.records = RecordQueue()
        self._undo = contextlib.ExitStack()
        self._process = self._undo.enter_context(loader.CompilerProcess())
        self._loading: Union[loader.Loading, preflight.PreflightError, None] = None

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._undo, contextlib.suppress(TraceError):
            if self._loading is not None:
                self.take().close()

    def begin(self, options: TracerOptions) -> None:
        """Start compiling the probes."""
        self.options = options
        kernel_side = dataclasses.replace(
            options,
            threshold_ns=min(options.min_ns, loader.SELF_TEST_THRESHOLD_NS),
            only_targets=bool(options.targets),
        )
        try:
            self._loading = loader.Loading(kernel_side, self._process)
        except preflight.PreflightError as error:
            self._loading = error

    def take(self) -> loader.Probes:
        """Wait for the probes and hand them over; raises TraceError."""
        loading, self._loading = self._loading, None
        assert loading is not None
        try:
            with self._undo:
                if isinstance(loading, preflight.PreflightError):
                    raise loading
                return loader.Probes(loading, self.records.add)
        except (preflight.PreflightError, loader.LoadError) as error:
            no_ebpf = isinstance(error, preflight.UnsupportedError)
            raise TraceError(str(error), no_ebpf) from error
