# SPDX-License-Identifier: Apache-2.0
"""agent.diagnosis: who stalled a spawn and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import diagnosis
from agent.diagnosis import Judgement, cause_of, ongoing_stall, spawn_steps, stall_steps
from agent.model import Cause, Confirmation, Holder, Outcome, Release, Spawn, Stall
from tests.unit.samples import (
    BEGAN,
    CHILD,
    CREATED,
    ENDED,
    HOLDER,
    MS,
    PARENT,
    SECOND,
    SPAWNER,
    UNSEEN,
    holder,
    release,
    spawn,
    waiting,
)

MIN = 10 * MS


def judgement(
    what: Optional[Spawn] = None,
    releases: Sequence[Release] = (),
    execed: Collection[int] = (),
    seen: Optional[Mapping[int, int]] = None,
    min_ns: int = MIN,
    counts_copies: bool = True,
    holding: Sequence[Holder] = (),
) -> Judgement:
    """The judgement of a spawn with these releases."""
    of = dataclasses.replace(what or spawn(), releases=tuple(releases))
    return diagnosis.judge(of, min_ns, counts_copies, execed, seen or {}, holding)


def judge(*arguments: Any, **named: Any) -> Optional[Stall]:
    """The stall of judgement(), if any."""
    return judgement(*arguments, **named).stall


def stalled(*arguments: Any, **named: Any) -> Stall:
    """The stall of judgement(), which must exist."""
    found = judge(*arguments, **named)
    assert found is not None
    return found


# -- causes --


@pytest.mark.parametrize(
    ("seen", "execed", "cause"),
    [
        ({"by": "exit"}, (), Cause.FORKED),
        ({"by": "close"}, (), Cause.FORKED),
        ({"by": "close"}, (HOLDER + 1,), Cause.FORKED),
        ({"by": "exec"}, (), Cause.LATE_EXEC),
        ({"by": "close"}, (HOLDER,), Cause.LATE_EXEC),
        ({"by": "exit", "execed": True}, (), Cause.LEAKED),
        ({"by": "close", "execed": True}, (), Cause.LEAKED),
        ({"by": "exec", "execed": True}, (), Cause.LEAKED),
        ({"by": "close", "execed": True}, (HOLDER,), Cause.LEAKED),
        ({"by": "exit", "descendant": True}, (), Cause.OWN_DESCENDANT),
        ({"by": "exec", "descendant": True}, (), Cause.OWN_DESCENDANT),
        ({"by": "exit", "descendant": True, "execed": True}, (), Cause.OWN_DESCENDANT),
        ({"by": "exit", "expected": True}, (), Cause.LATE_EXEC),
        ({"by": "close", "expected": True}, (), Cause.LATE_EXEC),
        # Java's helper has called exec, and its parent waits for the next one.
        ({"by": "exit", "expected": True, "execed": True}, (), Cause.LATE_EXEC),
        ({"by": "close", "expected": True, "execed": True}, (), Cause.LATE_EXEC),
        ({"by": "exit", "expected": True, "descendant": True}, (), Cause.OWN_DESCENDANT),
    ],
)
def test_cause_of_a_released_holder(seen: dict[str, Any], execed: Collection[int], cause: Cause) -> None:
    found = stalled(releases=[release(**seen)], execed=execed)
    assert [each.cause for each in found.holders] == [cause]
    assert found.culprit.pid == HOLDER


@pytest.mark.parametrize("expected", [False, True])
@pytest.mark.parametrize("execed", [False, True])
@pytest.mark.parametrize("descendant", [False, True])
def test_cause_of_is_used_for_releases(descendant: bool, execed: bool, expected: bool) -> None:
    known = {"descendant": descendant, "execed": execed, "expected": expected}
    assert cause_of(**known) is stalled(releases=[release(**known)]).culprit.cause


def test_holder_has_the_data_of_its_release() -> None:
    found = stalled(releases=[release(at=ENDED - 1)])
    assert found.culprit == holder(released=ENDED - 1, released_by="exit")
    assert (found.began, found.ended) == (BEGAN, ENDED)
    assert found.spawn == spawn(releases=(release(at=ENDED - 1),))
    assert found.late == 0


def test_unknown_fd_is_left_out() -> None:
    assert stalled(releases=[release(fd=-1)]).culprit.fds == ()


def test_holder_keeps_the_key_of_its_fork_stack() -> None:
    assert stalled(releases=[release(stack_id=12)]).culprit.stack_id == 12


# -- start and end --


def test_stall_begins_with_the_read_if_the_own_child_released_first() -> None:
    found = stalled(spawn(read_began=BEGAN + 7 * MS), [release()])
    assert found.began == BEGAN + 7 * MS


@pytest.mark.parametrize("missing", ["own_released", "read_began", "read_ended"])
def test_spawn_that_lacks_an_event_is_no_stall(missing: str) -> None:
    assert judge(spawn(**{missing: None}, held=True), [release()]) is None


def test_stall_ends_with_the_last_copy_if_the_end_of_the_read_was_not_seen() -> None:
    unread = spawn(read_ended=None, outcome=Outcome.ABANDONED)
    assert stalled(unread, [release(at=ENDED, left=0)]).ended == ENDED
    assert judge(unread, [release(at=ENDED, left=1)]) is None


def test_shortest_stall_lasts_min_ns() -> None:
    exactly = BEGAN + MIN
    assert judge(spawn(read_ended=exactly), [release(at=exactly)]) is not None
    assert judge(spawn(read_ended=exactly - 1), [release(at=exactly - 1)]) is None


def test_slow_own_child_is_no_stall() -> None:
    late = ENDED - 1
    assert judge(spawn(own_released=late), [release()]) is None


# -- who ended the read --


def test_holder_that_released_last_comes_first() -> None:
    early = release(pid=1, at=BEGAN + 100 * MS, left=2)
    middle = release(pid=2, at=BEGAN + 200 * MS, left=1)
    last = release(pid=3, at=ENDED, left=0)
    found = stalled(releases=[middle, last, early])
    assert [each.pid for each in found.holders] == [3, 2, 1]


def test_release_before_the_stall_is_ignored() -> None:
    before = release(pid=1, at=BEGAN, left=1)
    found = stalled(releases=[before, release()])
    assert [each.pid for each in found.holders] == [HOLDER]


def test_duplicate_release_is_one_holder() -> None:
    found = stalled(releases=[release(), release()])
    assert len(found.holders) == 1


def test_later_of_two_releases_by_one_process_counts() -> None:
    first = release(at=BEGAN + 100 * MS, by="close", left=1)
    for releases in ([first, release()], [release(), first]):
        found = stalled(releases=releases)
        assert [each.released_by for each in found.holders] == ["exit"]


def test_exec_recorded_after_the_read_has_ended() -> None:
    found = stalled(releases=[release(at=ENDED + 3 * MS, by="exec", left=0)])
    assert found.culprit.cause is Cause.LATE_EXEC
    assert found.culprit.released == ENDED


def test_unknown_holder_held_on_after_the_last_observed_release() -> None:
    seen = release(at=BEGAN + 200 * MS, left=1)
    found = stalled(releases=[seen])
    assert [each.pid for each in found.holders] == [None, HOLDER]
    assert found.culprit == UNSEEN


def test_gap_without_the_kernels_count_means_an_unknown_holder() -> None:
    found = stalled(releases=[release(at=BEGAN + 200 * MS, left=None)], counts_copies=False)
    assert found.culprit == UNSEEN


@pytest.mark.parametrize("left", [0, 1, None])
def test_release_just_before_the_end_ended_the_read(left: Optional[int]) -> None:
    found = stalled(releases=[release(at=ENDED - 20 * MS, left=left)])
    assert [each.pid for each in found.holders] == [HOLDER]


def test_unknown_holder_comes_first_if_the_kernel_still_counted_a_copy() -> None:
    closes = [
        release(pid=pid, at=BEGAN + after * MS, by="close", left=left)
        for pid, after, left in ((1, 200, 2), (2, 300, 1))
    ]
    found = stalled(spawn(held=True), closes)
    assert [each.pid for each in found.holders] == [None, 2, 1]
    assert (found.ended, found.late) == (ENDED, 0)


# -- late wake-up --


@pytest.mark.parametrize("by", ["close", "exec"])
def test_release_of_the_last_copy_ends_the_stall_before_a_late_wakeup(by: str) -> None:
    result = judgement(releases=[release(at=BEGAN + 200 * MS, by=by, left=0)])
    assert result.stall is not None
    assert [each.pid for each in result.stall.holders] == [HOLDER]
    assert (result.stall.began, result.stall.ended) == (BEGAN, BEGAN + 200 * MS)
    assert result.stall.late == result.late == 300 * MS
    assert result.stall.culprit.released == BEGAN + 200 * MS
    assert stall_steps(result.stall)[-1].what == "read_ended"  # at its own time
    assert stall_steps(result.stall)[-1].at == ENDED


def test_stall_lasts_while_an_exiting_process_may_still_have_its_copy() -> None:
    result = judgement(releases=[release(at=BEGAN + 200 * MS, by="exit", left=0)])
    assert result.stall is not None
    assert (result.stall.ended, result.stall.late) == (BEGAN + 300 * MS, 200 * MS)
    assert result.stall.culprit.released == BEGAN + 200 * MS


@pytest.mark.parametrize("left", [0, 1])
def test_a_process_that_was_still_exiting_has_held_its_copy_to_the_end(left: int) -> None:
    began = BEGAN + 200 * MS
    exits = release(at=began, by="exit", left=left)
    result = judgement(releases=[exits], holding=[holder(exiting=1)])
    assert result.stall is not None
    assert (result.stall.ended, result.stall.late) == (ENDED, 0)
    [culprit] = result.stall.holders
    assert (culprit.pid, culprit.released, culprit.exiting) == (HOLDER, ENDED, began)
    # Another one released its copy meanwhile, and the copy of the exiting one was left.
    closes = release(pid=HOLDER + 1, at=began + 100 * MS, by="close", left=1)
    found = stalled(releases=[exits, closes], holding=[holder(exiting=1)])
    assert [(each.pid, each.exiting) for each in found.holders] == [(HOLDER, began), (HOLDER + 1, None)]


def test_a_later_release_shows_that_an_exiting_process_had_closed_its_copy() -> None:
    exits = release(at=BEGAN + 200 * MS, by="exit", left=1)
    closes = release(pid=HOLDER + 1, at=ENDED - 1 * MS, by="close", left=0)
    found = stalled(releases=[exits, closes], holding=[holder(exiting=1)])
    assert [(each.pid, each.exiting) for each in found.holders] == [(HOLDER + 1, None), (HOLDER, None)]


def test_a_holder_that_wrote_its_core_dump_is_shown_so() -> None:
    other = release(pid=HOLDER + 1, at=ENDED - 1 * MS)
    found = stalled(releases=[release(), other], holding=[holder(dumping=True), holder(pid=HOLDER + 1)])
    assert [(each.pid, each.dumping) for each in found.holders] == [(HOLDER, True), (HOLDER + 1, False)]


@pytest.mark.parametrize("by", ["close", "exec", "exit"])
def test_prompt_wakeup_is_not_late(by: str) -> None:
    found = stalled(releases=[release(at=ENDED - 20 * MS, by=by, left=0)])
    assert (found.ended, found.late) == (ENDED, 0)


def test_wait_without_a_holder_is_a_late_wakeup() -> None:
    assert judgement(spawn(held=False)) == Judgement(None, ENDED - BEGAN)


def test_no_late_wakeup_is_claimed_without_the_kernels_count() -> None:
    assert judgement(counts_copies=False) == Judgement(None, 0)


@pytest.mark.parametrize("changes", [{"read_ended": BEGAN + MIN - 1}, {"own_released_by": "exit"}])
def test_short_wait_or_other_use_of_a_pipe_is_no_late_wakeup(changes: dict[str, Any]) -> None:
    assert judgement(spawn(**changes)) == Judgement(None, 0)


def test_copies_of_other_exiting_processes_count_as_closed() -> None:
    """An exit is recorded before files are closed, so two simultaneous exits count each other's copy."""
    at = BEGAN + 300 * MS
    one = release(pid=1, at=at - 1 * MS, left=1)
    other = release(pid=2, at=at, left=1)
    soon = spawn(read_ended=at + 30 * MS)
    assert [each.pid for each in stalled(soon, [one, other]).holders] == [2, 1]
    # Not so for one that began to exit long before, or that closed its copy.
    for different in ({"at": at - 21 * MS}, {"by": "close"}):
        found = stalled(soon, [release(**{"pid": 1, "at": at - 1 * MS, "left": 1, **different}), other])
        assert [each.pid for each in found.holders] == [None, 2, 1]
    # A copy may have been made after the first exit: then the exits do not explain a longer wait.
    later = spawn(read_ended=at + 31 * MS)
    assert [each.pid for each in stalled(later, [one, other]).holders] == [None, 2, 1]


