"""Turns what the probes see into diagnosed spawns and stalls; the only module that talks to ``probes``.

A record of an ended spawn is kept a moment before it is judged: whether a holder that closed its copy goes on
to exec decides the cause.  Stalls that are still going on send no record: they are found by looking at the
spawns that the kernel side watches, now and then, and more often when it has sent a notice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, Union

from agent import diagnosis
from agent.host import procfs, pyspy
from agent.host.identity import identify
from agent.model import (
    Cause,
    Confirmation,
    Frame,
    Holder,
    Identity,
    Outcome,
    Release,
    Spawn,
    Stack,
    Stall,
    stall_began,
)
from probes import loader, preflight, records, selftest
from probes.loader import ProbeStatus
from probes.records import BUCKET_BOUNDS_NS, How, ReleaseFlag
from probes.stacks import symbolise

if TYPE_CHECKING:
    from agent.settings.agentfile import Config

__all__ = [
    "BUCKET_BOUNDS_NS",
    "Prepared",
    "ProbeStatus",
    "Program",
    "TraceError",
    "Tracer",
    "TracerOptions",
]

_log = logging.getLogger(__name__)

_SETTLE_NS = 100_000_000
_LOOK_NS = 250_000_000
_SOONEST_LOOK_NS = 20_000_000
"""After the wait began: what is shorter ends before anybody can look."""
_FRESH_SHARE, _SEARCH_SHARE, _CALM_SHARE = 5, 20, 200
"""At most one part in so many of the time goes into asking the kernel or /proc who holds a pipe: for a stall
that no search has served, while the youngest is younger than _YOUNG_NS, and later."""
_YOUNG_NS = 2_000_000_000
_CENSUS_NS = 500_000_000
_CENSUS_SHARE = 100
"""Likewise, for going through the spawns in flight that are not watched."""
_REMEMBERED_SPAWNS = 4096
_SELF_TEST_THRESHOLD_NS = 1_000_000
_PATIENCE_NS = 2_000_000_000
_ROOM_NS = 1_000_000_000
_EMPTY_NS = 2_000_000
_MOST_RECORDS = 16384
"""That may wait to be looked at, half a kilobyte each."""
_UNUSED_NS = 3_600_000_000_000
_OTHER = b"~other"
"""Where the kernel side counts the spawns of all comms for which it has no place."""
_TIDY_NS = 60_000_000_000
"""So often, the comms that no spawn had for an hour give their places up."""

# As plain numbers: an IntFlag takes a microsecond for each operation.
_EXECED, _DESCENDANT, _EXPECTED = map(int, ReleaseFlag)


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


class _Records:
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
        self.records = _Records()
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


@dataclass(frozen=True)
class Program:
    """What the kernel side aggregated for the parents of one comm.

    Buckets are counts (not cumulative) for records.BUCKET_BOUNDS_NS and the rest; sums are nanoseconds.
    """

    ok: int
    exec_failed: int
    abandoned: int
    late_wakeups: int
    exposures: Mapping[Cause, int]
    spawn_buckets: tuple[int, ...]
    spawn_sum_ns: int
    exec_buckets: tuple[int, ...]
    exec_sum_ns: int
    vfork_buckets: tuple[int, ...]
    vfork_sum_ns: int


@dataclass(frozen=True)
class _Fork:
    """The stack of a holder's fork, and what is to be said of one that is not as it should be."""

    stack: Optional[Stack] = None
    missing: Optional[str] = None


@dataclass
class _Known:
    """What was learned of one spawn before its end was judged.

    polled: its parent was seen to wait in poll, select or epoll before it read.
    holding: what the latest search found; searched: there was one; seen: when a search last found a process's
    copy, by pid; empty_looks: looks in a row that found nobody.
    """

    holding: tuple[Holder, ...] = ()
    searched: bool = False
    seen: dict[int, int] = field(default_factory=dict)
    empty_looks: int = 0
    polled: bool = False
    identities: dict[int, Optional[Identity]] = field(default_factory=dict)
    told: bool = False
    forks: dict[tuple[int, int], _Fork] = field(default_factory=dict)
    python: Optional[Future[pyspy.Taken]] = None
    asked: int = 0


