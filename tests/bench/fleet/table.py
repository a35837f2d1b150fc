# SPDX-License-Identifier: Apache-2.0
"""The result as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

__all__ = ["markdown"]


def markdown(result: dict[str, Any]) -> str:
    """Return tables of the whole result."""
    return "\n".join(_lines(result))


def _lines(result: dict[str, Any]) -> Iterator[str]:
    hosts, prometheus, storage = result["hosts"], result["prometheus"], result["storage"]
    yield from _table(
        ("kind of host", "hosts", "series of each"),
        [(kind, hosts.get(kind, 0), series) for kind, series in result["series_of_a_host"].items()],
    )
    parts = ", ".join(f"{series} for each {part}" for part, series in result["series_by_part"].items())
    yield f"\nSeries: {parts}.\n"
    yield from _table(
        ("Prometheus", ""),
        [
            ("scrape interval", f"{result['scrape_interval_seconds']} s"),
            ("series in the head", f"{prometheus['head_series']:,.0f}"),
            ("of these, recorded", f"{prometheus['recorded_series']:,.0f}"),
            ("memory (resident; most)", _gib(prometheus, "resident_bytes", "resident_bytes_most")),
            ("processors", f"{prometheus['cpus']:.2f}"),
            ("samples a second", f"{prometheus['samples_a_second']:,.0f}"),
            ("bytes a sample (chunks)", f"{storage['bytes_a_sample']:.2f}"),
            ("scrape (median; most)", _times(prometheus, "scrape_seconds_median", "scrape_seconds_most")),
            ("scrapes failed", f"{prometheus['scrapes_failed']:.0f}"),
            *(
                (f"rules {name}, evaluation", f"{group['seconds']:.2f} s")
                for name, group in result["rules"].items()
            ),
        ],
    )
    yield ""
    yield from _table(
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
    )


def _cell(panel: dict[str, Any], name: str) -> str:
    if name not in panel:
        return ""
    seconds: Optional[float] = panel[name]
    return "not answered" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _gib(values: dict[str, float], *names: str) -> str:
    return "; ".join(f"{values[name] / 2**30:.1f} GiB" for name in names)


def _times(values: dict[str, float], *names: str) -> str:
    return "; ".join(f"{values[name] * 1000:.0f} ms" for name in names)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    for row in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(map(str, row))} |"
