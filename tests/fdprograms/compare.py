# SPDX-License-Identifier: Apache-2.0
"""Run fd programs under the probes, and compare the kernel side's view with the model and with /proc."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.loader import Options, Probes, Record
from probes.records import MAX_RELEASES, Counter, How, Outcome, Spawn
from tests.fdprograms.expected import LAST_FD, Pipe, Release, Step
from tests.fdprograms.player import Player, PlayerError, Running, build

__all__ = ["Disagreement", "Prover"]

_LINK = re.compile(r"pipe:\[(\d+)\]")
_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_O_ACCMODE = 0o3
_O_CLOEXEC = 0o2000000
_NEVER = (
    Counter.SPAWNS_REFUSED,
    Counter.PIPES_FORGOTTEN,
    Counter.WALKS_CUT,
    Counter.RECORDS_LOST,
    Counter.TABLES_SHARED,
    Counter.UPDATES_FAILED,
)


class Disagreement(AssertionError):
    """The kernel side's view differs from /proc, or from the model."""


@dataclass(frozen=True, order=True)
class _Copy:
    """An open copy of a write end; process: its number in the program."""

    process: int
    fd: int
    cloexec: bool


class Prover:
    """The loaded probes and a player; ``prove`` runs one program.  A context manager.

    max_spawns: with a large number, events need more than one run of their program (tail calls).
    """

    def __init__(self, folder: Path, max_spawns: int = Options().max_spawns) -> None:
        self._records: list[Record] = []
        with contextlib.ExitStack() as stack:
            options = Options(threshold_ns=1_000_000, only_targets=True, every=True, max_spawns=max_spawns)
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
        """Run a program; raise Disagreement, or PlayerError if the fault is not the tracer's."""
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
            for which in _NEVER:
                if now[which] != lost[which]:
                    raise Disagreement(f"{which.name} went up")
            overflowed = now[Counter.NUMBERS_OVERFLOWED] != lost[Counter.NUMBERS_OVERFLOWED]
            if overflowed and not any(pipe.lost for pipe in running.model.pipes):
                raise Disagreement("NUMBERS_OVERFLOWED went up, but nothing overflowed")
        except (Disagreement, PlayerError) as error:
            running.abort()
            self._player.close()
            self._player = self._new_player()
            raise type(error)("\n".join([str(error), "the program:", *map(str, done)])) from None