class Tracer:
    """A context manager; ``run_once`` waits for records and calls back.

    on_spawn(spawn) is called for each ended spawn (with every), on_stall(stall) for each stall: once while it
    is going on, and when it has ended.  Raises TraceError when tracing cannot begin.
    """

    def __init__(
        self,
        wanted: Union[TracerOptions, Prepared],
        on_stall: Callable[[Stall], None],
        on_spawn: Optional[Callable[[Spawn], None]] = None,
    ) -> None:
        if isinstance(wanted, Prepared):
            prepared = wanted
        else:
            prepared = Prepared()
            prepared.begin(wanted)
        self._options = options = prepared.options
        self._min_ns, self._ongoing_ns = options.min_ns, options.ongoing_ns
        self._on_stall = on_stall
        self._on_spawn = on_spawn
        self._records = prepared.records
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._settling: deque[tuple[int, Spawn]] = deque()
        self._next_look = 0
        self._emptied = 0
        self._ongoing: tuple[Stall, ...] = ()
        self._reading_maps = threading.Lock()
        self.confirmations = dict.fromkeys(Confirmation, 0)
        self.self_test_failure: Optional[str] = "not run"
        self._self_test = selftest.SelfTest()
        self._python_stacks: Optional[pyspy.PythonStacks] = None
        self._stacks_lost = 0
        self._next_room = 0
        self._judged: OrderedDict[int, None] = OrderedDict()
        self._late_wakeups: dict[bytes, int] = {}
        self._searched, self._search_took = 0, 0
        self._next_census = 0
        self._next_tidy = 0
        self._self_test.begin()
        try:
            self._probes = prepared.take()
        except TraceError:
            self._self_test.close()
            raise
        if options.stacks:
            self._python_stacks = pyspy.PythonStacks()
        for pid in options.targets:
            self._probes.add_target(pid)
            for descendant in procfs.descendants(pid):
                self._probes.add_target(descendant)

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Detaches the probes; nothing of them stays in the kernel."""
        self._self_test.close()
        if self._python_stacks is not None:
            self._python_stacks.close()
        with self._reading_maps:
            self._probes.close()

    def start(self) -> Optional[str]:
        """Begins to trace and proves that it works; None, or what the self-test found wrong."""
        self._probes.start()
        add_target = self._probes.add_target if self._options.targets else _no_target
        sees_holders = self._probes.sees_fd_tables
        self.self_test_failure = self._self_test.run(self._poll, add_target, sees_holders)
        self._probes.forget_program(selftest.COMM)
        self._probes.set_threshold(self._min_ns)
        return self.self_test_failure

    def set_thresholds(self, min_ns: int, ongoing_ns: int) -> None:
        """From now on, stalls of at least the one are told, and while they are going on after the other."""
        self._min_ns, self._ongoing_ns = min_ns, ongoing_ns
        self._probes.set_threshold(min_ns)

    @property
    def bcc_version(self) -> str:
        """Version of the bcc that compiled the kernel side."""
        return self._probes.bcc_version

    def probes(self) -> dict[str, ProbeStatus]:
        """The programs of the kernel side by tracepoint, as in ``syscalls:sys_enter_close``."""
        return self._probes.probes()

    @property
    def ongoing(self) -> tuple[Stall, ...]:
        """The stalls that were going on at the last look, at most 0.25 s ago while ``run_once`` is called."""
        return self._ongoing

    def run_once(self, timeout_seconds: float) -> None:
        """Waits at most that long for records (or until the next look), and judges what is due."""
        until_look = -((time.monotonic_ns() - self._next_look) // 1_000_000)  # rounded up
        self._poll(max(1, min(int(timeout_seconds * 1000), until_look)))
        now = time.monotonic_ns()
        if now >= self._next_look:
            self._next_look = now + _LOOK_NS
            self._look(now)
        self._judge(now - _SETTLE_NS)
        if now >= self._next_tidy:
            self._next_tidy = now + _TIDY_NS
            self._tidy(now)

    def drain(self) -> None:
        """Judges everything that has come, waiting the moment that late releases need."""
        self._poll(1)
        deadline = time.monotonic_ns() + _SETTLE_NS
        while (now := time.monotonic_ns()) < deadline and (self._settling or self._lingering()):
            self._poll(10)
        self._judge(now)
        self._look(now + _SETTLE_NS)
        self._judge(now)

    def programs(self) -> dict[bytes, Program]:
        """The kernel side's aggregates by comm."""
        with self._reading_maps:
            found = self._probes.programs()
        return {
            comm: Program(
                ok=program.ok,
                exec_failed=program.exec_failed,
                abandoned=program.abandoned,
                late_wakeups=program.late_wakeups + self._late_wakeups.get(comm, 0),
                exposures=dict(zip(_EXPOSURES, program.exposures)),
                spawn_buckets=tuple(program.spawn.buckets),
                spawn_sum_ns=program.spawn.sum_ns,
                exec_buckets=tuple(program.exec.buckets),
                exec_sum_ns=program.exec.sum_ns,
                vfork_buckets=tuple(program.vfork.buckets),
                vfork_sum_ns=program.vfork.sum_ns,
            )
            for comm, program in found.items()
        }

    def counters(self) -> dict[str, int]:
        """The kernel side's counters by their lower-case names, with the records that were lost here, and
        ``misses``: events that a program did not see.
        """
        with self._reading_maps:
            found = {which.name.lower(): value for which, value in self._probes.counters().items()}
            found["misses"] = self._probes.misses()
        found["records_lost"] += self._records.lost
        return found

    def map_entries(self) -> dict[str, tuple[int, int]]:
        """Entries now and at most, by map."""
        with self._reading_maps:
            return self._probes.map_entries()

    # -- records --

    def _poll(self, timeout_ms: int) -> None:
        self._probes.poll(timeout_ms)
        for _ in range(len(self._records)):
            self._receive(self._records.next())
            self._make_room_for_records()

    def _make_room_for_records(self) -> None:
        """To be called between all that takes time: in a storm, the perf buffer is emptied first."""
        now = time.monotonic_ns()
        if now - self._emptied >= _EMPTY_NS:
            self._emptied = now
            self._probes.poll(0)

    def _receive(self, record: loader.Record) -> None:
        if isinstance(record, records.Notice):
            self._next_look = min(self._next_look, time.monotonic_ns() + _SOONEST_LOOK_NS)
            return
        if self._self_test.receive(record) or selftest.is_played(record):
            return
        if record.id not in self._judged:  # it was still there at the last look
            self._settle(_spawn(record))

    def _settle(self, spawn: Spawn) -> None:
        """Judges a spawn that has ended, now or in a moment."""
        known_before = self._known.get(spawn.id)
        if known_before is not None and known_before.polled:
            spawn = _polled(spawn)
        if spawn.outcome is not None and not spawn.held and known_before is None:
            self._judge_one(spawn)
            return
        self._settling.append((time.monotonic_ns(), spawn))
        began = stall_began(spawn)
        if began is not None and (spawn.read_ended or began) - began >= self._min_ns:
            # At once: a program that was held up may end before this is judged.
            known = self._know(spawn.id)
            self._who(known, spawn.pid, spawn.created)
            if self._options.stacks:
                for release in spawn.releases[-pyspy.MOST_HOLDERS :]:
                    self._fork_of(release, known)

    def _know(self, spawn_id: int) -> _Known:
        known = self._known.get(spawn_id)
        if known is None:
            known = self._known[spawn_id] = _Known()
            while len(self._known) > _REMEMBERED_SPAWNS:
                self._known.popitem(last=False)
        return known

    def _judge(self, until: int) -> None:
        while self._settling and self._settling[0][0] <= until:
            self._judge_one(self._settling.popleft()[1])
            self._make_room_for_records()

    def _judge_one(self, spawn: Spawn) -> None:
        self._judged[spawn.id] = None
        while len(self._judged) > _REMEMBERED_SPAWNS:
            self._judged.popitem(last=False)
        known = self._known.pop(spawn.id, None) or _Known()
        if known.polled:
            spawn = _polled(spawn)
        released = {release.pid for release in spawn.releases}
        execed = [
            release.pid
            for release in spawn.releases
            if release.by == "close" and self._probes.execed(release.pid) >= release.at
        ]
        stall, late = diagnosis.judge(
            spawn,
            self._min_ns,
            self._probes.sees_fd_tables,
            execed,
            known.seen,
            tuple(holder for holder in known.holding if holder.pid not in released),
        )
        self._ongoing = tuple(other for other in self._ongoing if other.spawn.id != spawn.id)
        if late >= self._min_ns and spawn.held:  # the kernel side counts the others
            self._late_wakeups[spawn.comm] = self._late_wakeups.get(spawn.comm, 0) + 1
        if stall is not None:
            self._on_stall(self._with_stacks(self._identified(stall, known), known, stall.ended or 0))
        if self._on_spawn is not None:
            self._on_spawn(spawn)

    def _tidy(self, now: int) -> None:
        """Frees the places of comms that no spawn had for an hour: a full map is not full for ever."""
        with self._reading_maps:
            for comm, program in self._probes.programs().items():
                if comm != _OTHER and program.used and now - program.used > _UNUSED_NS:
                    self._probes.forget_program(comm)
                    self._late_wakeups.pop(comm, None)

    # -- stalls that are still going on --

    def _look(self, now: int) -> None:
        with self._reading_maps:
            watched = self._probes.watched()
        if now >= self._next_census:
            watched += self._unwatched({spawn.id for spawn in watched}, now)
        waiting = {}
        for spawn in map(_spawn, watched):
            began = stall_began(spawn)
            if spawn.outcome is not None:
                # It waits for a release that does not come: nothing more will be known of it.
                ended = spawn.read_ended or 0
                if now - ended > _SETTLE_NS:
                    self._probes.free(spawn.place)
                    if spawn.id not in self._judged:
                        self._judge_one(spawn)
                continue
            if began is None and self._is_polling(spawn):
                self._know(spawn.id).polled = True
            if spawn.id in self._known and self._known[spawn.id].polled:
                spawn = _polled(spawn)
                began = stall_began(spawn)
            if not spawn.reading or began is None or now - began < min(self._min_ns, _SOONEST_LOOK_NS):
                continue
            if spawn.is_socket and not procfs.is_blocked_on(spawn.pid, spawn.read_tid, spawn.read_fd):
                continue
            waiting[spawn.id] = spawn
        copies = self._copies(waiting.values(), now) if waiting else {}
        processes: dict[int, Any] = {}
        comms: dict[int, bytes] = {}
        ongoing = []
        for spawn in waiting.values():
            self._make_room_for_records()
            known = self._know(spawn.id)
            if copies is not None:
                known.searched = True
                known.holding = tuple(
                    self._holder(spawn, known, pid, fds, now, processes, comms)
                    for pid, fds in copies.get(spawn.id, {}).items()
                    if not self._is_family(spawn, pid, processes)
                )
            # Nobody: most likely the wait is ending just now. If not, the next look will tell.
            known.empty_looks = 0 if known.holding else known.empty_looks + 1
            names = known.holding
            if not names and (
                known.empty_looks < 2 or copies is None or procfs.is_stopped(spawn.pid, spawn.read_tid)
            ):
                continue  # or it does not read on, whoever has let go
            stall = diagnosis.ongoing_stall(spawn, names, now, self._min_ns, self._probes.sees_fd_tables)
            if stall is None:
                continue
            stall = self._identified(stall, known)
            if self._python_stacks is not None and known.python is None and now - stall.began >= _LOOK_NS:
                known.asked = now
                known.python = self._python_stacks.ask(stall)
            stall = self._with_stacks(stall, known, now)
            ongoing.append(stall)
            waits = known.python is not None and not known.python.done() and now - known.asked < _PATIENCE_NS
            if not known.told and not waits and now - stall.began >= self._ongoing_ns:
                known.told = True
                self._on_stall(stall)
        self._ongoing = tuple(ongoing)
        if waiting:
            # The younger, the sooner: a short stall is looked at, too, and a long one not all the time.
            soon = max(_SOONEST_LOOK_NS, _youngest(waiting.values(), now))
            self._next_look = min(self._next_look, now + soon)
        if self._options.stacks:
            self._make_room_for_stacks(now)

    def _unwatched(self, watched: Collection[int], now: int) -> list[records.Spawn]:
        """Spawns whose parent waits for long although the kernel counted no foreign copy when it was asked.

        A copy that was opened anew, or passed on later, is not in that count.  watched: ids of the others.
        """
        with self._reading_maps:
            found = [
                spawn
                for spawn in self._probes.spawns()
                if spawn.reading
                and spawn.own_released
                and not spawn.outcome
                and now - max(spawn.own_released, spawn.read_began) > _CENSUS_NS
                and spawn.id not in watched
            ]
        self._next_census = now + max(_CENSUS_NS, _CENSUS_SHARE * (time.monotonic_ns() - now))
        return found

    def _is_polling(self, spawn: Spawn) -> bool:
        """Whether the parent waits for the errpipe without having read it (Qt does)."""
        if spawn.read_began or not (spawn.held and spawn.own_released and spawn.parent_closed):
            return False
        return any(procfs.is_polling(spawn.pid, tid, spawn.read_fd) for tid in {spawn.tid, spawn.pid})

    def _lingering(self) -> bool:
        """Whether a spawn has ended and waits for a foreign holder's release."""
        with self._reading_maps:
            return any(spawn.outcome and spawn.id not in self._judged for spawn in self._probes.watched())

    def _copies(self, waiting: Collection[Spawn], now: int) -> Optional[dict[int, dict[int, list[int]]]]:
        """Who has which spawn's write end open now: by its id, the fds by pid.  None: nobody has looked."""
        share = _SEARCH_SHARE if _youngest(waiting, now) < _YOUNG_NS else _CALM_SHARE
        if not all(self._know(spawn.id).searched for spawn in waiting):
            share = _FRESH_SHARE
        if now < self._searched + share * self._search_took:
            return None
        open_files = self._probes.open_files
        if open_files is not None:
            by_pipe = {spawn.pipe: spawn.id for spawn in waiting}
            copies: dict[int, dict[int, list[int]]] = {}
            with self._reading_maps:
                for pipe, found in open_files.holders(by_pipe).items():
                    holders = copies.setdefault(by_pipe[pipe], {})
                    for copy in found:
                        holders.setdefault(copy.pid, []).append(copy.fd)
            self._searched, self._search_took = now, time.monotonic_ns() - now
            return copies
        ids = {spawn.inode or procfs.pipe_inode(spawn.pid, spawn.read_fd) or 0: spawn.id for spawn in waiting}
        ids.pop(0, None)
        in_proc = procfs.find_holders(ids)
        self._searched, self._search_took = now, time.monotonic_ns() - now
        return {ids[inode]: in_proc.get(inode, {}) for inode in ids}

    def _process(self, pid: int, processes: dict[int, Any]) -> Optional[Any]:
        if pid not in processes:
            with self._reading_maps:
                processes[pid] = self._probes.process(pid)
        return processes[pid]

    def _cause_of_unseen(self, spawn: Spawn, known: _Known, pid: int) -> Cause:
        """Of a copy whose way to the process was not seen.

        One that was given away is passed on purpose; one that was lost sight of can be anything.
        """
        if not self._probes.sees_fd_tables:
            forked = procfs.has_not_execed(pid)
            if forked is None:  # it has exited since the search: as the search before had it
                return next((each.cause for each in known.holding if each.pid == pid), Cause.UNKNOWN)
            return Cause.FORKED if forked else Cause.UNKNOWN
        return Cause.UNKNOWN if spawn.copy_lost else Cause.PASSED

    def _is_family(self, spawn: Spawn, pid: int, processes: dict[int, Any]) -> bool:
        """Whether it is the parent, or the own child (and not another process that has got its pid)."""
        if pid == spawn.pid:
            return True
        process = self._process(pid, processes) if pid == spawn.child else None
        return pid == spawn.child and (process is None or process.born <= (spawn.own_released or 0))

    def _holder(
        self,
        spawn: Spawn,
        known: _Known,
        pid: int,
        fds: Sequence[int],
        now: int,
        processes: dict[int, Any],
        comms: dict[int, bytes],
    ) -> Holder:
        """A holder whose copy is open now, with what the kernel side knows of how it got it."""
        if pid not in comms:
            comms[pid] = procfs.comm_of(pid)
        if pid not in known.seen:
            self.confirmations[Confirmation.CONFIRMED] += 1
        known.seen[pid] = now
        process = self._process(pid, processes)
        holder = Holder(
            pid=pid,
            comm=comms[pid],
            fds=tuple(fds),
            cause=self._cause_of_unseen(spawn, known, pid),
            acquired=None,
            released=None,
            confirmation=Confirmation.CONFIRMED,
            seen=now,
        )
        if process is None or process.shared or process.born <= spawn.created:
            return holder
        if not self._probes.sees_fd_tables:  # nor what was in that of a child at its fork
            return holder if holder.cause is Cause.UNKNOWN else _forked(holder, process)
        if not self._probes.may_hold(process, spawn.place, spawn.created):
            return holder
        return dataclasses.replace(
            _forked(holder, process),
            cause=diagnosis.cause_of(
                descendant=spawn.child in process.parent and process.born >= (spawn.forked or 0),
                execed=process.execed > 0,
                expected=bool(process.expected) or (not process.execed and procfs.is_in_exec(pid)),
            ),
        )

    def _identified(self, stall: Stall, known: _Known) -> Stall:
        """The stall with who its processes are: remembered from when they were there, or looked up now."""
        spawn = stall.spawn
        holders = []
        for holder in stall.holders:
            if holder.pid is not None:
                identity = self._who(known, holder.pid, holder.acquired or stall.began)
                if identity is not None:
                    holder = dataclasses.replace(holder, identity=identity)
            holders.append(holder)
        parent = self._who(known, spawn.pid, spawn.created)
        return dataclasses.replace(stall, holders=tuple(holders), identity=parent)

    @staticmethod
    def _who(known: _Known, pid: int, seen: int) -> Optional[Identity]:
        if known.identities.get(pid) is None:
            known.identities[pid] = identify(pid, seen)
        return known.identities[pid]

    def _with_stacks(self, stall: Stall, known: _Known, until: int) -> Stall:
        """The stall with where in the code it came about, as far as is known; until: as in with_python."""
        if not self._options.stacks:
            return stall
        missing = []
        holders = list(stall.holders)
        for number, holder in enumerate(holders[: pyspy.MOST_HOLDERS]):
            fork = self._fork_of(holder, known)
            holders[number] = dataclasses.replace(holder, fork_stack=fork.stack)
            if fork.missing is not None:
                missing.append(fork.missing)
        taken = known.python.result() if known.python is not None and known.python.done() else None
        stall = dataclasses.replace(stall, holders=tuple(holders), missing=tuple(missing))
        return pyspy.with_python(stall, taken, until)

    def _fork_of(self, holder: Union[Holder, Release], known: _Known) -> _Fork:
        if holder.pid is None or not holder.acquired or not holder.parent:
            return _Fork(missing="fork: how the holder came by its copy was not seen")
        key = holder.pid, holder.acquired
        if key not in known.forks:
            known.forks[key] = self._look_up_fork(holder.parent, holder.acquired, holder.stack_id)
        return known.forks[key]

    def _look_up_fork(self, forker: int, at: int, stack_id: int) -> _Fork:
        with self._reading_maps:
            addresses = self._probes.fork_stack(stack_id, at)
        if not addresses:
            return _Fork(missing="fork: the kernel side had no room for its stack")
        frames = tuple(Frame(symbol.name, symbol.file, None) for symbol in symbolise(forker, addresses))
        # Asked afterwards: it may have ended while names were looked for, and its pid be another's now.
        if identify(forker, at) is None:
            plain = tuple(Frame(f"{address:#x}", None, None) for address in addresses)
            missing = f"fork: pid {forker} has ended, so that addresses have no names"
            return _Fork(Stack("kernel", plain, at), missing)
        return _Fork(Stack("kernel", frames, at))

    def _make_room_for_stacks(self, now: int) -> None:
        lost = self._probes.counter(records.Counter.STACKS_LOST)
        if lost > self._stacks_lost and now >= self._next_room:
            self._stacks_lost, self._next_room = lost, now + _ROOM_NS
            with self._reading_maps:
                self._probes.make_room_for_stacks()