def test_a_copy_that_an_exiting_process_left_to_another_is_not_its_own() -> None:
    """Two had copies besides the first one; one of them remains after the second release."""
    one = release(pid=1, at=BEGAN + 200 * MS, left=2)
    other = release(pid=2, at=BEGAN + 220 * MS, by="close", left=1)
    found = stalled(releases=[one, other])
    assert [each.pid for each in found.holders] == [None, 2, 1]
    assert (found.ended, found.late) == (ENDED, 0)
    # A process that was forked later was not one of the two.
    younger = release(pid=3, acquired=BEGAN + 205 * MS, at=BEGAN + 230 * MS, left=1)
    assert [each.pid for each in stalled(releases=[one, other, younger]).holders] == [None, 3, 2, 1]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=2, max_size=4))
def test_processes_that_exit_at_once_are_all_the_holders(exits: list[tuple[int, int]]) -> None:
    """Each exit is recorded some milliseconds before its files are closed, in any order."""
    releases = []
    for number, (at, _) in enumerate(exits):
        left = sum(1 for other, (began, takes) in enumerate(exits) if other != number and began + takes >= at)
        releases.append(release(pid=number + 1, at=BEGAN + (700 + at) * MS, left=left))
    ended = spawn(read_ended=BEGAN + 760 * MS)
    assert None not in [holder.pid for holder in stalled(ended, releases).holders]
    # With a copy that none of them had, it is that one.
    more = [each._replace(left=(each.left or 0) + 1) for each in releases]
    assert stalled(ended, more).culprit.pid is None


