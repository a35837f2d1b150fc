# SPDX-License-Identifier: Apache-2.0
"""agent.filter: which parents' stalls are reported."""

from __future__ import annotations

import dataclasses
from typing import Optional

import pytest

from agent.filter import Filter
from agent.model import Container, Identity
from tests.unit.samples import spawn, stall

ID = "0123456789abcdef" * 4
POD = "11111111-2222-3333-4444-555555555555"
INSIDE = Identity("/bin/x", 33, Container(ID, "docker", POD))
OUTSIDE = Identity("/bin/x", 0, None)
ROOTLESS = Identity("/bin/x", 1000, Container(ID, "podman", None, 1000))


@pytest.mark.parametrize(
    ("patterns", "passed"),
    [
        ([], {b"uwsgi", b"uwsgi-test", b"sh"}),
        (["uwsgi*"], {b"uwsgi", b"uwsgi-test"}),
        (["uwsgi*", "!*test"], {b"uwsgi"}),
        (["!*test"], {b"uwsgi", b"sh"}),
        (["s?"], {b"sh"}),
        (["UWSGI"], set()),
    ],
)
def test_filter_by_comm(patterns: list[str], passed: set[bytes]) -> None:
    comms = {b"uwsgi", b"uwsgi-test", b"sh"}
    filter = Filter(comms=patterns)
    assert {comm for comm in comms if filter.passes_comm(comm)} == passed
    assert {comm for comm in comms if filter.passes_stall(stall(of=spawn(comm=comm)))} == passed


@pytest.mark.parametrize(
    ("options", "identity", "passes"),
    [
        ({}, None, True),
        ({"uids": [33]}, INSIDE, True),
        ({"uids": [33]}, OUTSIDE, False),
        ({"uids": [33]}, None, False),
        ({"containers": [ID[:12]]}, INSIDE, True),
        ({"containers": [ID[:12]]}, OUTSIDE, False),
        ({"containers": [ID[1:]]}, INSIDE, False),
        ({"containers": [POD]}, INSIDE, True),
        ({"containers": [POD[:8]]}, INSIDE, False),
        ({"containers": ["host"]}, INSIDE, False),
        ({"containers": ["host"]}, OUTSIDE, True),
        ({"containers": ["host"]}, None, False),
        ({"containers": ["host"], "uids": [33]}, OUTSIDE, False),
        # A user cannot leave the host by a cgroup with a container's name.
        ({"containers": ["host"]}, ROOTLESS, True),
        ({"containers": [ID]}, ROOTLESS, True),
        ({"containers": [POD]}, ROOTLESS, False),
    ],
)
def test_filter_by_user_and_container(
    options: dict[str, list[object]], identity: Optional[Identity], passes: bool
) -> None:
    filter = Filter(**options)  # type: ignore[arg-type]
    assert filter.passes_stall(dataclasses.replace(stall(), identity=identity)) is passes


def test_containers_that_do_not_run() -> None:
    running = [Container(ID, "docker", None), Container("f" * 64, "cri-o", POD)]
    listed = ["host", ID[:12], POD, "ff", "abc", POD[:-1]]
    assert Filter(containers=listed).unmatched(running) == ["abc", POD[:-1]]
    assert Filter().unmatched(running) == []
