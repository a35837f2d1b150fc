# SPDX-License-Identifier: Apache-2.0
"""tests.bench: medians, ratios made within a round, the empty program's source, targets; rounds that
are interleaved, and undisturbed."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.bench import empty, rounds, stats, targets, tracers
from tests.bench.bench import Bench
from tests.bench.cost import cpu_seconds
from tests.bench.peers import CannotRunError, Peer


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
        ("Popen, Python of the empty program's", 0.99, "met"),
        ("Popen, Python of the empty program's", 0.98, "not met"),
        ("RSS", None, "not measured"),
    ],
)
def test_a_target_is_met_at_its_limit(figure: str, value: float | None, verdict: str) -> None:
    rows = targets.rows({} if value is None else {figure: value})
    assert [row[-1] for row in rows if row[0] == figure] == [verdict]


def _peer(name: str, cannot: str = "", runs: int = 0) -> Peer:
    """One that runs so often, then, where cannot says why, no more."""
    left = iter(range(runs))

    @contextlib.contextmanager
    def beside() -> Iterator[Sequence[str]]:
        if cannot and next(left, None) is None:
            raise CannotRunError(cannot)
        yield (name,)

    return Peer(name, beside)


def _measured(
    programs: Iterator[int], folder: Path, monkeypatch: pytest.MonkeyPatch, *everybody: Peer
) -> tuple[rounds.Rounds, list[str]]:
    """Two rounds; programs: how many the kernel has, each time that it is asked."""
    monkeypatch.setattr(tracers, "wait_for", lambda at_most, _seconds: next(programs) <= at_most)
    monkeypatch.setattr(tracers, "programs", lambda: 0)
    order: list[str] = []

    def measure(prefix: Sequence[str]) -> dict[str, float]:
        order.extend(prefix)
        return {"figure": float(len(order))}

    return rounds.interleaved(Bench(folder, 2, 1), everybody, measure), order


def test_peers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, order = _measured(itertools.repeat(0), tmp_path, monkeypatch, _peer("a"), _peer("b"))
    assert order == ["a", "b", "a", "b"]
    assert found == rounds.Rounds({"a": {"figure": [1, 3]}, "b": {"figure": [2, 4]}})


@pytest.mark.parametrize("runs", [0, 1])
def test_a_peer_that_cannot_run_is_reported_and_left_out(
    runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = _peer("b", "no b here", runs)
    found, order = _measured(itertools.repeat(0), tmp_path, monkeypatch, _peer("a"), peer)
    assert order == ["a", *["b"] * runs, "a"]
    assert found.cannot == {"b": "no b here"}
    assert list(found.values) == ["a"]


@pytest.mark.parametrize("when", range(3), ids=["before", "meanwhile", "after"])
def test_a_measurement_beside_another_tracer_is_repeated(
    when: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = itertools.chain((int(place == when) for place in range(3)), itertools.repeat(0))
    found, order = _measured(programs, tmp_path, monkeypatch, _peer("a"))
    assert order == ["a", "a", "a"]
    assert found == rounds.Rounds({"a": {"figure": [2, 3]}})


def test_another_tracer_that_stays_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = _measured(itertools.repeat(1), tmp_path, monkeypatch, _peer("a"))
    assert found.disturbed == 2
    assert len(found.values["a"]["figure"]) == 2


_BURN_IN_A_THREAD = """
import threading, time
def burn():
    while time.thread_time() < 0.1: pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
print("ended", flush=True)
input()
"""


def test_cpu_time_includes_ended_threads() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _BURN_IN_A_THREAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ended\n"
        assert 0.1 <= cpu_seconds(process.pid) < 60
        process.communicate("\n")