def test_an_exit_during_the_own_childs_exec_may_count_one_copy_too_few() -> None:
    """The exec has closed the own child's copy, is not recorded yet, and the count is without another one."""
    first = release(pid=1, at=BEGAN - 1 * MS, left=2)
    latest = [release(pid=3, at=BEGAN + 5 * MS, left=1), release(pid=2, at=BEGAN + 1 * MS, left=2), first]
    assert diagnosis._unexplained(2, latest, BEGAN) == 1
    assert diagnosis._unexplained(2, latest, BEGAN - 2 * MS) == 0  # the exec had been recorded
    assert diagnosis._unexplained(2, latest, BEGAN + 20 * MS) == 0  # it was long before the exec


# -- waits caused by a busy machine --


@pytest.mark.parametrize("by", ["close", "exec"])
def test_late_wakeup_after_a_short_hold_is_no_stall(by: str) -> None:
    released = BEGAN + MIN - 1
    result = judgement(spawn(read_ended=released + 400 * MS), [release(at=released, by=by, left=0)])
    assert result == Judgement(None, 400 * MS)


def test_exiting_process_keeps_its_copy_while_its_memory_is_freed() -> None:
    released = BEGAN + MIN - 1
    found = stalled(spawn(read_ended=released + 15 * MS), [release(at=released, by="exit", left=0)])
    assert found.culprit.pid == HOLDER


