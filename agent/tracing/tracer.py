# SPDX-License-Identifier: Apache-2.0
"""Turn what the probes see into diagnosed spawns and stalls.

The record of an ended spawn is held for a moment before it is judged, because the cause depends on whether a
holder that closed its copy goes on to exec.  The kernel sends no record of a stall in progress: the tracer
looks at the spawns that the kernel side watches every quarter of a second, and sooner after a notice.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from typing import Optional, Union

from agent import diagnosis
from agent.host import procfs
from agent.model import Confirmation, Spawn, Stall, StuckExec, stall_began
from agent.tracing.earlier import EarlierHangs
from agent.tracing.holdersearch import PATIENCE_NS, HolderSearch, youngest
from agent.tracing.known import Known, KnownSpawns
from agent.tracing.prepared import Prepared, TraceError, TracerOptions
from agent.tracing.readers import SEARCHED_WITHIN_NS, Readers
from agent.tracing.stallstacks import StallStacks
from agent.tracing.stuckexecs import LATE_NS, StuckExecs
from agent.tracing.translate import CommStats, MapUse, ProbeStatus, aggregate, polled, to_spawn
from probes import loader, records, selftest

__all__ = ["Tracer"]

_SETTLE_NS = 100_000_000
_LOOK_NS = 250_000_000
_SOONEST_NS = 20_000_000
"""Earliest look after the wait began: a shorter stall is over before it can be looked at.  It is also when
records that follow a notice are read, as the kernel side sends no other notice so soon (NOTICE_NS)."""
_LOOK_SHARE = 8
"""Looks take at most about 1/N of a core, however many stalls are in progress."""
_TURN_NS = 200_000_000
"""How long records are received or judged before the next look."""
_FOREVER_NS = 1 << 62
_MAX_SETTLING = 8192
"""Spawns that wait to be judged; further records stay in their queue, which takes less memory."""
_LAST_PATIENCE_NS = 500_000_000
"""How long the end of tracing waits for a search."""
_CENSUS_NS = 500_000_000
_CENSUS_SHARE = 100
"""Scanning the spawns that are not watched takes at most 1/N of a core."""
_DRAIN_INTERVAL_NS = 2_000_000
_UNUSED_NS = 3_600_000_000_000
_OTHER = b"~other"
"""Key under which the kernel side counts spawns whose comm has no map entry."""
_UNFINISHED_NS = 2_000_000_000
"""The age of a spawn or of its end-of-file from which what is missing is no longer expected."""
_STOPPED_NS = 5_000_000_000
"""A tracer that has not looked for so long was stopped, or starved."""
_UNKNOWN_TO_THE_KERNEL_SIDE = (records.Counter.RECORDS_LOST, records.Counter.SPAWNS_REFUSED)
"""Counters of what only a search of ``/proc`` can find."""
_TIDY_NS = 60_000_000_000
"""How often the entries of comms without a spawn for an hour are removed."""


@dataclasses.dataclass
class _Unended:
    """A stall that was reported in progress; missing: since when the kernel side does not have its spawn."""

    spawn: Spawn
    missing: Optional[int] = None


class Tracer:
    """Trace spawns; a context manager whose ``run_once`` waits for records and calls back.

    on_spawn(spawn) is called for each ended spawn (with every); on_stall(stall) for each stall when it ends,
    and once while it is in progress if it lasts; on_stuck(stuck) for each own child that has not called exec
    for more than a second, and when that has ended.  Raises TraceError if tracing cannot start.
    """

    def __init__(
        self,
        options: Union[TracerOptions, Prepared],
        on_stall: Callable[[Stall], None],
        on_spawn: Optional[Callable[[Spawn], None]] = None,
        on_stuck: Optional[Callable[[StuckExec], None]] = None,
    ) -> None:
        if isinstance(options, Prepared):
            prepared = options
        else:
            prepared = Prepared()
            prepared.begin(options)
        self._options = options = prepared.options
        self._min_ns, self._ongoing_ns = options.min_ns, options.ongoing_ns
        self._on_stall = on_stall
        self._on_spawn = on_spawn
        self._on_stuck = on_stuck
        self._records = prepared.records
        # More than can be in flight, because some end without a record.
        self._remembered = 2 * options.max_spawns
        self._known = KnownSpawns(self._remembered + _MAX_SETTLING)
        self._readers = Readers(self._known)
        self._settling: deque[tuple[int, Spawn]] = deque()
        self._next_look = 0
        self._earliest_look = 0
        self._next_poll = _FOREVER_NS
        self._drained = 0
        self._ongoing: dict[int, Stall] = {}
        self._last_look = 0
        self._lost = 0
        self._reading_maps = threading.Lock()
        self.self_test_failure: Optional[str] = "not run"
        self._self_test = selftest.SelfTest()
        self._stacks: Optional[StallStacks] = None
        self._judged: OrderedDict[int, None] = OrderedDict()
        self._late_wakeups: dict[bytes, int] = {}
        self._counted_since: dict[bytes, int] = {}
        self._next_census = 0
        self._census: list[records.Spawn] = []
        self._unfinished = 0
        self._unended: dict[int, _Unended] = {}
        self._next_tidy = 0
        self._self_test.begin()
        try:
            self._probes = prepared.take()
        except TraceError:
            self._self_test.close()
            raise
        self._holders = HolderSearch(self._probes, self._reading_maps, self._known)
        self._earlier = EarlierHangs(options.targets)
        self._stuck = StuckExecs()
        self._stuck_execs: tuple[StuckExec, ...] = ()
        self._earlier_stuck_execs: tuple[StuckExec, ...] = ()
        if options.stacks:
            self._stacks = StallStacks(self._probes, self._reading_maps)
        for pid in options.targets:
            self._probes.add_target(pid)
            for descendant in procfs.descendants(pid):
                self._probes.add_target(descendant)

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach the probes and remove everything from the kernel."""
        self._self_test.close()
        self._holders.close()
        self._earlier.close()
        self._stuck.close()
        if self._stacks is not None:
            self._stacks.close()
        with self._reading_maps:
            self._probes.close()

    def start(self) -> Optional[str]:
        """Start tracing and run the self-test; return its failure, or None if it passed."""
        self._probes.start()
        add_target = self._probes.add_target if self._options.targets else _no_target
        sees_holders = self._probes.sees_fd_tables
        self.self_test_failure = self._self_test.run(self._poll, add_target, sees_holders)
        self._probes.forget_comm(selftest.COMM)
        self._probes.set_threshold(self._min_ns)
        self._earlier.search_soon()
        return self.self_test_failure

    def set_thresholds(self, min_ns: int, ongoing_ns: int) -> None:
        """Change the minimum duration of a stall, and the age at which one in progress is reported."""
        self._min_ns, self._ongoing_ns = min_ns, ongoing_ns
        self._probes.set_threshold(min_ns)

    @property
    def counts_exposures(self) -> bool:
        """Whether this kernel lets the kernel side count foreign copies."""
        return self._probes.sees_fd_tables

    @property
    def bcc_version(self) -> str:
        """Version of the bcc that compiled the kernel side."""
        return self._probes.bcc_version

    def probes(self) -> dict[str, ProbeStatus]:
        """The status of each BPF program by tracepoint, such as ``syscalls:sys_enter_close``."""
        return self._probes.probes()

    @property
    def confirmations(self) -> dict[Confirmation, int]:
        """Number of holders that a search of open files found, by result."""
        return self._holders.confirmations

    @property
    def ongoing(self) -> tuple[Stall, ...]:
        """The stalls in progress at the last look.

        While ``run_once`` is being called, that is 0.25 s ago, or longer if there are thousands.
        """
        return tuple(self._ongoing.values())

    @property
    def execs_in_progress(self) -> tuple[StuckExec, ...]:
        """The spawns whose own child has not called exec for more than a second, at the last look."""
        return (*self._stuck_execs, *self._earlier_stuck_execs)

    def run_once(self, timeout_seconds: float) -> None:
        """Wait for records until the timeout or the next look, and judge the spawns that are due."""
        due = min(max(self._next_look, self._earliest_look), self._next_poll)
        until_due = -((time.monotonic_ns() - due) // 1_000_000)  # rounded up
        timeout_ms = 1 if self._records else max(1, min(int(timeout_seconds * 1000), until_due))
        self._poll(timeout_ms, _TURN_NS, _MAX_SETTLING)
        now = time.monotonic_ns()
        if now >= self._next_poll:
            self._next_poll = _FOREVER_NS
        if now >= max(self._next_look, self._earliest_look):
            self._next_look = now + _LOOK_NS
            before = time.thread_time_ns()
            self._look(now)
            self._earliest_look = time.monotonic_ns() + _LOOK_SHARE * (time.thread_time_ns() - before)
        self._judge(now - _SETTLE_NS, _TURN_NS)
        if now >= self._next_tidy:
            self._next_tidy = now + _TIDY_NS
            self._tidy(now)

    def drain(self) -> None:
        """Judge everything received so far, after a short wait for late releases."""
        self._poll(1)
        deadline = time.monotonic_ns() + _SETTLE_NS
        while (now := time.monotonic_ns()) < deadline and (self._settling or self._lingering()):
            self._poll(10)
        self._holders.take(_LAST_PATIENCE_NS)
        self._judge(now)
        self._look(now + _SETTLE_NS, _LAST_PATIENCE_NS, _FOREVER_NS)
        self._judge(now)
        with self._reading_maps:
            spawns = self._probes.spawns()
        self._free_unfinished(spawns, now + _UNFINISHED_NS)
        stalls, stuck = self._earlier.finish(now)
        for stall in stalls:
            self._end(stall.spawn)
            self._on_stall(stall)
        if self._on_stuck is not None:
            for one in stuck:
                self._on_stuck(one)

    def comm_stats(self) -> dict[bytes, CommStats]:
        """The kernel side's aggregates by comm; those of a comm without a spawn for an hour are removed."""
        with self._reading_maps:
            found = self._probes.comm_stats()
            now = time.monotonic_ns()
            since = {comm: self._counted_since.setdefault(comm, now) for comm in found}
        return {
            comm: aggregate(stats, self._late_wakeups.get(comm, 0), since[comm])
            for comm, stats in found.items()
        }

    def counters(self) -> dict[str, int]:
        """The kernel side's counters by lower-case name.

        ``records_lost`` includes those lost here; ``misses`` counts events that a BPF program did not see,
        and ``searches_cut`` searches that left something out.
        """
        with self._reading_maps:
            found = {which.name.lower(): value for which, value in self._probes.counters().items()}
            found["misses"] = self._probes.misses()
        found["records_lost"] += self._records.lost
        found["spawns_unfinished"] = self._unfinished
        found["searches_cut"] = self._holders.cut + self._earlier.cut + self._stuck.cut
        return found

    def map_uses(self) -> dict[str, MapUse]:
        """The use of each map that can fill up."""
        with self._reading_maps:
            return self._probes.map_uses()

    # -- records --

    def _poll(self, timeout_ms: int, turn_ns: int = _FOREVER_NS, most: float = math.inf) -> None:
        """Wait for records, and receive them until all are received or the turn is over.

        most: number of spawns that wait to be judged at which it stops.
        """
        self._probes.poll(timeout_ms)
        until = time.monotonic_ns() + turn_ns
        for _ in range(len(self._records)):
            if len(self._settling) >= most:
                return
            self._receive(self._records.next())
            self._drain_perf_buffer()
            if self._drained >= until:
                return

    def _drain_perf_buffer(self) -> None:
        """Queue new records; called between slow operations, so that the perf buffer does not overflow."""
        now = time.monotonic_ns()
        if now - self._drained >= _DRAIN_INTERVAL_NS:
            self._drained = now
            self._probes.poll(0)

    def _receive(self, record: loader.Record) -> None:
        if isinstance(record, records.Notice):
            soon = time.monotonic_ns() + _SOONEST_NS  # without another notice
            if record.kind == records.RecordKind.WAITING:
                self._next_look = min(self._next_look, soon)
            else:
                self._next_poll = soon
            return
        if self._self_test.receive(record) or selftest.is_played(record):
            return
        if record.id not in self._judged:  # a look may have judged it before its record arrived
            self._settle(to_spawn(record))

    def _settle(self, spawn: Spawn) -> None:
        """Judge an ended spawn now, or queue it if a late release may still arrive."""
        known = self._known.get(spawn.id)
        if known is not None and known.polled:
            spawn = polled(spawn)
        if spawn.outcome is not None and not spawn.held and known is None:
            self._judge_one(spawn)
            return
        self._settling.append((time.monotonic_ns(), spawn))
        began = stall_began(spawn)
        is_long = began is not None and (spawn.read_ended or began) - began >= self._min_ns
        if is_long or (spawn.exposures and self._on_spawn is not None):
            # Look up identities now: the processes may exit before the spawn is judged.
            known = self._known.of(spawn.id)
            self._known.who(known, spawn.pid, spawn.created)
            if is_long and self._stacks is not None:
                self._stacks.note_forks(spawn.releases, known)

    def _judge(self, until: int, turn_ns: int = _FOREVER_NS) -> None:
        """Judge the spawns that were queued by then, until all are judged or the turn is over."""
        end = time.monotonic_ns() + turn_ns
        while self._settling and self._settling[0][0] <= until:
            self._judge_one(self._settling.popleft()[1])
            self._drain_perf_buffer()
            if self._drained >= end:
                return

    def _end(self, spawn: Spawn) -> None:
        """Note that a spawn is no longer in progress."""
        self._ongoing.pop(spawn.id, None)

    def _judge_one(self, spawn: Spawn) -> None:
        self._judged[spawn.id] = None
        self._unended.pop(spawn.id, None)
        while len(self._judged) > self._remembered:
            self._judged.popitem(last=False)
        known = self._known.pop(spawn.id)
        if known.polled:
            spawn = polled(spawn)
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
            known.holding,
        )
        if stall is None and known.reported and known.shown is not None:
            ended = spawn.read_ended or time.monotonic_ns()
            stall = dataclasses.replace(known.shown[2], ended=ended)
        self._end(spawn)
        if late >= self._min_ns and spawn.held:  # without a foreign copy, the kernel side has counted it
            self._late_wakeups[spawn.comm] = self._late_wakeups.get(spawn.comm, 0) + 1
        if stall is not None:
            ended = stall.ended or 0
            stall = self._identified(stall, known)
            self._on_stall(stall if self._stacks is None else self._stacks.added_to(stall, known, ended))
        if self._on_spawn is not None:
            if spawn.exposures:
                spawn = dataclasses.replace(spawn, identity=known.identities.get(spawn.pid))
            self._on_spawn(spawn)
        stuck = self._stuck.end(spawn, time.monotonic_ns())
        if stuck is not None and self._on_stuck is not None:
            self._on_stuck(stuck)

    def _tidy(self, now: int) -> None:
        """Remove the entries of comms without a spawn for an hour, so that a full map recovers."""
        with self._reading_maps:
            for comm, stats in self._probes.comm_stats().items():
                if comm != _OTHER and stats.used and now - stats.used > _UNUSED_NS:
                    self._probes.forget_comm(comm)
                    self._late_wakeups.pop(comm, None)
                    self._counted_since.pop(comm, None)

    # -- stalls in progress --

    def _look(self, now: int, patience_ns: int = PATIENCE_NS, turn_ns: int = _TURN_NS) -> None:
        """Bring ``ongoing`` up to date, and report the stalls that have become old enough.

        patience_ns: how long to wait for a search for holders that begins here.
        turn_ns: how long to report; the next look goes on.
        """
        with self._reading_maps:
            watched = self._probes.watched()
        if now >= self._next_census:
            self._census = self._unwatched(now)
        else:
            self._census = self._probes.still_in_flight(self._census)
        ids = {spawn.id for spawn in watched}
        watched = [
            *watched,
            *(each for each in self._census if each.id not in ids and each.id not in self._judged),
        ]
        in_flight = self._without_ended(self._readers.spawns(watched), now)
        waiting = self._readers.waiting(in_flight, now, min(self._min_ns, _SOONEST_NS))
        self._holders.take(0)
        self._holders.search(waiting, now)
        self._holders.take(patience_ns)
        ongoing, due = {}, []
        for spawn in waiting:
            self._drain_perf_buffer()
            known = self._known.of(spawn.id)
            stall = self._in_progress(spawn, known, now)
            if stall is None:
                continue
            ongoing[spawn.id] = stall
            if known.reported or now - stall.began < self._ongoing_ns:
                continue
            if self._stacks is None or not self._stacks.are_awaited(known, now):
                due.append((stall, known))
        until = time.monotonic_ns() + turn_ns
        for stall, known in due:
            if self._has_ended_since(stall.spawn):
                continue  # its record is on its way
            known.reported = True
            self._unended[stall.spawn.id] = _Unended(stall.spawn)
            self._on_stall(stall)
            self._drain_perf_buffer()
            if self._drained >= until:
                break
        ongoing.update((stall.spawn.id, stall) for stall in self._look_at_earlier(now))
        self._ongoing = ongoing
        if waiting:
            # Look again sooner at a young stall, which may be short, than at an old one.
            soon = max(_SOONEST_NS, youngest(waiting, now))
            self._next_look = min(self._next_look, now + soon)
        if self._holders.is_running:
            self._next_look = min(self._next_look, now + _SOONEST_NS)
        if self._stacks is not None:
            self._stacks.make_room(now)

    def _has_ended_since(self, spawn: Spawn) -> bool:
        """Whether the parent has returned from its read since this look began."""
        return not spawn.elsewhere and not self._probes.is_reading(spawn.place, spawn.id)

    def _without_ended(self, spawns: Iterable[Spawn], now: int) -> list[Spawn]:
        """Those in flight; an ended one is judged if its record waits for a release that does not come."""
        in_flight = []
        for spawn in spawns:
            if spawn.outcome is None:
                in_flight.append(spawn)
            elif now - (spawn.read_ended or 0) > _SETTLE_NS:
                self._probes.free(spawn.place, spawn.id)
                if spawn.id not in self._judged:
                    self._judge_one(spawn)
                    self._drain_perf_buffer()
        return in_flight

    def _in_progress(self, spawn: Spawn, known: Known, now: int) -> Optional[Stall]:
        """The stall of a parent that waits, None if it does not seem to be one."""
        if not known.holding:
            # Most likely the wait is about to end: another search has to find no holder either.
            age = now - (stall_began(spawn) or now)
            if not known.runs or (known.empty_searches < 2 and age < SEARCHED_WITHIN_NS):
                return None
        shown = known.shown
        if shown is not None and shown[:2] == (spawn, known.holding) and self._has_stacks(known, now):
            return shown[2]
        stall = diagnosis.ongoing_stall(spawn, known.holding, now, self._min_ns, self._probes.sees_fd_tables)
        if stall is None:
            return None
        stall = self._identified(stall, known)
        if self._stacks is not None:
            if now - stall.began >= _LOOK_NS:
                self._stacks.ask(stall, known, now)
            stall = self._stacks.added_to(stall, known, now)
        known.shown = spawn, known.holding, stall
        return stall

    def _has_stacks(self, known: Known, now: int) -> bool:
        """Whether a stall has all the stacks that it will get."""
        return self._stacks is None or (known.python is not None and not self._stacks.are_awaited(known, now))

    def _look_at_earlier(self, now: int) -> list[Stall]:
        """The stalls in progress that the kernel side does not know."""
        lost = self._records.lost + sum(map(self._probes.counter, _UNKNOWN_TO_THE_KERNEL_SIDE))
        if lost > self._lost or (self._last_look and now - self._last_look > _STOPPED_NS):
            self._earlier.search_soon()
        self._lost, self._last_look = lost, now
        seen = self._earlier.look(now, self._ongoing_ns, self._followed)
        for stall in seen.reports:
            self._on_stall(stall)
        if self._on_stuck is not None:
            self._earlier_stuck_execs = tuple(seen.stuck)
            for stuck in seen.stuck_reports:
                self._on_stuck(stuck)
        return seen.stalls

    def _followed(self) -> tuple[set[int], set[int]]:
        """The inodes of the pipes that the kernel side follows, and the own children that have not let go."""
        with self._reading_maps:
            spawns = self._probes.spawns()
        return {spawn.inode for spawn in spawns}, {
            spawn.own_pid for spawn in spawns if not spawn.own_released or _may_exit(spawn)
        }

    def _unwatched(self, now: int) -> list[records.Spawn]:
        """Spawns whose parent has waited long although the kernel counted no foreign copy at the time.

        That count misses a copy that is reopened or passed on later.
        """
        before = time.thread_time_ns()
        with self._reading_maps:
            spawns = self._probes.spawns()
        found = [
            spawn
            for spawn in spawns
            if spawn.reading
            and spawn.own_released
            and not spawn.outcome
            and now - max(spawn.own_released, spawn.read_began) > _CENSUS_NS
        ]
        self._free_unfinished(spawns, now)
        self._end_vanished({spawn.id for spawn in spawns}, now)
        if self._on_stuck is not None:
            self._look_at_own_children([spawn for spawn in spawns if _is_late(spawn, now)], now)
        self._next_census = now + max(_CENSUS_NS, _CENSUS_SHARE * (time.thread_time_ns() - before))
        return found

    def _free_unfinished(self, spawns: Collection[records.Spawn], now: int) -> None:
        """Free and count the spawns whose parent, spawner thread or own child the kernel side has lost."""
        for spawn in spawns:
            if (
                spawn.outcome
                or not spawn.own_pid
                or now - max(spawn.created, spawn.read_ended) < _UNFINISHED_NS
            ):
                continue
            child_is_missing = spawn.eof and not (spawn.own_released or spawn.is_socket)
            if child_is_missing or self._probes.process(spawn.pid) is None:
                freed = self._probes.free(spawn.index, spawn.id)
                # Without the kernel's types, the kernel side leaves the pipes of a parent that exits.
                if self._probes.sees_fd_tables or procfs.is_alive(spawn.pid):
                    self._unfinished += freed
            elif _has_returned(spawn, now) and self._probes.free(spawn.index, spawn.id):
                self._unfinished += 1
                if spawn.id not in self._judged:
                    self._judge_one(dataclasses.replace(to_spawn(spawn), reading=False, read_ended=now))

    def _end_vanished(self, in_flight: Collection[int], now: int) -> None:
        """End the stalls reported in progress whose spawn the kernel side has dropped without a record."""
        settling = {spawn.id for _, spawn in self._settling}
        for spawn_id, unended in [*self._unended.items()]:
            if spawn_id in in_flight or spawn_id in settling:
                unended.missing = None
            elif unended.missing is None:
                unended.missing = now
            elif now - unended.missing >= _UNFINISHED_NS:
                self._unfinished += 1
                ended = dataclasses.replace(unended.spawn, reading=False, read_ended=unended.missing)
                self._judge_one(ended)

    def _look_at_own_children(self, late: list[records.Spawn], now: int) -> None:
        stuck, fresh, ended = self._stuck.look(now, list(map(to_spawn, late)))
        self._stuck_execs = tuple(stuck)
        for one in (*fresh, *ended):
            assert self._on_stuck is not None
            self._on_stuck(one)

    def _lingering(self) -> bool:
        """Whether an ended spawn still waits for a foreign holder's release."""
        with self._reading_maps:
            return any(spawn.outcome and spawn.id not in self._judged for spawn in self._probes.watched())

    def _identified(self, stall: Stall, known: Known) -> Stall:
        """The stall with the identities of its processes, remembered or looked up now."""
        spawn = stall.spawn
        holders = []
        for holder in stall.holders:
            if holder.pid is not None:
                identity = self._known.who(known, holder.pid, holder.acquired or stall.began)
                if identity is not None:
                    holder = holder._replace(identity=identity)
            holders.append(holder)
        parent = self._known.who(known, spawn.pid, spawn.created)
        if parent is not None and known.thread is None:
            known.thread = procfs.thread_comm(spawn.pid, spawn.tid)
        return dataclasses.replace(stall, holders=tuple(holders), identity=parent, thread=known.thread)


def _is_late(spawn: records.Spawn, now: int) -> bool:
    """Whether the own child was forked long ago and the parent still waits for it, in read or in vfork."""
    if not spawn.own_pid or spawn.ended or now - spawn.forked < LATE_NS:
        return False
    if spawn.own_released:
        # Its exit is recorded before the kernel closes its files.
        return _may_exit(spawn) and procfs.is_exiting(spawn.own_pid)
    return bool(spawn.reading) or (not spawn.parent_closed and procfs.is_in_vfork(spawn.pid, spawn.tid))


def _may_exit(spawn: records.Spawn) -> bool:
    """Whether the own child has begun to exit, and the parent still reads."""
    return spawn.own_how == records.How.EXIT and bool(spawn.reading)


def _has_returned(spawn: records.Spawn, now: int) -> bool:
    """Whether the parent has closed the errpipe that it reads according to the kernel side."""
    if not spawn.reading or now - spawn.read_began < SEARCHED_WITHIN_NS:
        return False
    return not procfs.has_open(spawn.pid, spawn.read_fd, spawn.inode)


def _no_target(_pid: int) -> None:
    """Do nothing: the whole host is traced."""
