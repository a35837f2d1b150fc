# SPDX-License-Identifier: Apache-2.0
"""The kinds of stalls for the template of the same name: their table, the stalls of each, and histograms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from agent.model import Cause
from agent.render.words import count, duration
from agent.reports.kinds import KindName
from agent.reports.types import BucketObject, KindObject, KindsObject

__all__ = ["groups_view", "histogram_view", "kind_id", "kinds_view"]

_LEAST_BARS = 24
"""Of a sparkline: a bar is not wider than that."""
_SPARK_HEIGHT = 18
_CHART_HEIGHT = 100
_LEAST_HEIGHT = 3  # of a bar that is not empty
_MOST_LABELS = 7
_LEAST_BUCKETS = 10  # a chart of a few has no wider bars
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "us"))


def kind_id(name: KindName) -> str:
    """The id of the element with its stalls: the same whenever the page is made."""
    return "kind-" + hashlib.sha256(repr(tuple(name)).encode()).hexdigest()[:12]


def kinds_view(
    found: KindsObject, today: str, links: Mapping[KindName, str], all_ended: bool = False
) -> dict[str, Any]:
    """The table: a row for each kind.

    today: no date is shown for it (YYYY-MM-DD).  links: the ids of elements with stalls of a kind.
    all_ended: nothing is in progress any more, even if the end of a stall was not reported.
    """
    bars = max((len(kind["over_time"]) for kind in found["kinds"]), default=0)
    began = found["began"]
    return {
        "rows": [_row(kind, today, links, max(bars, _LEAST_BARS), all_ended) for kind in found["kinds"]],
        "axis": None
        if began is None or not bars
        else f"{duration(found['interval_seconds'] * 1e9)} each, from {_when(began, today)} UTC",
    }


def _row(
    kind: KindObject, today: str, links: Mapping[KindName, str], bars: int, all_ended: bool
) -> dict[str, Any]:
    name = KindName(kind["comm"], kind["holder"], Cause(kind["cause"]))
    ongoing = 0 if all_ended else kind["ongoing"]
    last = kind["last"] or ""
    return {
        "id": kind_id(name),
        "link": links.get(name),
        **_names(name),
        "stalls": kind["stalls"],
        "ongoing": ongoing,
        "seconds": [kind[key] for key in ("seconds", "p50_seconds", "p99_seconds", "longest_seconds")],
        "last": last,
        "day": "" if last.startswith(today) else last[:10],
        "clock": last[11:19] or "unknown",
        "bars": bars,
        "spark": _path(kind["over_time"]),
    }


def groups_view(
    stalls: Mapping[KindName, Sequence[dict[str, Any]]], found: KindsObject, which: str
) -> list[dict[str, Any]]:
    """The stalls of each kind, the costliest kind first.

    stalls: as ``stall_view`` makes them.  which: those shown of more, such as ``the longest``.
    """
    totals = {
        KindName(kind["comm"], kind["holder"], Cause(kind["cause"])): kind["stalls"]
        for kind in found["kinds"]
    }
    places = {name: place for place, name in enumerate(totals)}
    groups = []
    for name in sorted(stalls, key=lambda name: places.get(name, len(places))):
        shown = len(stalls[name])
        total = max(totals.get(name, shown), shown)
        note = count(total, "stall") if shown == total else f"{which} {shown:,} of {total:,} stalls"
        groups.append({"id": kind_id(name), **_names(name), "note": note, "stalls": stalls[name]})
    return groups


def histogram_view(title: str, noun: str, buckets: Sequence[BucketObject]) -> Optional[dict[str, Any]]:
    """A chart of durations, None if there are none.  noun: what is counted, in the singular."""
    if not buckets:
        return None
    most = max(bucket["count"] for bucket in buckets)
    share = 100 / max(len(buckets), _LEAST_BUCKETS)
    every = -(-len(buckets) // _MOST_LABELS)
    bars: list[dict[str, str]] = []
    for place, bucket in enumerate(buckets):
        number = bucket["count"]
        height = max(_LEAST_HEIGHT, number / most * _CHART_HEIGHT) if number else 0
        bars.append(
            {
                "x": f"{place * share:.2f}%",
                "width": f"{share * 0.94:.2f}%",
                "y": f"{_CHART_HEIGHT - height:.1f}",
                "height": f"{height:.1f}",
                "label": "" if place % every else _short(bucket["above"]),
                "words": f"{_range(bucket)}: {count(number, noun)}",
            }
        )
    return {
        "title": title,
        "bars": bars,
        "height": _CHART_HEIGHT,
        "most": most,
        "words": "; ".join(bar["words"] for bar, bucket in zip(bars, buckets) if bucket["count"]),
    }


# -- pieces --


def _names(name: KindName) -> dict[str, Any]:
    holder = "an unknown process" if name.holder is None else name.holder
    return {"comm": name.comm or "?", "holder": holder, "cause": name.cause.value}


def _path(counts: Iterable[int]) -> str:
    """The path of a sparkline, 1 wide for each interval."""
    numbers = [*counts]
    most = max(numbers, default=0)
    parts = []
    for place, number in enumerate(numbers):
        if number:
            height = max(_LEAST_HEIGHT, round(number / most * _SPARK_HEIGHT, 1))
            parts.append(f"M{place} {_SPARK_HEIGHT}v-{height:g}h.8v{height:g}z")
    return "".join(parts)


def _when(rfc3339: str, today: str) -> str:
    return rfc3339[11:19] if rfc3339.startswith(today) else f"{rfc3339[:10]} {rfc3339[11:19]}"


def _range(bucket: BucketObject) -> str:
    above, le = bucket["above"], bucket["le"]
    if le is None:
        return f"more than {_short(above)}"
    return f"{_short(above)} to {_short(le)}" if above else f"up to {_short(le)}"


def _short(seconds: float) -> str:
    """A bound of a bucket, as in ``20 ms``."""
    if not seconds:
        return "0"
    unit, name = next(each for each in _UNITS if seconds >= each[0] or each is _UNITS[-1])
    return f"{seconds / unit:.3g} {name}"