def test_wait_without_evidence_of_a_holder_is_no_stall() -> None:
    assert judge(spawn(read_ended=BEGAN + 60 * SECOND)) is None


@pytest.mark.parametrize(
    ("evidence", "counts_copies"), [("held", True), ("copy_lost", True), ("copy_lost", False)]
)
def test_evidence_of_an_unobserved_holder_makes_it_unknown(evidence: str, counts_copies: bool) -> None:
    found = stalled(spawn(**{evidence: True}), counts_copies=counts_copies)
    assert found.holders == (UNSEEN,)
    assert (found.began, found.ended) == (BEGAN, ENDED)


def test_earlier_release_does_not_hide_an_unobserved_holder() -> None:
    assert stalled(spawn(held=True), [release(at=BEGAN - 1, left=1)]).holders == (UNSEEN,)


def test_long_wait_without_the_kernels_count_is_a_stall() -> None:
    long = spawn(read_ended=BEGAN + SECOND)
    assert stalled(long, counts_copies=False).holders == (UNSEEN,)
    for held in (False, True):  # not based on a count here
        short = spawn(read_ended=BEGAN + SECOND - 1, held=held)
        assert judge(short, counts_copies=False) is None


_PASSED = holder(
    pid=5, cause=Cause.PASSED, acquired=None, confirmation=Confirmation.CONFIRMED, seen=BEGAN + 400 * MS
)