class _Proof:
    def __init__(self, probes: Probes, running: Running) -> None:
        self._probes = probes
        self._running = running

    def compare(self) -> None:
        """Compare everything between two steps, when all threads are waiting."""
        model = self._running.model
        truth = self._truth()
        followed = self._followed()
        rows = dict(self._probes.processes())
        watched = {spawn.id for spawn in self._probes.watched()}
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
            if pipe.lost:
                if spawn is not None and not spawn.copy_lost:
                    raise Disagreement(f"pipe {pipe.number}: a copy is lost, but copy_lost is not set")
            elif spawn is None:
                if pipe.followed:
                    raise Disagreement(f"pipe {pipe.number} is not followed")
            elif not pipe.followed:
                raise Disagreement(f"pipe {pipe.number} is still followed: {pipe.why_dropped}")
            else:
                self._compare_spawn(pipe, spawn)
                self._compare_holders(pipe, spawn, truth[pipe.number], rows)
                if pipe.held and spawn.id not in watched:
                    raise Disagreement(f"pipe {pipe.number} is held, but not watched")

    def _compare_spawn(self, pipe: Pipe, spawn: Spawn) -> None:
        own, stray = (0 if it is None else self._running.pids[it] for it in (pipe.own, pipe.stray))
        numbers = sorted(fd for fd in spawn.fds if fd >= 0)
        facts: dict[str, tuple[object, object]] = {
            "own_pid": (spawn.own_pid, own),
            "fds": (numbers, sorted(pipe.numbers)),
            "parent_closed": (bool(spawn.parent_closed), pipe.maker_closed),
            "own_released": (bool(spawn.own_released), pipe.own_how is not None),
            "own_how": (spawn.own_how, pipe.own_how or 0),
            "failed exec": (bool(spawn.exec_error), pipe.exec_failed),
            "read_ended": (bool(spawn.read_ended), pipe.read_ended),
            "ended": (bool(spawn.ended), pipe.ended),
            "stray": (spawn.stray.pid, stray),
            "doubtful": (bool(spawn.doubtful), pipe.doubtful),
            "held": (bool(spawn.held), pipe.held),
            "copy_lost": (bool(spawn.copy_lost), False),
        }
        if pipe.own_cloexec is not None:
            facts["cloexec"] = (bool(spawn.cloexec), pipe.own_cloexec)
        for name, (found, expected) in facts.items():
            if found != expected:
                raise Disagreement(f"pipe {pipe.number}: {name} is {found}, not {expected}")
        self._compare_releases(pipe, spawn)

    def _compare_releases(self, pipe: Pipe, spawn: Spawn) -> None:
        pids = {pid: number for number, pid in self._running.pids.items()}
        last = range(max(0, spawn.releases - MAX_RELEASES), spawn.releases)
        kept = [spawn.last[n % MAX_RELEASES] for n in last]
        found = [Release(pids.get(it.pid, -1), How(it.how), it.left) for it in kept]
        if spawn.releases != len(pipe.releases) or found != pipe.releases[-MAX_RELEASES:]:
            raise Disagreement(
                f"pipe {pipe.number}: {spawn.releases} releases, the last by {_text(found)},"
                f" not {len(pipe.releases)}, {_text(pipe.releases[-MAX_RELEASES:])}"
            )

    def _compare_holders(self, pipe: Pipe, spawn: Spawn, copies: set[_Copy], rows: dict[int, Any]) -> None:
        """Each process with a copy has its bit set in the kernel side."""
        for number in {copy.process for copy in copies}:
            row = rows.get(self._running.pids[number])
            if row is None:
                known = False
            elif number == pipe.maker:
                known = bool(row.may_hold.words[spawn.index // 64] >> spawn.index % 64 & 1)
            else:
                known = self._probes.may_hold(row, spawn.index, spawn.created)
            if not known:
                raise Disagreement(
                    f"pipe {pipe.number}: process {number} has a copy that the tracer does not know of"
                )

    def compare_end(self, records: Sequence[Record]) -> None:
        """Compare the records after all processes have exited, and check that nothing is left."""
        spawns = [record for record in records if isinstance(record, Spawn)]
        for pipe in self._running.model.pipes:
            inode = self._running.inodes[pipe.number]
            if not pipe.lost:
                self._compare_outcome(pipe, [spawn for spawn in spawns if spawn.inode == inode])
        pids = set(self._running.pids.values())
        if left := [pid for pid, _ in self._probes.processes() if pid in pids]:
            raise Disagreement(f"processes are left: {left}")
        # The release of a lost copy can go unseen; user space frees such spawns.
        lost = {pipe.number for pipe in self._running.model.pipes if pipe.lost}
        if spawns_left := set(self._followed()) - lost:
            raise Disagreement(f"spawns are left: {spawns_left}")

    def _compare_outcome(self, pipe: Pipe, sent: Sequence[Spawn]) -> None:
        outcomes = [spawn.outcome for spawn in sent]
        expected = [] if pipe.outcome is None else [pipe.outcome]
        # If some copies were close-on-exec and some not, an abandoned spawn may be sent or not.
        either = pipe.outcome is Outcome.ABANDONED and pipe.own_cloexec is None
        if outcomes != expected and (outcomes or not either):
            raise Disagreement(f"pipe {pipe.number}: sent with the outcomes {outcomes}, not {expected}")
        for spawn in sent:
            if spawn.own_how != pipe.own_how:
                raise Disagreement(
                    f"pipe {pipe.number}: sent with own_how {spawn.own_how}, not {pipe.own_how}"
                )
            if bool(spawn.held) != pipe.held:
                raise Disagreement(f"pipe {pipe.number}: sent with held {spawn.held}, not {pipe.held}")
            self._compare_releases(pipe, spawn)

    def _followed(self) -> dict[int, Spawn]:
        numbers = {inode: number for number, inode in enumerate(self._running.inodes)}
        return {numbers[spawn.inode]: spawn for spawn in self._probes.spawns() if spawn.inode in numbers}

    def _truth(self) -> dict[int, set[_Copy]]:
        """Return the copies of each pipe's write end, from /proc."""
        numbers = {inode: number for number, inode in enumerate(self._running.inodes)}
        found: dict[int, set[_Copy]] = {number: set() for number in numbers.values()}
        for process in self._running.model.processes:
            for inode, fd, cloexec in _write_ends(self._running.task_folder(process)):
                if inode in numbers:
                    found[numbers[inode]].add(_Copy(process, fd, cloexec))
        return found


def _write_ends(task: Path) -> Iterator[tuple[int, int, bool]]:
    # Without pathlib, because this takes most of the time of a comparison.
    folder = f"{task}/fd"
    for name in os.listdir(folder):  # noqa: PTH208
        if int(name) > LAST_FD:
            continue
        link = _LINK.fullmatch(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
        if link is None:
            continue
        with open(f"{task}/fdinfo/{name}") as info:  # noqa: PTH123
            match = _FLAGS.search(info.read())
        assert match
        flags = int(match[1], 8)
        if flags & _O_ACCMODE:
            yield int(link[1]), int(name), bool(flags & _O_CLOEXEC)


def _text(items: object) -> str:
    if isinstance(items, set):
        items = sorted(items)
    assert isinstance(items, list)
    return "[" + ", ".join(map(str, items)) + "]"
