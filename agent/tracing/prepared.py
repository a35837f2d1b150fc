"""What is traced, and the compiling and loading of the probes for it."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from probes import loader, preflight

if TYPE_CHECKING:
    from agent.settings.agentfile import Config

__all__ = ["Prepared", "RecordQueue", "TraceError", "TracerOptions"]

_SELF_TEST_THRESHOLD_NS = 1_000_000
_MOST_RECORDS = 16384
"""That may wait to be looked at, half a kilobyte each."""


class TraceError(Exception):
    """Tracing cannot begin here: one line that says why and what to do.

    no_ebpf: this host cannot trace at all, so that /proc is all there is.
    """

    def __init__(self, message: str, no_ebpf: bool = False) -> None:
        super().__init__(message)
        self.no_ebpf = no_ebpf


@dataclass(frozen=True)
class TracerOptions:
    """What is traced.

    min_ns: stalls of at least this are told.
    ongoing_ns: a stall that lasts this long is told while it is still going on.
    targets: only these processes and their descendants; empty: the whole host.
    every: tell every spawn, not only stalls.
    tracepoints: attach to tracepoints even where the functions of the system calls would do.
    stacks: tell of each stall where in the code it came about; one that is going on is told up to two
    seconds later for that.
    """

    min_ns: int = 10_000_000
    ongoing_ns: int = 1_000_000_000
    targets: tuple[int, ...] = ()
    every: bool = False
    stacks: bool = False
    use_btf: bool = True
    tracepoints: bool = False
    max_spawns: int = 8192
    max_processes: int = 4096
    max_stacks: int = 8192
    buffer_pages: int = 128

    @staticmethod
    def of(config: Config) -> TracerOptions:
        """As the agent's configuration has them."""
        return TracerOptions(
            min_ns=int(config.stalls.min_ms * 1e6),
            ongoing_ns=int(config.stalls.ongoing_seconds * 1e9),
            stacks=config.stacks.capture,
            tracepoints=config.probes.attach == "tracepoints",
        )


class RecordQueue:
    """Records that have come and were not looked at yet: so many, any more are lost."""

    def __init__(self) -> None:
        self.lost = 0
        self._waiting: deque[loader.Record] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: loader.Record) -> None:
        """Keeps or counts one."""
        if len(self._waiting) < _MOST_RECORDS:
            self._waiting.append(record)
        else:
            self.lost += 1

    def next(self) -> loader.Record:
        """Takes the oldest."""
        return self._waiting.popleft()


class Prepared:
    """The probes of a tracer to be: they are compiled and loaded while the program goes on to get ready.

    A context manager: what no Tracer has taken by its end is given back.
    """

    options: TracerOptions

    def __init__(self) -> None:
        """Starts the process that compiles: it, too, needs a moment to get ready."""
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
        """Has them compiled."""
        self.options = options
        wanted = loader.Options(
            threshold_ns=min(options.min_ns, _SELF_TEST_THRESHOLD_NS),
            targets=bool(options.targets),
            every=options.every,
            stacks=options.stacks,
            use_btf=options.use_btf,
            tracepoints=options.tracepoints,
            max_spawns=options.max_spawns,
            max_processes=options.max_processes,
            max_stacks=options.max_stacks,
            buffer_pages=options.buffer_pages,
        )
        try:
            self._loading = loader.Loading(wanted, self._process)
        except preflight.PreflightError as error:
            self._loading = error

    def take(self) -> loader.Probes:
        """Waits for them, and gives them away; raises TraceError."""
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
