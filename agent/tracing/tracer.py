"""Turns what the probes see into diagnosed spawns and stalls; the only module that talks to ``probes``.

A record of an ended spawn is kept a moment before it is judged: whether a holder that closed its copy goes on
to exec decides the cause.  Stalls that are still going on send no record: they are found by looking at the
spawns that the kernel side watches, now and then, and more often when it has sent a notice.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Optional, Union

from agent import diagnosis
from agent.host import procfs
from agent.model import Confirmation, Spawn, Stall, stall_began
from agent.tracing.holdersearch import HolderSearch, youngest
from agent.tracing.known import REMEMBERED_SPAWNS, Known, KnownSpawns
from agent.tracing.prepared import Prepared, TraceError, TracerOptions
from agent.tracing.stallstacks import StallStacks
from agent.tracing.translate import ProbeStatus, Program, aggregate, polled, to_spawn
from probes import loader, records, selftest

__all__ = ["Tracer"]

_SETTLE_NS = 100_000_000
_LOOK_NS = 250_000_000
_SOONEST_LOOK_NS = 20_000_000
"""After the wait began: what is shorter ends before anybody can look."""
_CENSUS_NS = 500_000_000
_CENSUS_SHARE = 100
"""Likewise, for going through the spawns in flight that are not watched."""
_EMPTY_NS = 2_000_000
_UNUSED_NS = 3_600_000_000_000
_OTHER = b"~other"
"""Where the kernel side counts the spawns of all comms for which it has no place."""
_TIDY_NS = 60_000_000_000
"""So often, the comms that no spawn had for an hour give their places up."""


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
        self._known = KnownSpawns()
        self._settling: deque[tuple[int, Spawn]] = deque()
        self._next_look = 0
        self._emptied = 0
        self._ongoing: tuple[Stall, ...] = ()
        self._reading_maps = threading.Lock()
        self.self_test_failure: Optional[str] = "not run"
        self._self_test = selftest.SelfTest()
        self._stacks: Optional[StallStacks] = None
        self._judged: OrderedDict[int, None] = OrderedDict()
        self._late_wakeups: dict[bytes, int] = {}
        self._next_census = 0
        self._next_tidy = 0
        self._self_test.begin()
        try:
            self._probes = prepared.take()
        except TraceError:
            self._self_test.close()
            raise
        self._holders = HolderSearch(self._probes, self._reading_maps, self._known)
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
        """Detaches the probes; nothing of them stays in the kernel."""
        self._self_test.close()
        if self._stacks is not None:
            self._stacks.close()
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
    def confirmations(self) -> dict[Confirmation, int]:
        """How many holders of stalls in progress were found, by what was found."""
        return self._holders.confirmations

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
        return {comm: aggregate(program, self._late_wakeups.get(comm, 0)) for comm, program in found.items()}

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
            self._settle(to_spawn(record))

    def _settle(self, spawn: Spawn) -> None:
        """Judges a spawn that has ended, now or in a moment."""
        known_before = self._known.get(spawn.id)
        if known_before is not None and known_before.polled:
            spawn = polled(spawn)
        if spawn.outcome is not None and not spawn.held and known_before is None:
            self._judge_one(spawn)
            return
        self._settling.append((time.monotonic_ns(), spawn))
        began = stall_began(spawn)
        if began is not None and (spawn.read_ended or began) - began >= self._min_ns:
            # At once: a program that was held up may end before this is judged.
            known = self._known.of(spawn.id)
            known.who(spawn.pid, spawn.created)
            if self._stacks is not None:
                self._stacks.note_forks(spawn.releases, known)

    def _judge(self, until: int) -> None:
        while self._settling and self._settling[0][0] <= until:
            self._judge_one(self._settling.popleft()[1])
            self._make_room_for_records()

    def _judge_one(self, spawn: Spawn) -> None:
        self._judged[spawn.id] = None
        while len(self._judged) > REMEMBERED_SPAWNS:
            self._judged.popitem(last=False)
        known = self._known.pop(spawn.id)
        if known.polled:
            spawn = polled(spawn)
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
            ended = stall.ended or 0
            stall = self._identified(stall, known)
            self._on_stall(stall if self._stacks is None else self._stacks.added_to(stall, known, ended))
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
        for spawn in map(to_spawn, watched):
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
                self._known.of(spawn.id).polled = True
            known_before = self._known.get(spawn.id)
            if known_before is not None and known_before.polled:
                spawn = polled(spawn)
                began = stall_began(spawn)
            if not spawn.reading or began is None or now - began < min(self._min_ns, _SOONEST_LOOK_NS):
                continue
            if spawn.is_socket and not procfs.is_blocked_on(spawn.pid, spawn.read_tid, spawn.read_fd):
                continue
            waiting[spawn.id] = spawn
        copies = self._holders.copies(waiting.values(), now) if waiting else {}
        ongoing = []
        for spawn in waiting.values():
            self._make_room_for_records()
            known = self._known.of(spawn.id)
            if copies is not None:
                known.searched = True
                known.holding = tuple(
                    self._holders.holder(spawn, known, pid, fds, now)
                    for pid, fds in copies.get(spawn.id, {}).items()
                    if not self._holders.is_family(spawn, pid)
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
            waits = False
            if self._stacks is not None:
                if now - stall.began >= _LOOK_NS:
                    self._stacks.ask(stall, known, now)
                stall = self._stacks.added_to(stall, known, now)
                waits = self._stacks.are_awaited(known, now)
            ongoing.append(stall)
            if not known.told and not waits and now - stall.began >= self._ongoing_ns:
                known.told = True
                self._on_stall(stall)
        self._ongoing = tuple(ongoing)
        if waiting:
            # The younger, the sooner: a short stall is looked at, too, and a long one not all the time.
            soon = max(_SOONEST_LOOK_NS, youngest(waiting.values(), now))
            self._next_look = min(self._next_look, now + soon)
        if self._stacks is not None:
            self._stacks.make_room(now)

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

    def _identified(self, stall: Stall, known: Known) -> Stall:
        """The stall with who its processes are: remembered from when they were there, or looked up now."""
        spawn = stall.spawn
        holders = []
        for holder in stall.holders:
            if holder.pid is not None:
                identity = known.who(holder.pid, holder.acquired or stall.began)
                if identity is not None:
                    holder = dataclasses.replace(holder, identity=identity)
            holders.append(holder)
        parent = known.who(spawn.pid, spawn.created)
        return dataclasses.replace(stall, holders=tuple(holders), identity=parent)


def _no_target(_pid: int) -> None:
    """The whole host is traced: nobody is singled out."""
