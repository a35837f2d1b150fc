"""agent.advice: one sentence by cause and runtime."""

from __future__ import annotations

from typing import Optional

import pytest

from agent.advice import Advice, advise
from agent.model import Cause

_EXES = (None, "/usr/bin/python3.11", "/opt/python2.7 (deleted)", "/usr/bin/ruby3.1", "/usr/bin/node")


@pytest.mark.parametrize("exe", _EXES)
@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_one_short_sentence_of_plain_text(cause: Cause, exe: Optional[str]) -> None:
    said = advise(cause, exe)
    assert said.text.endswith(".")
    assert len(said.text) <= 150
    assert said.text.isprintable()
    assert not set(said.text) & set("<>&")
    assert said.source.startswith("https://")


def test_no_two_are_the_same() -> None:
    said: dict[Advice, Cause] = {}
    for cause in Cause:
        for exe in _EXES:
            assert said.setdefault(advise(cause, exe), cause) is cause


@pytest.mark.parametrize(
    ("cause", "exe", "word"),
    [
        (Cause.LEAKED, "/usr/bin/python2.7", "close_fds=True"),
        (Cause.LEAKED, "/usr/lib/jvm/bin/java", "pipe2(O_CLOEXEC)"),
        (Cause.FORKED, "/usr/bin/python3", "forkserver"),
        (Cause.FORKED, "/usr/bin/python3.13", "forkserver"),
        (Cause.FORKED, "/usr/bin/python2.7", "can only fork"),
        (Cause.LATE_EXEC, "/usr/bin/python3.9 (deleted)", "preexec_fn"),
        (Cause.LATE_EXEC, "/usr/bin/python3-evil", "filesystem"),
        (Cause.FORKED, "", "let them exec"),
    ],
)
def test_the_runtime_decides(cause: Cause, exe: str, word: str) -> None:
    assert word in advise(cause, exe).text
