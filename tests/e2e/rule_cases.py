# SPDX-License-Identifier: Apache-2.0
"""Metrics of a host for which each rule fires, and for which it does not.

Values are one sample per minute, from minute 0 on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["CASES", "Case", "constant", "rising"]

_HOST = 'job="spawnstall", instance="web1:9848"'
_STALL = f'{_HOST}, comm="web-app", holder="pool-worker", cause="forked"'
_LATENCY_TITLES = tuple(f"SpawnLatencyHigh {window}" for window in ("1h", "6h", "1d", "3d"))


@dataclass(frozen=True)
class Case:
    """Series by name, and the titles of the alerts that fire at a minute, or nearly do (``quiet``).

    accused: the programs and holders that they name; empty: not checked.
    """

    name: str
    series: dict[str, str]
    at: int
    firing: tuple[str, ...] = ()
    quiet: tuple[str, ...] = ()
    accused: tuple[tuple[str, str], ...] = ()


def constant(value: float, minutes: int = 60) -> str:
    """Return a constant series."""
    return f"{value}+0x{minutes}"


def rising(*pieces: tuple[float, int]) -> str:
    """Return a counter in pieces: each grows by a step per minute for a number of minutes."""
    value, words = 0.0, []
    for step, minutes in pieces:
        # A piece ends before the sample with which the next one begins.
        words.append(f"{value:g}+{step:g}x{minutes - 1}")
        value = round(value + step * minutes, 6)
    return " ".join([*words, f"{value:g}"])


def _up(minutes: int = 120) -> dict[str, str]:
    return {f"up{{{_HOST}}}": constant(1, minutes)}


def _metric(name: str, values: str, labels: str = "") -> dict[str, str]:
    return {f"spawnstall_{name}{{{_HOST}{labels and ', ' + labels}}}": values, **_up()}


def _began(*pieces: tuple[int | None, int]) -> str:
    """Return a start timestamp in pieces: the minute of the start (None: absent), and the number of minutes.

    An absent sample is stale, as after a scrape without it or one that failed.
    """
    return " ".join(
        " ".join(["stale"] * minutes) if minute is None else constant(minute * 60, minutes - 1)
        for minute, minutes in pieces
    )


def _ongoing(start: str, labels: str = _STALL) -> dict[str, str]:
    """Return the start of the oldest stall in progress."""
    return {f"spawnstall_stall_start_timestamp_seconds{{{labels}}}": start, **_up()}


def _stuck(start: str, comm: str = "web-app") -> dict[str, str]:
    """Return when the oldest own child that has not called exec was forked."""
    return {f'spawnstall_exec_start_timestamp_seconds{{{_HOST}, comm="{comm}"}}': start, **_up()}


def _stalls(values: str, comm: str = "web-app") -> dict[str, str]:
    return {
        f"spawnstall_stall_seconds_{kind}{{{_STALL.replace('web-app', comm)}}}": values
        for kind in ("count", "sum")
    } | _up()


def _spawns(pieces: Iterable[tuple[float, float, int]]) -> dict[str, str]:
    """Return spawns of one comm in pieces: the number per minute, the share of slow ones, the minutes."""
    pieces = list(pieces)
    every = rising(*((number, minutes) for number, _, minutes in pieces))
    fast = rising(*((number * (1 - slow), minutes) for number, slow, minutes in pieces))
    bucket = f'spawnstall_spawn_seconds_bucket{{{_HOST}, comm="web-app", le='
    return {
        f'{bucket}"0.131072"}}': fast,
        f'{bucket}"0.262144"}}': every,
        f'{bucket}"+Inf"}}': every,
        **_up(sum(minutes for _, _, minutes in pieces)),
    }


def _execs(slow: float, per_minute: float) -> dict[str, str]:
    metric, comm = "spawnstall_exec_seconds", f'{_HOST}, comm="web-app"'
    return {
        f'{metric}_bucket{{{comm}, le="0.524288"}}': rising((per_minute * (1 - slow), 60)),
        f'{metric}_bucket{{{comm}, le="+Inf"}}': rising((per_minute, 60)),
        f"{metric}_count{{{comm}}}": rising((per_minute, 60)),
        **_up(),
    }


_HUNG = ("SpawnStallOngoing 1m", "SpawnStallOngoing 5m")
_FROM_10 = _began((None, 10), (10, 60))
_SHORT = " ".join(f"stale {60 * minute - 5}" for minute in range(1, 60, 2))
"""A stall of some seconds at every second scrape."""
_ALWAYS = "0+60x60"
"""A stall that has just begun at every scrape."""

_ONGOING = [
    Case("no stall", _ongoing(_FROM_10), at=9, quiet=_HUNG),
    Case("a stall of one minute", _ongoing(_FROM_10), at=11, quiet=_HUNG),
    Case("a stall of two minutes", _ongoing(_FROM_10), at=12, firing=_HUNG[:1], quiet=_HUNG[1:]),
    Case("a stall of five minutes", _ongoing(_FROM_10), at=15, firing=_HUNG[:1], quiet=_HUNG[1:]),
    Case("a stall of six minutes", _ongoing(_FROM_10), at=16, firing=_HUNG),
    Case("a stall that began before the agent", _ongoing(_began((None, 30), (10, 30))), at=30, firing=_HUNG),
    Case(
        "a hang while its agent restarts",
        _ongoing(_began((10, 20), (None, 2), (10, 30))),
        at=21,
        firing=_HUNG,
    ),
    Case(
        "a hang after its agent has restarted",
        _ongoing(_began((10, 20), (None, 2), (10, 30))),
        at=22,
        firing=_HUNG,
    ),
    Case("a hang that has ended", _ongoing(_began((10, 20), (None, 30))), at=23, quiet=_HUNG),
    Case("short stalls in a row are not one long one", _ongoing(_ALWAYS), at=40, quiet=_HUNG),
    *(
        Case(
            f"a program that hangs for 20 minutes beside {name}",
            {
                **_ongoing(_FROM_10),
                **_ongoing(start, f'{_HOST}, comm="{comm}", holder="job", cause="forked"'),
            },
            at=30,
            firing=_HUNG,
            accused=(("web-app", "pool-worker"),),
        )
        for name, comm in (("another program", "cron"), ("another holder", "web-app"))
        for start in (_SHORT, _ALWAYS)
    ),
]

_CHILD = ("SpawnExecStuck 1m", "SpawnExecStuck 5m")
_STUCK = [
    Case("no own child is late", _stuck(_FROM_10), at=9, quiet=_CHILD),
    Case("an own child of one minute", _stuck(_FROM_10), at=11, quiet=_CHILD),
    Case("an own child of two minutes", _stuck(_FROM_10), at=12, firing=_CHILD[:1], quiet=_CHILD[1:]),
    Case("an own child of six minutes", _stuck(_FROM_10), at=16, firing=_CHILD),
    Case("own children that are late, but exec", _stuck(_ALWAYS), at=40, quiet=_CHILD),
    Case(
        "an own child that is stuck while its agent restarts",
        _stuck(_began((10, 20), (None, 2), (10, 30))),
        at=21,
        firing=_CHILD,
    ),
    Case("an own child that has called exec", _stuck(_began((10, 20), (None, 30))), at=23, quiet=_CHILD),
    Case(
        "an own child that is stuck beside another program's late ones",
        {**_stuck(_FROM_10), **_stuck(_ALWAYS, comm="cron")},
        at=30,
        firing=_CHILD,
        accused=(("web-app", ""),),
    ),
]

_LOST = ("SpawnStallTimeHigh",)
_TIME = [
    Case("two seconds a minute", _stalls(rising((2, 90))), at=80, firing=_LOST),
    Case("half a second a minute", _stalls(rising((0.5, 90))), at=80, quiet=_LOST),
    Case("two seconds a minute, since a moment", _stalls(rising((0, 20), (2, 90))), at=40, quiet=_LOST),
    Case(
        "a hang of ten minutes that has ended",
        _stalls(f"0+0x19 {constant(600)}"),
        at=30,
        firing=_LOST,
    ),
    Case("and is over", _stalls(f"0+0x19 {constant(600)}"), at=50, quiet=_LOST),
    Case(
        "programs are not added up",
        {**_stalls(rising((0.6, 90))), **_stalls(rising((0.6, 90)), comm="cron")},
        at=80,
        quiet=_LOST,
    ),
]

_RACE = ("SpawnStallExposure",)


def _exposures(per_minute: float, cause: str = "forked") -> dict[str, str]:
    return _metric("exposures_total", rising((per_minute, 120)), f'comm="web-app", cause="{cause}"')


_EXPOSED = [
    Case("an exposure every two minutes", _exposures(0.5), at=100, firing=_RACE),
    Case("an exposure every ten minutes", _exposures(0.1), at=100, quiet=_RACE),
    Case("copies of children on their way to an exec", _exposures(5, "late_exec"), at=100, quiet=_RACE),
    Case("exposures since a moment", _exposures(1), at=20, quiet=_RACE),
    Case(
        "exposures of a program that stalls",
        {**_exposures(0.5), **_stalls(rising((0.05, 120)))},
        at=100,
        quiet=_RACE,
    ),
    Case(
        "exposures while another program stalls",
        {**_exposures(0.5), **_stalls(rising((0.05, 120)), comm="cron")},
        at=100,
        firing=_RACE,
    ),
]

_FAST = 0.002  # a share of slow spawns that every window allows


def _latency(name: str, pieces: Sequence[tuple[float, int]], at: int, firing: str, quiet: str) -> Case:
    """Return a case with one spawn per second; pieces are the share of slow ones, and minutes."""
    return Case(
        name,
        _spawns([(60, slow, minutes) for slow, minutes in pieces]),
        at,
        tuple(f"SpawnLatencyHigh {window}" for window in firing.split()),
        tuple(f"SpawnLatencyHigh {window}" for window in quiet.split()),
    )


def _few(number: int, window: str, hours: int) -> Case:
    """Return a case with a number of spawns in a window, 20 % slow: fewer than a hundred do not count."""
    index = _LATENCY_TITLES.index(f"SpawnLatencyHigh {window}")
    first = index if number > 100 else index + 1
    name = f"{number} spawns in {window}"
    spawns = _spawns([(number / hours / 60, 0.2, 240)])
    return Case(name, spawns, 220, firing=_LATENCY_TITLES[first:], quiet=_LATENCY_TITLES[:first])


_LATENCY = [
    # The limit of each window.
    _latency("20 % slow", [(0.2, 240)], 220, firing="1h 6h 1d 3d", quiet=""),
    _latency("14 % slow", [(0.14, 240)], 220, firing="6h 1d 3d", quiet="1h"),
    _latency("7 % slow", [(0.07, 240)], 220, firing="6h 1d 3d", quiet="1h"),
    _latency("5 % slow", [(0.05, 240)], 220, firing="1d 3d", quiet="6h"),
    _latency("2 % slow", [(0.02, 240)], 220, firing="3d", quiet="1d"),
    _latency("0.8 % slow", [(0.008, 240)], 220, firing="", quiet="3d"),
    # The wait of each window.
    _latency("20 % slow since 2 minutes", [(0.2, 240)], 2, firing="", quiet="1h"),
    _latency("20 % slow since 10 minutes", [(0.2, 240)], 10, firing="1h", quiet="6h"),
    _latency("20 % slow since 50 minutes", [(0.2, 240)], 50, firing="1h 6h", quiet="1d"),
    _latency("20 % slow since 150 minutes", [(0.2, 240)], 150, firing="1h 6h 1d", quiet="3d"),
    # Over: the long window is above its limit, the short one is not.
    _latency("1h: better since 8 minutes", [(0.5, 30), (0.1, 60)], 38, firing="6h", quiet="1h"),
    _latency("6h: better since 40 minutes", [(0.5, 100), (0.04, 60)], 140, firing="1d", quiet="6h"),
    _latency("1d: better since 130 minutes", [(0.5, 200), (0.02, 200)], 330, firing="3d", quiet="1d"),
    _latency("3d: better since 370 minutes", [(0.5, 200), (0.006, 400)], 570, firing="", quiet="3d"),
    # Just begun: the short window is above its limit, the long one is not.
    _latency("1h: slow since 17 minutes", [(_FAST, 120), (0.3, 60)], 137, firing="", quiet="1h"),
    _latency("6h: slow since 100 minutes", [(_FAST, 360), (0.12, 120)], 460, firing="", quiet="6h"),
    _latency("1d: slow since 180 minutes", [(_FAST, 1440), (0.11, 200)], 1620, firing="", quiet="1d"),
    _latency("3d: slow since 360 minutes", [(_FAST, 4000), (0.05, 380)], 4360, firing="", quiet="3d"),
    # A share of a few spawns means nothing.
    *(
        _few(number, window, hours)
        for window, hours in (("1h", 1), ("6h", 6), ("1d", 24), ("3d", 72))
        for number in (150, 50)
    ),
]

_EXEC = [
    Case("10 % of execs are slow", _execs(0.1, 10), at=40, firing=("SpawnExecSlow",)),
    Case("10 % of execs are slow, since 4 minutes", _execs(0.1, 10), at=4, quiet=("SpawnExecSlow",)),
    Case("4 % of execs are slow", _execs(0.04, 10), at=40, quiet=("SpawnExecSlow",)),
    Case("half of 12 execs", _execs(0.5, 0.8), at=40, firing=("SpawnExecSlow",)),
    Case("half of a few execs", _execs(0.5, 0.5), at=40, quiet=("SpawnExecSlow",)),
]

_DOWN = [
    Case(
        "down",
        {f"up{{{_HOST}}}": f"1+0x20 {constant(0)}"},
        at=30,
        firing=("SpawnStallAgentDown unreachable",),
    ),
    Case(
        "a scrape failed",
        {f"up{{{_HOST}}}": f"1+0x20 0 0 0 {constant(1)}"},
        at=23,
        quiet=("SpawnStallAgentDown unreachable",),
    ),
    Case(
        "another job's target is down",
        {'up{job="node", instance="web1:9100"}': constant(0), **_up()},
        at=30,
        quiet=("SpawnStallAgentDown unreachable",),
    ),
    Case("no target", {"other": constant(1)}, at=30, firing=("SpawnStallAgentDown absent",)),
    Case("no target, since a moment", {"other": constant(1)}, at=10, quiet=("SpawnStallAgentDown absent",)),
]


def _blind(reason: str, bad: dict[str, str], good: dict[str, str], soon: int | None = None) -> list[Case]:
    """Return the cases of one reason; ``soon`` is a minute before the end of its wait."""
    title = f"SpawnStallAgentBlind {reason}"
    return [
        *([] if soon is None else [Case(f"{reason}: since a moment", bad, soon, quiet=(title,))]),
        Case(f"{reason}: blind", bad, at=40, firing=(title,)),
        Case(f"{reason}: sees", good, at=40, quiet=(title,)),
    ]


def _blind_counter(name: str, labels: str = "", soon: int | None = None) -> list[Case]:
    """Return the cases of a counter that grows, or grew before the last quarter of an hour."""
    metric = f"{name}_total"
    return _blind(
        name,
        _metric(metric, rising((0, 20), (1, 40)), labels),
        _metric(metric, rising((5, 20), (0, 40)), labels),
        soon,
    )


_MAP = 'map="tables"'
_BLIND = [
    *_blind(
        "selftest", _metric("selftest_success", constant(0)), _metric("selftest_success", constant(1)), 4
    ),
    *_blind(
        "probe",
        _metric("probe_attached", constant(0), 'probe="sys_enter_close"'),
        _metric("probe_attached", constant(1), 'probe="sys_enter_close"'),
        4,
    ),
    *_blind_counter("records_lost"),
    *_blind_counter("map_updates_failed"),
    *_blind_counter("spawns_unfinished"),
    *_blind_counter("map_evictions", _MAP),
    *_blind_counter("probe_misses", soon=30),
    *_blind_counter("slots_overflowed", soon=30),
    *_blind_counter("numbers_overflowed", soon=30),
    *_blind_counter("walks_cut", soon=30),
    *_blind_counter("searches_cut", soon=30),
    *_blind(
        "map_nearly_full",
        {**_metric("map_entries", constant(90), _MAP), **_metric("map_max_entries", constant(100), _MAP)},
        {**_metric("map_entries", constant(75), _MAP), **_metric("map_max_entries", constant(100), _MAP)},
        9,
    ),
]

CASES = (*_ONGOING, *_STUCK, *_TIME, *_EXPOSED, *_LATENCY, *_EXEC, *_DOWN, *_BLIND)