def _youngest(waiting: Collection[Spawn], now: int) -> int:
    """For how many nanoseconds the latest of these parents has waited."""
    return now - max(stall_began(spawn) or now for spawn in waiting)


def _forked(holder: Holder, process: Any) -> Holder:
    """The holder with its fork, as the kernel side has seen it."""
    return dataclasses.replace(
        holder,
        acquired=process.born,
        parent=process.parent[0],
        forker=process.forker,
        stack_id=process.stack,
    )


def _polled(spawn: Spawn) -> Spawn:
    """The spawn of a parent that has waited in poll since its close."""
    return dataclasses.replace(
        spawn, read_began=spawn.parent_closed, reading=spawn.read_ended is None, elsewhere=True
    )


def _no_target(_pid: int) -> None:
    """The whole host is traced: nobody is singled out."""


_OUTCOME = {
    0: None,
    records.Outcome.OK: Outcome.OK,
    records.Outcome.EXEC_FAILED: Outcome.EXEC_FAILED,
    records.Outcome.ABANDONED: Outcome.ABANDONED,
}
_BY = {0: None, How.CLOSE: "close", How.EXEC: "exec", How.EXIT: "exit"}


_EXPOSURES = (Cause.FORKED, Cause.LEAKED, Cause.LATE_EXEC, Cause.OWN_DESCENDANT)
"""In the order of records.Exposure."""


