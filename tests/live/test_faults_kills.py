# SPDX-License-Identifier: Apache-2.0
"""kill -9 and SIGSTOP of parent, own child and holder, at each step of a spawn.

Nothing remains in the maps, no stall stays in progress, and no process is named wrongly.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.live.lab import Lab
from tests.live.stepped import STEPS, Observer, Stepped

_BORN = {"parent": "pipe", "holder": "hold", "child": "fork"}
_KILLS = [(step, who) for who, born in _BORN.items() for step in STEPS[STEPS.index(born) :]]
_STALLED = {("read", "child"), ("exec", "parent"), ("exec", "child"), ("exec", "holder")}
"""Where the parent waits for the holder only, before or after the kill."""


@pytest.fixture(scope="module")
def tracing() -> Iterator[Observer]:
    """One observer for all tests: each leaves nothing behind."""
    with Observer() as observer:
        yield observer


@pytest.fixture
def observer(tracing: Observer) -> Observer:
    """An observer without reports."""
    tracing.until_nothing_is_left()
    tracing.forget()
    return tracing


@pytest.mark.parametrize(("step", "victim"), _KILLS)
def test_killed_at(lab: Lab, observer: Observer, step: str, victim: str) -> None:
    with Stepped(lab, observer) as program:
        program.steps(step)
        is_stall = (step, victim) in _STALLED
        if step == "exec":
            observer.until(lambda: observer.tracer.ongoing, "the stall")
        program.signal(victim, signal.SIGKILL)
        if is_stall and victim == "child":  # now only the holder keeps the parent waiting
            observer.until(lambda: observer.tracer.ongoing, "the stall")
        elif is_stall:  # ended, although the others still exist
            observer.until(lambda: observer.ended, "the end of the stall")
            observer.until(lambda: not observer.tracer.ongoing, "no stall in progress")
        program.finish()
        observer.until_nothing_is_left()
        reported = [(stall.culprit.pid, stall.culprit.cause.value) for stall in observer.ended]
        assert reported == ([(program.pids["holder"], "forked")] if is_stall else [])


@pytest.mark.parametrize("order", [b"c", b"ce"], ids=["closed", "after its exec"])
def test_holder_killed_after_its_release(lab: Lab, observer: Observer, order: bytes) -> None:
    """Between its close and its exec, and afterwards."""
    with Stepped(lab, observer) as program:
        program.steps("exec")
        observer.until(lambda: observer.tracer.ongoing, "the stall")
        program.order("holder", order)
        program.read_seconds()
        program.signal("holder", signal.SIGKILL)
        observer.until(lambda: observer.ended, "the end of the stall")
        program.finish()
        observer.until_nothing_is_left()
        [stall] = observer.ended
        assert stall.culprit.pid == program.pids["holder"]
        assert stall.culprit.released_by == "close"
        assert stall.culprit.cause.value in ("forked", "late_exec")


def test_stopped_holder_is_the_culprit(lab: Lab, observer: Observer) -> None:
    """It was ordered to release its copy, but is stopped."""
    with Stepped(lab, observer) as program:
        program.steps("exec")
        program.signal("holder", signal.SIGSTOP)
        program.order("holder", b"c")
        observer.until(lambda: observer.ongoing, "the report of the stall in progress")
        [ongoing] = observer.ongoing
        assert ongoing.culprit.pid == program.pids["holder"]
        assert ongoing.culprit.confirmation is not None
        program.signal("holder", signal.SIGCONT)
        seconds = program.read_seconds()
        observer.until(lambda: observer.ended, "the end of the stall")
        program.finish()
        observer.until_nothing_is_left()
        [ended] = observer.ended
        assert (ended.culprit.pid, ended.culprit.cause.value) == (program.pids["holder"], "forked")
        assert ended.ended is not None
        assert 1 <= (ended.ended - ended.began) / 1e9 <= seconds + 0.1


def test_stopped_own_child_is_exec_latency(lab: Lab, observer: Observer) -> None:
    """It is not a stall, even with a foreign copy, and no stall is in progress meanwhile."""
    with Stepped(lab, observer) as program:
        program.steps("read")
        program.signal("child", signal.SIGSTOP)
        program.order("holder", b"c")
        program.order("child", b"e")
        observer.watch(1.5)
        assert observer.tracer.ongoing == ()
        program.signal("child", signal.SIGCONT)
        program.read_seconds()
        observer.until(lambda: observer.spawns, "the spawn")
        program.finish()
        observer.until_nothing_is_left()
        [spawn] = observer.spawns
        assert spawn.forked is not None and spawn.own_released is not None
        assert spawn.own_released - spawn.forked > 1_500_000_000
        assert (observer.ongoing, observer.ended) == ([], [])


def test_stopped_parent_without_a_holder_is_no_stall(lab: Lab, observer: Observer) -> None:
    with Stepped(lab, observer) as program:
        program.steps("read")
        program.order("holder", b"c")
        program.signal("parent", signal.SIGSTOP)
        program.step("exec")
        observer.watch(1.5)
        assert observer.tracer.ongoing == ()
        program.signal("parent", signal.SIGCONT)
        program.read_seconds()
        observer.until(lambda: observer.spawns, "the spawn")
        program.finish()
        observer.until_nothing_is_left()
        assert (observer.ongoing, observer.ended) == ([], [])


@pytest.mark.parametrize("released", ["close", "exit"])
def test_parent_stopped_while_the_holder_releases(lab: Lab, observer: Observer, released: str) -> None:
    """The holder is named; while the parent is stopped afterwards, no stall is in progress."""
    with Stepped(lab, observer) as program:
        program.steps("exec")
        observer.until(lambda: observer.tracer.ongoing, "the stall")
        program.signal("parent", signal.SIGSTOP)
        if released == "close":
            program.order("holder", b"c")
        else:
            program.signal("holder", signal.SIGKILL)
        observer.until(lambda: not observer.tracer.ongoing, "no stall in progress")
        observer.watch(1.5)
        assert observer.tracer.ongoing == ()
        assert observer.ongoing == []
        program.signal("parent", signal.SIGCONT)
        program.read_seconds()
        observer.until(lambda: observer.ended, "the end of the stall")
        program.finish()
        observer.until_nothing_is_left()
        [ended] = observer.ended
        assert ended.culprit.pid == program.pids["holder"]