@pytest.mark.parametrize("counts_copies", [True, False])
def test_holder_found_only_by_a_scan(counts_copies: bool) -> None:
    found = stalled(holding=[_PASSED], counts_copies=counts_copies)
    assert found.holders == (_PASSED,)
    assert (found.began, found.ended, found.late) == (BEGAN, ENDED, 0)


@pytest.mark.parametrize(("at", "left"), [(BEGAN + 200 * MS, 1), (ENDED, 1), (ENDED, None)])
def test_unreleased_holder_found_by_the_last_scan_comes_first(at: int, left: Optional[int]) -> None:
    found = stalled(releases=[release(at=at, left=left)], holding=[_PASSED])
    assert [each.pid for each in found.holders] == [5, HOLDER]
    assert (found.ended, found.late) == (ENDED, 0)


def test_holder_found_before_the_last_copys_release_has_released_too() -> None:
    """When many workers exit at once, only the last releases are kept."""
    found = stalled(releases=[release(by="close", at=BEGAN + 450 * MS, left=0)], holding=[_PASSED])
    assert [each.pid for each in found.holders] == [HOLDER]
    assert (found.ended, found.late) == (BEGAN + 450 * MS, 50 * MS)
    # A holder seen after it has a copy that is not counted.
    after = _PASSED._replace(seen=BEGAN + 460 * MS)
    found = stalled(releases=[release(by="close", at=BEGAN + 450 * MS, left=0)], holding=[after])
    assert [each.pid for each in found.holders] == [5, HOLDER]


def test_unconfirmed_release_is_not_named_first_if_a_copy_was_lost() -> None:
    lossy = spawn(copy_lost=True)
    assert [each.pid for each in stalled(lossy, [release()]).holders] == [None, HOLDER]
    found = stalled(lossy, [release(left=1)], holding=[_PASSED])
    assert [each.pid for each in found.holders] == [5, HOLDER]
    found = stalled(lossy, [release()], seen={HOLDER: BEGAN + 1})
    assert [each.pid for each in found.holders] == [HOLDER]


def test_process_exiting_before_the_stall_can_be_its_holder() -> None:
    """Its memory is freed before its files are closed."""
    exiting = release(at=BEGAN - 1 * MS, left=0)
    short = spawn(held=True, read_ended=BEGAN + 15 * MS)
    assert [each.pid for each in stalled(short, [exiting]).holders] == [HOLDER]
    # Not so if the kernel counted no other copy at the own child's release,
    assert judge(spawn(read_ended=BEGAN + 15 * MS), [exiting]) is None
    # if it closed its copy, or if it began to exit long before.
    for other in (release(at=BEGAN - 1 * MS, by="close"), release(at=BEGAN - 6 * MS)):
        assert stalled(short, [other]).holders == (UNSEEN,)


# -- uncertain cases --


def test_parent_that_died_was_not_released() -> None:
    early = release(by="close", at=BEGAN + 20 * MS, left=1)
    cut = spawn(read_cut=True, held=True)
    assert stalled(cut, [early]).culprit == UNSEEN
    assert stalled(cut, [release(by="close", at=BEGAN + 1, left=1)]).culprit == UNSEEN
    seen = holder(pid=7)
    assert stalled(cut, [early], holding=[seen]).culprit == seen


