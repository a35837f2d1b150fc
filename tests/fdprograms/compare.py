"""Plays programs under the probes and compares the kernel side's view with the truth."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from probes.loader import Options, Probes, Record
from probes.records import Counter, How, Outcome, RecordKind, Release, SlotFlag, Spawn
from tests.fdprograms.model import LAST_FD, Pipe, Step
from tests.fdprograms.player import Player, PlayerError, Running, build

__all__ = ["Disagreement", "Prover"]

_LINK = re.compile(r"pipe:\[(\d+)\]")
_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_O_ACCMODE = 0o3
_O_CLOEXEC = 0o2000000


class Disagreement(AssertionError):
    """The tracer says one thing, /proc (or the order of the steps) another."""


@dataclass(frozen=True, order=True)
class _Copy:
    """An open copy of a write end; process is the program's number of it."""

    process: int
    fd: int
    cloexec: bool


class Prover:
    """The loaded probes and a player; ``prove`` runs one program. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._records: list[Record] = []
        with contextlib.ExitStack() as stack:
            options = Options(threshold_ns=1_000_000, targets=True, every=True)
            self._probes = stack.enter_context(Probes(options, self._records.append))
            self._binary = build(folder)
            self._player = self._new_player()
            self._probes.start()
            self._stack = stack.pop_all()

    def __enter__(self) -> Prover:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._player.close()
        self._stack.close()

    def _new_player(self) -> Player:
        player = Player(self._binary)
        self._probes.add_target(player.pid)
        return player

    def prove(self, steps: Sequence[Step]) -> None:
        """Plays a program; raises Disagreement, or PlayerError when the fault is not the tracer's."""
        self._probes.poll(0)
        self._records.clear()
        lost = self._probes.counters()
        running = Running(self._player)
        proof = _Proof(self._probes, running)
        done: list[Step] = []
        try:
            for step in steps:
                done.append(step)
                running.play(step)
                proof.compare()
            self._probes.poll(0)
            records, self._records[:] = self._records[:], []
            proof.compare_end(records)
            now = self._probes.counters()
            for which in (Counter.RECORDS_LOST, Counter.UPDATES_FAILED):
                if now[which] != lost[which]:
                    raise Disagreement(f"{which.name} counts")
            overflowed = now[Counter.SLOTS_OVERFLOWED] != lost[Counter.SLOTS_OVERFLOWED]
            if overflowed and not any(pipe.lost for pipe in running.model.pipes):
                raise Disagreement("SLOTS_OVERFLOWED counts, and nothing overflowed")
        except (Disagreement, PlayerError) as error:
            running.abort()
            self._player.close()
            self._player = self._new_player()
            raise type(error)("\n".join([str(error), "the program:", *map(str, done)])) from None


