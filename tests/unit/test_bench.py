"""tests.bench: medians, ratios made within a round, the empty program's source, targets."""

from __future__ import annotations

import pytest

from tests.bench import empty, stats, targets


def test_a_figure_is_the_median_with_its_quartiles() -> None:
    assert stats.figure([5, 1, 3, 2, 100]) == stats.Figure(3, 2, 5, 5)


def test_a_figure_of_one_round_is_that_round() -> None:
    assert stats.figure([7]) == stats.Figure(7, 7, 7, 1)


def test_a_slow_round_is_compared_with_itself() -> None:
    alone, beside = [100.0, 1000.0, 10.0], [110.0, 1100.0, 11.0]
    assert stats.ratio(beside, alone).median == pytest.approx(1.1)
    assert stats.added(beside, alone).median == pytest.approx(10)


def test_rounds_must_be_of_a_number() -> None:
    with pytest.raises(ValueError):
        stats.ratio([1, 2], [1])


def test_the_spread_is_shown() -> None:
    assert stats.Figure(1234.56, 1000, 2000, 5).text(1) == "1,234.6 (1,000.0 to 2,000.0)"


def test_the_empty_program_has_a_function_for_each_tracepoint() -> None:
    assert empty.source(["syscalls:sys_enter_close", "task:task_newtask"]) == (
        "int sys_enter_close(void *unused) { return 0; }\nint task_newtask(void *unused) { return 0; }\n"
    )


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        ("RSS", 80.0, "met"),
        ("RSS", 80.1, "not met"),
        ("Popen, Python of untraced", 0.99, "met"),
        ("Popen, Python of untraced", 0.98, "not met"),
        ("RSS", None, "not measured"),
    ],
)
def test_a_target_is_met_at_its_limit(figure: str, value: float | None, verdict: str) -> None:
    rows = targets.rows({} if value is None else {figure: value})
    assert [row[-1] for row in rows if row[0] == figure] == [verdict]