def test_scan_confirms_only_the_holders_that_it_saw() -> None:
    found = stalled(
        releases=[release(), release(pid=1, at=BEGAN + MS, left=1)],
        seen={1: BEGAN + MS // 2, 2: BEGAN},
    )
    assert [(each.confirmation, each.seen) for each in found.holders] == [
        (None, None),
        (Confirmation.CONFIRMED, BEGAN + MS // 2),
    ]


# -- parent died in its read --


def test_parent_died_after_the_release() -> None:
    found = stalled(spawn(read_cut=True), [release(at=ENDED - 5 * MS)])
    assert found.culprit.pid == HOLDER
    assert stall_steps(found)[-1].what == "parent_died"


def test_parent_died_while_an_unknown_holder_held_on() -> None:
    assert stalled(spawn(read_cut=True, held=True)).holders == (UNSEEN,)


# -- in progress --


def test_stall_in_progress() -> None:
    found = ongoing_stall(waiting(), [holder(), holder(pid=1)], BEGAN + MIN, MIN, True)
    assert found is not None
    assert found.ended is None
    assert found.began == BEGAN
    assert [each.pid for each in found.holders] == [HOLDER, 1]


def test_wait_shorter_than_min_ns_is_no_stall_in_progress() -> None:
    assert ongoing_stall(waiting(), [holder()], BEGAN + MIN - 1, MIN, True) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"reading": False},
        {"own_released": None},
        {"read_began": None},
        {"outcome": Outcome.OK},
        {"outcome": Outcome.ABANDONED, "read_ended": ENDED},
    ],
)
def test_spawn_that_is_not_waiting_is_no_stall_in_progress(changes: dict[str, Any]) -> None:
    assert ongoing_stall(waiting(**changes), [holder()], BEGAN + 60 * SECOND, MIN, True) is None


@pytest.mark.parametrize("evidence", ["held", "copy_lost"])
def test_evidence_of_an_unobserved_holder_in_progress(evidence: str) -> None:
    found = ongoing_stall(waiting(**{evidence: True}), [], BEGAN + MIN, MIN, True)
    assert found is not None
    assert found.holders == (UNSEEN,)


@pytest.mark.parametrize("held", [False, True])
def test_short_wait_without_evidence_is_no_stall_in_progress(held: bool) -> None:
    """``held`` is no evidence without the kernel's count."""
    assert ongoing_stall(waiting(held=held), [], BEGAN + SECOND - 1, MIN, False) is None


def test_lost_copy_is_evidence_without_the_kernels_count() -> None:
    found = ongoing_stall(waiting(copy_lost=True), [], BEGAN + MIN, MIN, False)
    assert found is not None
    assert found.holders == (UNSEEN,)


def test_long_wait_in_progress_without_the_kernels_count_is_a_stall() -> None:
    found = ongoing_stall(waiting(), [], BEGAN + SECOND, MIN, False)
    assert found is not None
    assert found.holders == (UNSEEN,)
    assert ongoing_stall(waiting(), [], BEGAN + 60 * SECOND, MIN, True) is None


# -- steps --


def test_steps_of_a_spawn() -> None:
    steps = spawn_steps(spawn())
    assert [(step.at, step.pid, step.tid, step.what) for step in steps] == [
        (CREATED, PARENT, SPAWNER, "errpipe_created"),
        (CREATED + 1 * MS, PARENT, SPAWNER, "child_forked"),
        (CREATED + 2 * MS, PARENT, SPAWNER, "parent_closed_write_end"),
        (CREATED + 3 * MS, PARENT, SPAWNER, "read_began"),
        (BEGAN, CHILD, None, "child_execed"),
        (ENDED, PARENT, SPAWNER, "read_ended"),
    ]


@pytest.mark.parametrize(
    ("by", "what"),
    [("exec", "child_execed"), ("exit", "child_exited"), ("close", "child_closed")],
)
def test_step_of_the_own_childs_release(by: str, what: str) -> None:
    assert what in [step.what for step in spawn_steps(spawn(own_released_by=by))]


def test_missing_steps_are_left_out() -> None:
    steps = spawn_steps(spawn(forked=None, parent_closed=None, own_released=None, read_ended=None))
    assert [step.what for step in steps] == ["errpipe_created", "read_began"]


