"""agent.advice: one sentence a cause."""

from __future__ import annotations

import pytest

from agent.advice import advice
from agent.model import Cause


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_one_short_sentence_of_plain_text(cause: Cause) -> None:
    said = advice(cause)
    assert said.endswith(".")
    assert len(said) <= 120
    assert said.isprintable()
    assert not set(said) & set("<>&")


def test_no_two_are_the_same() -> None:
    assert len({advice(cause) for cause in Cause}) == len(Cause)
