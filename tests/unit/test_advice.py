# SPDX-License-Identifier: Apache-2.0
"""agent.advice: one sentence for each cause and runtime."""

from __future__ import annotations

from typing import Optional

import pytest

from agent.advice import Advice, advise, release, wait_for_exit
from agent.model import Cause

_EXES = (None, "/usr/bin/python3.11", "/opt/python2.7 (deleted)", "/usr/bin/ruby3.1", "/usr/bin/node")


@pytest.mark.parametrize("exe", _EXES)
@pytest.mark.parametrize("cause", list(Cause))
def test_advice_is_one_short_sentence_of_plain_text(cause: Cause, exe: Optional[str]) -> None:
    advice = advise(cause, exe)
    assert advice.text.endswith(".")
    assert len(advice.text) <= 150
    assert advice.text.isprintable()
    assert not set(advice.text) & set("<>&")
    assert advice.source.startswith("https://")


def test_causes_do_not_share_advice() -> None:
    causes: dict[Advice, Cause] = {}
    for cause in Cause:
        for exe in _EXES:
            assert causes.setdefault(advise(cause, exe), cause) is cause


@pytest.mark.parametrize(
    ("cause", "exe", "word"),
    [
        (Cause.LEAKED, "/usr/bin/python2.7", "close_fds=True"),
        (Cause.LEAKED, "/usr/lib/jvm/bin/java", "pipe2(O_CLOEXEC)"),
        (Cause.FORKED, "/usr/bin/python3", "forkserver"),
        (Cause.FORKED, "/usr/bin/python3.13", "forkserver"),
        (Cause.FORKED, "/usr/bin/python2.7", "can only fork"),
        (Cause.LATE_EXEC, "/usr/bin/python3.9 (deleted)", "preexec_fn"),
        (Cause.LATE_EXEC, "/usr/bin/python3.9", "slow (network) file system"),
        (Cause.LATE_EXEC, "/usr/bin/python3-evil", "file system"),
        (Cause.FORKED, "", "call exec"),
    ],
)
def test_advice_depends_on_the_runtime(cause: Cause, exe: str, word: str) -> None:
    assert word in advise(cause, exe).text


# -- now --


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.UNKNOWN])
def test_a_release_names_the_holder_and_its_cost(cause: Cause) -> None:
    found = release(10, [(99, "worker")], cause)
    assert found is not None
    assert found.startswith("Ending pid 99 (worker) releases it; it ")
    assert found.endswith(".")


def test_a_worker_of_the_parent_loses_its_job() -> None:
    found = release(10, [(99, "worker")], Cause.FORKED, forker=10)
    assert found is not None and "pid 10 forked" in found and "job is lost" in found
    other = release(10, [(99, "worker")], Cause.FORKED, forker=11)
    assert other is not None and "pid 10" not in other


def test_all_holders_have_to_end() -> None:
    found = release(10, [(pid, "w") for pid in range(90, 97)], Cause.LEAKED)
    assert found is not None
    assert "all of pids 90 (w), 91 (w), 92 (w), 93 (w), 3 more" in found


def test_ending_a_holder_that_has_crashed_ends_its_core_dump() -> None:
    found = release(10, [(99, "worker")], Cause.FORKED, forker=10, crashed=True)
    assert found is not None and found.startswith("Ending pid 99 (worker) releases it; it has crashed, ")


def test_holders_that_are_exiting_cannot_be_ended() -> None:
    assert wait_for_exit([(99, "worker")]).startswith("Pid 99 (worker) is exiting: ")
    assert wait_for_exit([(98, "w"), (99, "w")]).startswith("Pids 98 (w), 99 (w) are exiting: ")


def test_no_release_of_what_is_not_known() -> None:
    assert release(10, [(99, "worker")], Cause.UNKNOWN) is None
    assert release(10, [(99, "worker"), (None, "")], Cause.FORKED) is None
