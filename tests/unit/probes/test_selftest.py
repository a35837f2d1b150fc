# SPDX-License-Identifier: Apache-2.0
"""probes.selftest: the comparison of what the probes saw; the player, which needs no probes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional, cast

import pytest

from probes import selftest, selftest_player
from probes.records import MAX_NUMBERS, MAX_RELEASES, How, Release, ReleaseFlag, Spawn

MS = 1_000_000
TRUTH = {
    "pid": 100,
    "tid": 101,
    "child": 102,
    "holder": 103,
    "read_fd": 5,
    "write_fd": 6,
    "began": 1_000 * MS - 1,
    "ended": 1_005 * MS + 1,
}


def seen(holder: Optional[dict[str, Any]] = None, **changes: Any) -> Spawn:
    """The right record."""
    values: dict[str, Any] = {
        "comm": selftest.COMM,
        "pid": 100,
        "tid": 101,
        "own_pid": 102,
        "read_fd": 5,
        "fds": (6, *[-1] * (MAX_NUMBERS - 1)),
        "read_began": 1_000 * MS,
        "read_ended": 1_005 * MS,
    }
    found = Spawn(**{**values, **changes})
    found.last = (Release * MAX_RELEASES)(Release(**{"pid": 103, "how": How.EXIT, **(holder or {})}))
    return found


def verdict(*records: Spawn, sees_holders: bool = True) -> Optional[str]:
    test = selftest.SelfTest()
    test._pid = 100
    for record in records:
        test.receive(record)
    return test._compare(TRUTH, sees_holders)


def test_all_is_well() -> None:
    assert verdict(seen()) is None


@pytest.mark.parametrize(
    ("changes", "played"),
    [
        ({}, True),
        ({"comm": b"another"}, False),
        ({"read_ended": 1_060 * MS}, False),
        ({"read_ended": 0}, False),
    ],
)
def test_a_process_with_the_players_comm_cannot_hide_a_long_wait(
    changes: dict[str, Any], played: bool
) -> None:
    assert selftest.is_played(seen(**{"created": 999 * MS, **changes})) == played


def test_nothing_was_seen() -> None:
    said = verdict()
    assert said is not None and "saw nothing" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tid": 9}, "tid 9 instead of 101"),
        ({"own_pid": 9}, "child 9 instead of 102"),
        ({"holder": {"pid": 9}}, "holder 9 instead of 103"),
        ({"read_fd": 9}, "read_fd 9 instead of 5"),
        ({"fds": (-1,) * MAX_NUMBERS}, "write_fd -1 instead of 6"),
        ({"holder": {"how": How.CLOSE}}, "by exit"),
        ({"holder": {"flags": ReleaseFlag.EXECED}}, "by exit"),
        ({"holder": {"flags": ReleaseFlag.DESCENDANT}}, "by exit"),
        ({"holder": {"flags": ReleaseFlag.EXPECTED}}, "by exit"),
        ({"read_ended": 1_006 * MS}, "the read from 0.0 to 6.0 ms instead of 0 to 5.0 ms"),
        ({"read_began": 999 * MS}, "the read from -1.0 to 5.0 ms instead of 0 to 5.0 ms"),
        ({"read_began": 1_003 * MS, "read_ended": 1_002 * MS}, "the read from 3.0 to 2.0 ms"),
    ],
)
def test_each_difference_is_reported(changes: dict[str, Any], said: str) -> None:
    answer = verdict(seen(**changes))
    assert answer is not None
    assert said in answer
    assert "\n" not in answer


def test_holders_are_not_compared_if_the_probes_see_none() -> None:
    no_holder: dict[str, Any] = {"pid": 0, "how": 0}
    assert verdict(seen(no_holder)) is not None
    assert verdict(seen(no_holder), sees_holders=False) is None
    for changes in ({"tid": 9}, {"fds": (-1,) * MAX_NUMBERS}, {"read_ended": 1_056 * MS}):
        assert verdict(seen(no_holder, **changes), sees_holders=False) is not None


def test_a_busy_machine_keeps_the_player_waiting() -> None:
    """Between its clock and the read, before and after."""
    assert verdict(seen(read_began=1_002 * MS, read_ended=1_003 * MS)) is None


def test_only_the_players_own_record_is_taken() -> None:
    test = selftest.SelfTest()
    test._pid = 100
    assert not test.receive(seen(comm=b"python3"))
    assert not test.receive(seen(pid=99))
    assert test._compare(TRUTH, True) is not None
    assert test.receive(seen())
    assert test._compare(TRUTH, True) is None


def test_a_run_with_deaf_probes() -> None:
    targets: list[int] = []
    polls: list[int] = []

    def poll(milliseconds: int) -> None:
        polls.append(milliseconds)
        if len(polls) > 3:
            test.receive(seen(pid=targets[0]))  # a record at last, with wrong facts

    test = selftest.SelfTest()
    test.begin()
    said = test.run(poll, targets.append)
    assert said is not None and said.startswith("the probes saw tid 101 instead of ")
    assert len(targets) == 1


def test_a_player_that_is_cancelled() -> None:
    test = selftest.SelfTest()
    test.begin()
    pid = test._pid
    test.close()
    assert not Path(f"/proc/{pid}").exists()
    test.close()


def test_the_player_plays() -> None:
    player = Path(selftest.__file__).with_name("selftest_player.py")
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "ignore", str(player), str(selftest.HOLD_SECONDS)],
        input="go\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr == ""
    truth = json.loads(said.stdout)
    assert set(truth) == set(TRUTH)
    assert truth["pid"] == truth["tid"]
    assert len({truth["pid"], truth["child"], truth["holder"]}) == 3
    assert truth["ended"] - truth["began"] >= selftest.HOLD_SECONDS * 1e9


def test_the_holder_stays_until_the_player_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine can keep the player from its read for longer than the holder stays."""
    close = os.close

    def close_late(fd: int) -> None:
        time.sleep(0.1)
        close(fd)

    monkeypatch.setattr(os, "close", close_late)
    truth = selftest_player._play(selftest.HOLD_SECONDS)
    assert cast(int, truth["ended"]) - cast(int, truth["began"]) >= selftest.HOLD_SECONDS * 1e9
