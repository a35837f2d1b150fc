"""Turns what the probes see into diagnosed spawns and stalls; the only module that talks to ``probes``.

A record of an ended spawn is kept a moment before it is judged: a release by exec is seen only after the
reader's return, and whether a holder that closed its copy goes on to exec decides the cause.  Stalls that are
still going on send no record: they are found by looking at the spawns in flight now and then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional, Union

from agent import diagnosis, procfs, stacks
from agent.identity import identify
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
from probes.records import BUCKET_BOUNDS_NS, How, SlotFlag
from probes.stacks import symbolise

if TYPE_CHECKING:
    from agent.config import Config

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
_SEARCH_NS = 1_000_000_000
_REMEMBERED_SPAWNS = 4096
_SELF_TEST_THRESHOLD_NS = 1_000_000
_PATIENCE_NS = 2_000_000_000
_ROOM_NS = 1_000_000_000
_EMPTY_NS = 2_000_000
_MOST_RECORDS = 16384
"""That may wait to be looked at, half a kilobyte each."""

# As plain numbers: an IntFlag takes a microsecond for each operation.
_EXECED, _DESCENDANT, _UNSURE = map(int, (SlotFlag.EXECED, SlotFlag.DESCENDANT, SlotFlag.UNSURE))
_NO_HOLDER = int(SlotFlag.PARENT | SlotFlag.OWN | SlotFlag.LET_GO)


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
    max_tables: int = 8192
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
            max_tables=options.max_tables,
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
    """What was learned of one spawn before its end was judged."""

    releases: list[Release] = field(default_factory=list)
    execed: set[int] = field(default_factory=set)
    confirmations: dict[int, Confirmation] = field(default_factory=dict)
    identities: dict[int, Optional[Identity]] = field(default_factory=dict)
    found: tuple[Holder, ...] = ()
    holding: tuple[Holder, ...] = ()
    searched: int = 0
    leaving: bool = False
    vanished: bool = False
    doubted: set[int] = field(default_factory=set)
    told: bool = False
    forks: dict[tuple[int, int], _Fork] = field(default_factory=dict)
    python: Optional[Future[stacks.Taken]] = None
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
        self._python_stacks: Optional[stacks.PythonStacks] = None
        self._stacks_lost = 0
        self._next_room = 0
        self._records_lost = 0
        self._latest_loss = 0  # when it was noticed
        self._self_test.begin()
        try:
            self._probes = prepared.take()
        except TraceError:
            self._self_test.close()
            raise
        if options.stacks:
            self._python_stacks = stacks.PythonStacks()
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
        self.self_test_failure = self._self_test.run(self._poll, add_target)
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

    def drain(self) -> None:
        """Judges everything that has come, waiting the moment that late releases need."""
        self._poll(1)
        deadline = time.monotonic_ns() + _SETTLE_NS
        while self._settling and time.monotonic_ns() < deadline:
            self._poll(10)
        self._judge(time.monotonic_ns())

    def programs(self) -> dict[bytes, Program]:
        """The kernel side's aggregates by comm."""
        with self._reading_maps:
            found = self._probes.programs()
        return {
            comm: Program(
                ok=program.ok,
                exec_failed=program.exec_failed,
                abandoned=program.abandoned,
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

    def _receive(self, record: Union[records.Spawn, records.Release]) -> None:
        if isinstance(record, records.Spawn):
            if self._self_test.receive(record) or selftest.is_played(record):
                return
            spawn = _spawn(record)
            if spawn.outcome is not None and record.foreign_total == 0 and not spawn.held:
                self._judge_one(spawn)
            else:
                self._settling.append((time.monotonic_ns(), spawn))
                began = stall_began(spawn)
                if began is not None and (spawn.read_ended or began) - began >= self._min_ns:
                    # At once: a program that was held up may end before this is judged.
                    known = self._know(spawn.id)
                    self._who(known, spawn.pid, spawn.created)
                    if self._options.stacks:
                        for release in _releases(spawn, known)[-stacks.MOST_HOLDERS :]:
                            self._fork_of(release, known)
        elif record.kind == records.RecordKind.EXECED:
            self._know(record.id).execed.add(record.pid)
        else:
            self._know(record.id).releases.append(_release(record))

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
        known = self._known.pop(spawn.id, None) or _Known()
        releases = _releases(spawn, known)
        # The own child was taken for a foreign one at first, when another thread than the spawner forked it.
        child = spawn.child, spawn.forked
        releases = [release for release in releases if (release.pid, release.acquired) != child]
        released = {release.pid for release in releases}
        still = tuple(holder for holder in known.holding if holder.pid not in released)
        stall = diagnosis.ended_stall(
            spawn,
            releases,
            known.execed,
            known.confirmations,
            self._min_ns,
            self._probes.sees_fd_tables,
            known.found or (still if spawn.read_cut else ()),
            self._lost_records_since(spawn.created),
        )
        self._ongoing = tuple(other for other in self._ongoing if other.spawn.id != spawn.id)
        if stall is not None:
            self._on_stall(self._with_stacks(self._identified(stall, known), known, stall.ended or 0))
        if self._on_spawn is not None:
            self._on_spawn(spawn)

    def _lost_records_since(self, began: int) -> bool:
        """Called at each look as well, so a loss is noticed within 0.25 s."""
        lost = self._probes.counter(records.Counter.RECORDS_LOST) + self._records.lost
        if lost != self._records_lost:
            self._records_lost, self._latest_loss = lost, time.monotonic_ns()
        return self._latest_loss >= began

    # -- stalls that are still going on --

    def _look(self, now: int) -> None:
        self._lost_records_since(now)
        with self._reading_maps:
            in_flight = [_spawn(spawn) for spawn in self._probes.spawns()]
        waiting = {}
        for spawn in in_flight:
            began = stall_began(spawn)
            if not spawn.reading or began is None or now - began < self._min_ns:
                continue
            if spawn.is_socket and not procfs.is_blocked_on(spawn.pid, spawn.read_tid, spawn.read_fd):
                continue
            waiting[spawn.id] = spawn
        holders, leaving = self._holders_of(waiting) if waiting else ({}, set())
        ongoing = []
        for spawn in waiting.values():
            known = self._know(spawn.id)
            known.holding = tuple(holders.get(spawn.id, ()))
            # A holder that has just gone is most likely the end of the stall: the next look will tell.
            known.leaving = spawn.id in leaving and not known.leaving
            names = known.holding or (known.found if known.leaving else self._search(spawn, known, now))
            if not names and procfs.is_stopped(spawn.pid, spawn.read_tid):
                continue  # it does not read on, whoever has let go
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
        if self._options.stacks:
            self._make_room_for_stacks(now)

    def _holders_of(self, waiting: dict[int, Spawn]) -> tuple[dict[int, list[Holder]], set[int]]:
        """The holders that the kernel side knows of by spawn, and the spawns of which one has just gone."""
        found: dict[int, list[Holder]] = {}
        leaving = set()
        with self._reading_maps:
            slots = [(pid, table, slot) for pid, table, slot in self._probes.holders() if slot.id in waiting]
        for pid, table, slot in slots:
            self._make_room_for_records()
            flags = slot.flags
            if flags & _NO_HOLDER:
                continue
            spawn = waiting[slot.id]
            cause = Cause.FORKED
            if flags & _DESCENDANT:
                cause = Cause.OWN_DESCENDANT
            elif flags & _EXECED:
                cause = Cause.LEAKED
            holder = Holder(
                pid=pid,
                comm=procfs.comm_of(pid),
                fds=tuple(fd for fd in slot.fds if fd >= 0),
                cause=cause,
                acquired=table.born,
                released=None,
                parent=table.parent,
                forker=table.forker,
                stack_id=table.stack,
            )
            holder = diagnosis.confirm(holder, self._confirm(spawn, holder))
            if holder.confirmation is Confirmation.GONE:
                leaving.add(slot.id)
                continue
            if flags & _UNSURE and holder.confirmation is not Confirmation.CONFIRMED:
                continue  # a candidate by its parent's table, and it does not have it
            found.setdefault(slot.id, []).append(holder)
        return found, leaving

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
        for number, holder in enumerate(holders[: stacks.MOST_HOLDERS]):
            fork = self._fork_of(holder, known)
            holders[number] = dataclasses.replace(holder, fork_stack=fork.stack)
            if fork.missing is not None:
                missing.append(fork.missing)
        taken = known.python.result() if known.python is not None and known.python.done() else None
        stall = dataclasses.replace(stall, holders=tuple(holders), missing=tuple(missing))
        return stacks.with_python(stall, taken, until)

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

    def _search(self, spawn: Spawn, known: _Known, now: int) -> tuple[Holder, ...]:
        """Holders that the kernel side does not know of, from all of /proc: seldom, as that is dear."""
        began = stall_began(spawn) or now
        waited = now - began
        inode = spawn.inode or procfs.pipe_inode(spawn.pid, spawn.read_fd)
        suspected = spawn.held or spawn.copy_lost or waited >= _SEARCH_NS
        if inode is None or not suspected or now - known.searched < max(_SEARCH_NS, waited // 4):
            return known.found
        # A copy that was given away is passed on purpose; one that was lost sight of can be anything.
        cause = Cause.UNKNOWN if spawn.copy_lost else Cause.PASSED
        found = tuple(
            Holder(
                pid=pid,
                comm=procfs.comm_of(pid),
                fds=tuple(fds),
                cause=cause,
                acquired=None,
                released=None,
                confirmation=Confirmation.CONFIRMED,
            )
            for pid, fds in procfs.find_holders({inode}).get(inode, {}).items()
            if pid not in (spawn.pid, spawn.child)
        )
        # Gone since the last search: most likely the read is ending now. If not, the next look will tell.
        known.vanished = not found and bool(known.found) and not known.vanished
        if not known.vanished:
            known.searched = now
            known.found = found
        return known.found

    def _confirm(self, spawn: Spawn, holder: Holder) -> Optional[Confirmation]:
        assert holder.pid is not None
        known = self._know(spawn.id)
        before = known.confirmations.get(holder.pid)
        if before is Confirmation.CONFIRMED:
            return before
        inode = spawn.inode or procfs.pipe_inode(spawn.pid, spawn.read_fd)
        if inode is None:
            return Confirmation.GONE
        result = procfs.confirm_holder(holder.pid, inode, holder.fds)
        if result is None:
            return None
        if result is Confirmation.MISMATCH:
            with self._reading_maps:
                still_listed = self._probes.holds(holder.pid, spawn.id)
            # An exec closes its copies a little before the kernel side hears of it: look once more.
            if not still_listed or holder.pid not in known.doubted:
                known.doubted.add(holder.pid)
                return Confirmation.GONE
            _log.warning("pid %d was to hold the write end of pipe %d, and does not", holder.pid, inode)
        if before is None:
            self.confirmations[result] += 1
        if result is not Confirmation.GONE:
            known.confirmations[holder.pid] = result
        return result


def _releases(spawn: Spawn, known: _Known) -> list[Release]:
    """All that are known, some of them twice."""
    return [*known.releases, *([spawn.last_release] if spawn.last_release is not None else [])]


def _no_target(_pid: int) -> None:
    """The whole host is traced: nobody is singled out."""


_OUTCOME = {
    0: None,
    records.Outcome.OK: Outcome.OK,
    records.Outcome.EXEC_FAILED: Outcome.EXEC_FAILED,
    records.Outcome.ABANDONED: Outcome.ABANDONED,
}
_BY = {0: None, How.CLOSE: "close", How.EXEC: "exec", How.EXIT: "exit"}


def _release(record: records.Release) -> Release:
    return Release(
        spawn_id=record.id,
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
        left=None if record.left == records.LEFT_UNKNOWN else record.left,
        sure=not record.flags & _UNSURE,
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
        write_fd=record.write_fd,
        created=record.created,
        forked=record.forked or None,
        parent_closed=record.parent_closed or None,
        read_began=record.read_began or None,
        own_released=record.own_released or None,
        own_released_by=_BY[record.own_how],
        read_ended=record.read_ended or None,
        outcome=_OUTCOME[record.outcome],
        reading=bool(record.reading),
        held=bool(record.held),
        copy_lost=bool(record.copy_lost),
        read_cut=bool(record.read_cut),
        exec_error=record.exec_error,
        child_killed=bool(record.killed),
        read_tid=record.read_tid,
        is_socket=bool(record.is_socket),
        last_release=_release(record.last) if record.last.kind else None,
    )