def _release(record: records.Release) -> Release:
    return Release(
        at=record.ns,
        acquired=record.acquired,
        pid=record.pid,
        parent=record.parent,
        forker=record.forker,
        comm=bytes(record.comm),
        fd=record.fd,
        by=_BY[record.how] or "",
        execed=bool(record.flags & _EXECED),
        descendant=bool(record.flags & _DESCENDANT),
        expected=bool(record.flags & _EXPECTED),
        left=None if record.left == records.LEFT_UNKNOWN else record.left,
        stack_id=record.stack,
    )


def _spawn(record: records.Spawn) -> Spawn:
    return Spawn(
        id=record.id,
        inode=record.inode,
        pid=record.pid,
        tid=record.tid,
        comm=bytes(record.comm),
        child=record.own_pid,
        child_comm=bytes(record.own_comm),
        read_fd=record.read_fd,
        write_fd=record.fds[0],
        created=record.created,
        forked=record.forked or None,
        parent_closed=record.parent_closed or None,
        read_began=record.read_began or None,
        own_released=record.own_released or None,
        own_released_by=_BY[record.own_how],
        read_ended=record.read_ended or None,
        outcome=_OUTCOME[record.outcome],
        pipe=record.key,
        place=record.index,
        reading=bool(record.reading),
        held=bool(record.held),
        copy_lost=bool(record.copy_lost),
        read_cut=bool(record.read_cut),
        exec_error=record.exec_error,
        child_killed=bool(record.killed),
        read_tid=record.read_tid,
        is_socket=bool(record.is_socket),
        elsewhere=bool(record.elsewhere),
        # They are in a ring.
        releases=tuple(
            sorted((_release(release) for release in record.last if release.pid), key=lambda each: each.at)
        ),
    )