def test_steps_are_in_order_of_time() -> None:
    steps = spawn_steps(spawn(own_released=CREATED + 2 * MS - 1))
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    assert [step.what for step in steps][2:4] == ["child_execed", "parent_closed_write_end"]


@pytest.mark.parametrize(
    ("by", "what"),
    [("exec", "holder_execed"), ("exit", "holder_exited"), ("close", "holder_closed")],
)
def test_steps_of_a_released_holder(by: str, what: str) -> None:
    steps = stall_steps(stalled(releases=[release(by=by)]))
    of_holder = [(step.at, step.what) for step in steps if step.pid == HOLDER]
    assert of_holder == [(CREATED + MS // 2, "holder_forked"), (ENDED, what)]
    assert steps[-1].what == "read_ended"  # the effect follows its cause even in the same nanosecond


def test_unknown_holder_has_no_steps() -> None:
    assert stall_steps(stalled(spawn(held=True))) == spawn_steps(spawn())


def test_a_stall_found_in_proc_has_no_steps() -> None:
    of = waiting(forked=None, own_released=None, own_released_by=None, read_began=None, parent_closed=None)
    assert stall_steps(Stall(of, BEGAN, None, (holder(),))) == []


def test_steps_of_a_holder_in_progress() -> None:
    found = ongoing_stall(waiting(), [holder()], ENDED, MIN, True)
    assert found is not None
    assert [step.what for step in stall_steps(found) if step.pid == HOLDER] == ["holder_forked"]


# -- invariants --

_times = st.integers(CREATED, CREATED + 2 * SECOND)
_spawns = st.builds(
    spawn,
    read_began=st.none() | _times,
    own_released=st.none() | _times,
    read_ended=st.none() | _times,
    held=st.booleans(),
    copy_lost=st.booleans(),
    read_cut=st.booleans(),
)
_releases = st.lists(
    st.builds(
        release,
        pid=st.integers(1, 4),
        at=_times,
        by=st.sampled_from(["close", "exec", "exit"]),
        execed=st.booleans(),
        descendant=st.booleans(),
        expected=st.booleans(),
        left=st.none() | st.integers(0, 3),
    ),
    max_size=5,
)


@given(
    _spawns,
    _releases,
    st.sets(st.integers(1, 4)),
    st.booleans(),
    st.dictionaries(st.integers(3, 6), st.none() | _times),
)
def test_invariants_of_judgements(
    what: Spawn, releases: list[Release], execed: set[int], counts: bool, others: dict[int, Optional[int]]
) -> None:
    scanned = [
        holder(pid=pid, cause=Cause.PASSED, seen=CREATED + SECOND, exiting=exiting)
        for pid, exiting in others.items()
    ]
    result = judgement(what, releases, execed, counts_copies=counts, holding=scanned)
    assert result.late >= 0
    found = result.stall
    if found is None:
        return
    assert found.ended is not None and found.ended - found.began >= MIN
    assert found.spawn.read_ended == found.ended + found.late
    assert found.late == result.late
    assert found.late == 0 or found.culprit.released is not None
    assert found.holders
    known = {each.pid for each in releases} | set(others)
    for each in found.holders:
        assert each.pid is None or each.pid in known
        assert each.pid is not None or each == UNSEEN
        assert each.released is None or each.released <= found.ended
        assert each.released is None or found.began < each.released or each.released_by == "exit"
    named = [each.pid for each in found.holders if each.pid is not None]
    assert len(named) == len(set(named))
    times = [step.at for step in stall_steps(found)]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("by", "exec_error", "is_stall"),
    [("exit", 0, False), ("exit", 2, True), ("exec", 0, True), ("close", 2, True)],
)
def test_child_that_never_tried_to_exec_begins_no_stall(by: str, exec_error: int, is_stall: bool) -> None:
    of = waiting(own_released_by=by, exec_error=exec_error)
    assert (ongoing_stall(of, [holder()], BEGAN + MIN, MIN, True) is not None) is is_stall


def test_child_killed_before_its_exec_begins_a_stall() -> None:
    """If it is killed in preexec_fn, for example, the parent waits for the other holders."""
    of = waiting(own_released_by="exit", child_killed=True)
    assert ongoing_stall(of, [holder()], BEGAN + MIN, MIN, True) is not None
