# SPDX-License-Identifier: Apache-2.0
"""The result as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

from tests.bench.results import Table

__all__ = ["PANELS", "PROMETHEUS", "tables"]

PROMETHEUS = "One Prometheus"
PANELS = "Panels"


def tables(result: dict[str, Any]) -> dict[str, Table]:
    """Return the whole result as tables by title."""
    hosts, prometheus, storage = result["hosts"], result["prometheus"], result["storage"]
    return {
        "Hosts": _table(
            ("kind of host", "hosts", "series of each"),
            [(kind, hosts.get(kind, 0), series) for kind, series in result["series_of_a_host"].items()],
        ),
        "Series": _table(("for each", "series"), result["series_by_part"].items()),
        PROMETHEUS: _table(
            ("Prometheus", ""),
            [
                ("scrape interval", f"{result['scrape_interval_seconds']} s"),
                ("series in the head", f"{prometheus['head_series']:,.0f}"),
                ("of these, recorded", f"{prometheus['recorded_series']:,.0f}"),
                ("memory (resident)", _gib(prometheus["resident_bytes"])),
                ("memory, at most", _gib(prometheus["resident_bytes_most"])),
                ("processors", f"{prometheus['cpus']:.2f}"),
                ("samples a second", f"{prometheus['samples_a_second']:,.0f}"),
                ("bytes a sample (chunks)", f"{storage['bytes_a_sample']:.2f}"),
                ("scrape, median", _ms(prometheus["scrape_seconds_median"])),
                ("scrape, at most", _ms(prometheus["scrape_seconds_most"])),
                ("scrapes failed", f"{prometheus['scrapes_failed']:.0f}"),
                (
                    "evaluation of all rules",
                    f"{sum(group['seconds'] for group in result['rules'].values()):.1f} s",
                ),
            ],
        ),
        PANELS: _table(
            ("dashboard", "panel", "queries", "instant", "6 h", "without recordings"),
            [
                (
                    panel["dashboard"],
                    panel["panel"],
                    panel["queries"],
                    _cell(panel, "instant"),
                    _cell(panel, "range"),
                    _cell(panel, "without_recordings") if panel.get("recordings") else "",
                )
                for panel in result["panels"]
            ],
        ),
    }


def _cell(panel: dict[str, Any], name: str) -> str:
    if name not in panel:
        return ""
    seconds: Optional[float] = panel[name]
    return "not answered" if seconds is None else _ms(seconds)


def _gib(value: float) -> str:
    return f"{value / 2**30:.1f} GiB"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    return Table(header, [list(map(str, row)) for row in rows])
