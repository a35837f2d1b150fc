# SPDX-License-Identifier: Apache-2.0
"""Random fd programs: the kernel side is compared with /proc after each step (see tests/fdprograms)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fdprograms.compare import Prover
from tests.fdprograms.expected import Step
from tests.fdprograms.generator import Choice, Limits, choices, plan

pytestmark = pytest.mark.alone

_SETTINGS = settings(
    max_examples=300,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
_LIMITS = Limits()
_OVERFLOW = Limits(overflow=True)


# The shortest programs of past disagreements.
_ONCE_WRONG = {
    "the maker's closed copies took places in its child's table": """
        0.0 pipe2 1
        0.0 dup2 4 10
        0.0 dup2 4 11
        0.0 close 4
        0.0 close 10
        0.0 dup2 11 10
        0.0 fork
        1.0 dup 11
        1.0 kill
        0.0 kill
        """,
    "the own child's only copy was not at the fd that pipe2 returned": """
        0.0 pipe2 1
        0.0 dupfd 4 10 1
        0.0 close 4
        0.0 fork
        1.0 kill
        0.0 kill
        """,
    "another own child received a copy at another fd than the first": """
        0.0 pipe2 1
        0.0 fork
        0.0 dup3 4 10 0
        0.0 close 4
        0.0 fork
        2.0 kill
        1.0 kill
        0.0 kill
        """,
    "the write end moved to the third known fd": """
        0.0 pipe2 1
        0.0 dup3 4 10 1
        0.0 dup3 4 11 1
        0.0 close 10
        0.0 close 4
        0.0 dup3 11 10 1
        0.0 fork
        1.0 kill
        0.0 kill
        """,
    "the own child duplicated its copy over its read end": """
        0.0 pipe2 1
        0.0 fork
        1.0 dup2 4 3
        1.0 close 4
        1.0 exec
        1.0 kill
        0.0 kill
        """,
    "the maker read from a copy of its read end": """
        0.0 pipe2 1
        0.0 dup 3
        0.0 fork
        0.0 close 4
        0.0 read 5
        1.0 exec
        1.0 kill
        0.0 kill
        """,
    "a holder existed before the own child was forked": """
        0.0 pipe2 1
        0.0 thread
        0.1 fork
        0.0 fork
        2.0 exec
        0.0 fork
        1.0 exec
        3.0 exec
        0.0 close 4
        0.0 read 3
        3.0 kill
        2.0 kill
        1.0 kill
        0.0 kill
        """,
    "a holder released its copy, and another was forked before the maker's close": """
        0.0 pipe2 1
        0.0 thread
        0.1 fork
        0.0 fork
        2.0 exec
        1.0 exec
        0.1 fork
        0.0 close 4
        0.0 read 3
        3.0 exec
        3.0 kill
        2.0 kill
        1.0 kill
        0.0 kill
        """,
    "the maker had ended, and another process used its table": """
        0.0 pipe
        0.0 fork
        0.0 close 4
        1.0 fork
        0.0 kill
        1.0 fork
        2.0 kill
        3.0 kill
        1.0 kill
        """,
    "a vfork for its own pipe gave the pipe of another thread a foreign holder": """
        0.0 pipe2 1
        0.0 thread
        0.1 pipe2 1
        0.1 vfork
        1.0 exec
        1.0 kill
        0.0 kill
        """,
    "a holder exited before the own child was forked, and another remained": """
        0.0 pipe2 1
        0.0 thread
        0.1 fork
        0.1 fork
        1.0 kill
        0.0 fork
        3.0 exec
        0.0 close 4
        0.0 read 3
        2.0 kill
        3.0 kill
        0.0 kill
        """,
    "an own child kept one of its two pipes at its first exec, and none at its second": """
        0.0 pipe2 0
        0.0 pipe2 1
        0.0 fork
        1.0 fork
        1.0 exec
        0.0 close 4
        0.0 read 3
        1.0 dup2 4 0
        1.0 exec
        2.0 kill
        1.0 kill
        0.0 kill
        """,
    "the heir had called exec before it took the own child's place": """
        0.0 pipe2 1
        0.0 fork
        0.0 vfork
        1.0 fork
        2.0 dup3 4 10 0
        3.0 exec
        1.0 close 4
        2.0 exec
        0.0 close 4
        3.0 kill
        2.0 kill
        1.0 kill
        0.0 kill
        """,
}


@pytest.fixture(scope="module")
def prover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prover]:
    """Load the probes once."""
    with Prover(tmp_path_factory.mktemp("player")) as prover:
        yield prover


@_SETTINGS
@given(drawn=choices(_LIMITS))
def test_tracer_agrees_with_proc(prover: Prover, drawn: list[Choice]) -> None:
    prover.prove(plan(drawn, _LIMITS))


@settings(_SETTINGS, max_examples=100)
@given(drawn=choices(_OVERFLOW))
def test_copies_at_more_fds_than_are_followed_are_counted(prover: Prover, drawn: list[Choice]) -> None:
    prover.prove(plan(drawn, _OVERFLOW))


@pytest.mark.parametrize("program", _ONCE_WRONG.values(), ids=_ONCE_WRONG)
def test_programs_that_once_disagreed(prover: Prover, program: str) -> None:
    prover.prove([Step.parse(line) for line in program.strip().splitlines()])