class _Proof:
    def __init__(self, probes: Probes, running: Running) -> None:
        self._probes = probes
        self._running = running
        self._spawns: dict[int, int] = {}  # pipe: the spawn's id

    def compare(self) -> None:
        """At a checkpoint: nobody moves."""
        model = self._running.model
        truth = self._truth()
        followed = self._followed()
        kernel = self._kernel(followed)
        for pipe in model.pipes:
            expected = {
                _Copy(process.number, fd, process.table.fds[fd].cloexec)
                for process in model.processes.values()
                for fd in process.table.copies(pipe.number)
            }
            if truth[pipe.number] != expected:
                raise PlayerError(
                    f"pipe {pipe.number}: the model has {_text(expected)}, /proc {_text(truth[pipe.number])}"
                )
            spawn = followed.get(pipe.number)
            if spawn is None:
                if pipe.followed:
                    raise Disagreement(f"pipe {pipe.number} is not followed")
                continue
            if not pipe.followed:
                raise Disagreement(f"pipe {pipe.number} is still followed, although: {pipe.why_dropped}")
            if pipe.lost:
                if not spawn.copy_lost:
                    raise Disagreement(f"pipe {pipe.number}: copy_lost does not say so")
            elif kernel[pipe.number] != truth[pipe.number]:
                raise Disagreement(
                    f"pipe {pipe.number}: the tracer has {_text(kernel[pipe.number])},"
                    f" /proc {_text(truth[pipe.number])}"
                )
            elif spawn.copy_lost:
                raise Disagreement(f"pipe {pipe.number}: copy_lost, although nothing overflowed")
            self._compare_spawn(pipe, spawn)

    def _compare_spawn(self, pipe: Pipe, spawn: Spawn) -> None:
        pids = self._running.pids
        own = 0 if pipe.own is None else pids[pipe.own]
        if spawn.own_pid != own:
            raise Disagreement(f"pipe {pipe.number}: the own child is {own}, not {spawn.own_pid}")
        if pipe.own_cloexec is not None and bool(spawn.cloexec) != pipe.own_cloexec:
            raise Disagreement(f"pipe {pipe.number}: close-on-exec at the fork is {spawn.cloexec}")
        if spawn.foreign != len(pipe.foreign) and not pipe.lost:
            raise Disagreement(
                f"pipe {pipe.number}: {spawn.foreign} foreign holders, not {len(pipe.foreign)}"
            )

    def compare_end(self, records: Sequence[Record]) -> None:
        """When all processes are gone: what was told, and that nothing is left."""
        numbers = {pid: number for number, pid in self._running.pids.items()}
        for pipe in self._running.model.pipes:
            spawn_id = self._spawns.get(pipe.number)
            mine = [record for record in records if record.id == spawn_id]
            told = [record for record in mine if isinstance(record, Spawn)]
            releases = sorted(
                (
                    record
                    for record in mine
                    if isinstance(record, Release) and record.kind == RecordKind.RELEASE
                ),
                key=lambda record: record.ns,
            )
            if pipe.lost:
                continue
            found = [(numbers.get(release.pid, -1), How(release.how)) for release in releases]
            if found != pipe.releases:
                raise Disagreement(
                    f"pipe {pipe.number}: released by {_text(found)}, not {_text(pipe.releases)}"
                )
            self._compare_outcome(pipe, told)
        if left := [pid for pid, _, _ in self._probes.holders() if pid in numbers]:
            raise Disagreement(f"holders are left: {left}")
        if self._followed():
            raise Disagreement("spawns are left")

    def _compare_outcome(self, pipe: Pipe, told: Sequence[Spawn]) -> None:
        outcomes = [spawn.outcome for spawn in told]
        expected = [] if pipe.outcome is None else [pipe.outcome]
        # One that was never close-on-exec is not told when it is abandoned.
        if outcomes != expected and (outcomes or pipe.outcome != Outcome.ABANDONED):
            raise Disagreement(f"pipe {pipe.number}: told as {outcomes}, not {expected}")
        if told and told[0].outcome != Outcome.ABANDONED and told[0].own_how != pipe.own_how:
            raise Disagreement(f"pipe {pipe.number}: the own child released by {told[0].own_how}")

    def _followed(self) -> dict[int, Spawn]:
        numbers = {inode: number for number, inode in enumerate(self._running.inodes)}
        found = {numbers[spawn.inode]: spawn for spawn in self._probes.spawns() if spawn.inode in numbers}
        for number, spawn in found.items():
            self._spawns[number] = spawn.id
        return found

    def _kernel(self, followed: dict[int, Spawn]) -> dict[int, set[_Copy]]:
        pids = {pid: number for number, pid in self._running.pids.items()}
        ids = {spawn.id: number for number, spawn in followed.items()}
        found: dict[int, set[_Copy]] = {number: set() for number in followed}
        for pid, _, slot in self._probes.holders():
            flags = SlotFlag(slot.flags)
            if slot.id not in ids or flags & SlotFlag.LET_GO:
                continue
            for k, fd in enumerate(slot.fds):
                if fd >= 0 and not flags & (SlotFlag.CLOSED_0 << k):
                    cloexec = bool(flags & (SlotFlag.CLOEXEC_0 << k))
                    found[ids[slot.id]].add(_Copy(pids.get(pid, -pid), fd, cloexec))
        return found

    def _truth(self) -> dict[int, set[_Copy]]:
        """From /proc: who has which write end open."""
        numbers = {inode: number for number, inode in enumerate(self._running.inodes)}
        found: dict[int, set[_Copy]] = {number: set() for number in numbers.values()}
        for process in self._running.model.processes:
            for inode, fd, cloexec in _write_ends(self._running.task_folder(process)):
                if inode in numbers:
                    found[numbers[inode]].add(_Copy(process, fd, cloexec))
        return found


def _write_ends(task: Path) -> Iterator[tuple[int, int, bool]]:
    folder = task / "fd"
    for name in folder.iterdir():
        fd = int(name.name)
        if fd > LAST_FD:
            continue
        link = _LINK.fullmatch(str(name.readlink()))
        if link is None:
            continue
        match = _FLAGS.search((task / "fdinfo" / name.name).read_text())
        assert match
        flags = int(match[1], 8)
        if flags & _O_ACCMODE:
            yield int(link[1]), fd, bool(flags & _O_CLOEXEC)


def _text(items: object) -> str:
    if isinstance(items, set):
        items = sorted(items)
    assert isinstance(items, list)
    return "[" + ", ".join(map(str, items)) + "]"
