# SPDX-License-Identifier: Apache-2.0
"""agent.render.run_html, read back by an HTML parser; tests/e2e/test_report.py uses a real browser."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import Any, Optional

import pytest
from hypothesis import given

from agent.model import Cause, Container, Identity
from agent.render.run_html import html_report
from agent.reports.collection import Collection
from agent.reports.objects import stall_object
from tests.unit.render.test_agent_html import Document
from tests.unit.reports.test_objects import CLOCK
from tests.unit.reportsamples import ended, found, objects, ongoing, summary
from tests.unit.samples import UNSEEN, holder, stall


def _source(*reports: Any, limit: int = 10_000) -> str:
    return html_report(Collection(reports, limit))


def _document(*reports: Any, limit: int = 10_000) -> Document:
    return Document(_source(*reports, limit=limit))


def _lasting(number: int, seconds: float) -> dict[str, Any]:
    return {**ended(number), "stall_seconds": seconds, "time": f"2026-11-24T10:00:{number % 60:02}.000000Z"}


def _attributes(document: Document, tag: str, name: str) -> list[Optional[str]]:
    return [attributes[name] for each, attributes in document.elements if each == tag and name in attributes]


_SUMMARY = {
    **summary(),
    "seconds": 61.2,
    "spawns": 5466,
    "stalls": 7,
    "stalled_seconds": 2.113,
    "spawn_seconds": {"p50": 0.000112, "p95": 0.000821, "p99": 0.0013, "max": 0.3041},
    "holders": [{"comm": "pool-worker", "cause": "forked", "stalls": 7, "seconds": 2.113}],
}


def test_all_details_of_a_stall_are_shown() -> None:
    identity = Identity("/usr/bin/python3.11", 33, Container("ab" * 32, "podman", None))
    report = stall_object(stall(holder(identity=identity)), CLOCK)
    text = _document(report, ended(2)).text
    for words in (
        "parent waited to start child, held by worker forked",
        "500.0 ms",
        "Fork workers before any thread",
        "pid 1020: was forked while the pipe was open and has not called exec; /usr/bin/python3.11, uid 33;"
        " container abababababab (podman); fd 6",
        "creates the errpipe (read fd 5, write fd 6)",
        "exits, which closes its copy",
    ):
        assert words in text


def test_figures_of_the_summary() -> None:
    text = _document(ended(), _SUMMARY).text
    for words in (
        "spawns5,466",
        "total stall time2.11 s",
        "failed execs0",
        "lost records0",
        "traced for61.20 s",
        "p50112 us",
        "max304.1 ms",
        "pool-workerforked7 stalls2.11 s",
    ):
        assert words in text
    assert "no summary" not in text


def test_figures_are_computed_from_the_stalls_without_a_summary() -> None:
    text = _document(_lasting(1, 2.0), _lasting(2, 1.5)).text
    assert "no summary" in text
    assert "stalls2" in text and "total stall time3.50 s" in text
    assert "workerforked2 stalls3.50 s" in text


def test_doubtful_figures_have_notes() -> None:
    text = _document({**_SUMMARY, "lost_records": 3}, {**_SUMMARY, "lost_records": 4}, ongoing()).text
    assert "Records were lost: stalls may be missing from this report." in text
    lost = {"records_lost": 4, "slots_overflowed": 12}
    text = _document({**_SUMMARY, "lost_records": 4, "not_followed": lost}).text
    assert re.search(r"Not followed: 12 [a-z ]+ \(slots_overflowed\)\.", text)
    assert text.count("Records were lost") == 1
    text = _document({**_SUMMARY, "lost_records": 3}, {**_SUMMARY, "lost_records": 4}, ongoing()).text
    assert "contains 2 runs; the figures are of the last one." in text
    assert "1 stall still in progress at the end of the report." in text


def test_report_without_stalls() -> None:
    text = _document(_SUMMARY).text
    assert "No stall seen." in text
    assert "All stalls" not in text


def test_stall_found_in_proc() -> None:
    document = _document(found())
    for words in (
        "hung possibly waits to start a program, held by worker leaked",
        "duration unknown",
        "the read end is close-on-exec",
        "Found in /proc",
        "pipe2(O_CLOEXEC)",
    ):
        assert words in document.text
    assert "None" not in document.text
    assert document.stalls() == [("ongoing", True)]


def test_unknown_holder() -> None:
    text = _document(stall_object(stall(UNSEEN), CLOCK)).text
    assert "held by an unknown process unknown" in text
    assert "None" not in text


def test_longest_stalls_come_first_and_the_first_three_are_open() -> None:
    document = _document(
        _lasting(1, 0.1), _lasting(2, 3.0), _lasting(3, 2.0), _lasting(4, 1.0), ongoing(5, 9.0)
    )
    assert document.stalls() == [("ongoing", True), ("ended", True), ("ended", True), *[("ended", False)] * 2]
    detailed = document.text[document.text.index("longest first") :]
    spans = [detailed.index(span) for span in ("9.00 s", "3.00 s", "1.00 s", "100.0 ms")]
    assert spans == sorted(spans)


def test_table_lists_every_stall_in_order_of_time() -> None:
    source = _source(_lasting(3, 5.0), _lasting(1, 1.0), {**found(), "time": "2026-11-25T00:00:00.000000Z"})
    table = source[source.index('<section id="all">') :]
    places = [table.index(when) for when in ("10:00:01.000", "10:00:03.000", "2026-11-25 00:00:00.000")]
    assert places == sorted(places)
    assert table.count("<tr") == 4


def test_links_lead_to_stalls_with_details() -> None:
    document = _document(*(_lasting(number, number) for number in range(1, 120)))
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(href) for href in _attributes(document, "a", "href")}
    assert targets == {f"#stall-{number}" for number in range(1, 101)} | {"#all"}
    assert {target[1:] for target in targets} <= set(ids)


@pytest.mark.once
def test_size_is_bounded_and_omissions_are_stated() -> None:
    reports = [_lasting(number, 1 + number / 1e4) for number in range(6000)]
    source = _source(*reports, limit=5000)
    document = Document(source)
    assert len(source) < 4_000_000
    assert len(document.stalls()) == 100
    assert "the longest 100 of 6,000" in document.text
    assert "the longest 2,000, in order of time; 4,000 shorter ones omitted" in document.text
    assert [tag for tag, _ in document.elements].count("tr") < 2000 + 100 * 20
    assert "stalls6,000" in document.text


def test_long_lists_of_culprits_are_cut() -> None:
    many = [{"comm": f"c{number}", "cause": "forked", "stalls": 1, "seconds": 1.0} for number in range(50)]
    text = _document({**_SUMMARY, "holders": many}).text
    assert "c19" in text and "c20" not in text
    assert "and 30 more" in text


def test_overview_shows_stalls_over_time() -> None:
    document = _document(_lasting(1, 0.5), _lasting(31, 2.0), found())
    [first, second] = [
        attributes
        for tag, attributes in document.elements
        if tag == "line" and attributes["class"] == "ended"
    ]
    assert (first["x1"], second["x2"]) == ("0.00%", "100.00%")
    assert float(str(second["x1"])[:-1]) == pytest.approx(30 / 32 * 100, abs=0.1)
    assert first["y1"] == second["y1"]
    assert "10:00:01 UTC" in document.text and "10:00:33 UTC" in document.text


def test_overlapping_stalls_are_on_separate_rows() -> None:
    document = _document(*({**ended(number), "stall_seconds": 0.5} for number in range(40)))
    heights = [
        attributes["y1"]
        for tag, attributes in document.elements
        if tag == "line" and attributes["class"] == "ended"
    ]
    assert len(heights) == 40 and len(set(heights)) == 12


# -- Content-Security-Policy --


def test_policy_allows_only_the_inline_style() -> None:
    document = _document(ended(), found(), _SUMMARY)
    [policy] = _attributes(document, "meta", "content")[1:]
    digest = base64.b64encode(hashlib.sha256(document.inline["style"].encode()).digest()).decode()
    assert html.unescape(str(policy)) == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert _attributes(document, "meta", "http-equiv") == ["Content-Security-Policy"]


def test_page_is_self_contained_and_has_no_script() -> None:
    document = _document(ended(), found(), _SUMMARY)
    for tag, attributes in document.elements:
        assert tag not in ("script", "img", "iframe", "object")
        assert "style" not in attributes and "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        assert str(attributes.get("href", "#")).startswith("data:" if tag == "link" else "#")


# -- untrusted text --


@pytest.mark.parametrize(
    "comm",
    [
        "<script>alert()",
        "\"'><img src=x ",
        "</style><svg/>",
        "$x${y}&lt;",
        "{{ style }}",
        "{% raw %}",
        "</title>",
        "-->",
    ],
)
def test_hostile_text_is_escaped(comm: str) -> None:
    def reports(words: str) -> list[dict[str, Any]]:
        hung = found()
        who = {"comm": words, "exe": words, "container": {"id": words, "runtime": words, "pod_uid": words}}
        for each in (hung["parent"], hung["holders"][0]):
            each.update(who)
        hung.update(child={"pid": 1, "comm": words}, evidence=[words], advice=words)
        seen = ended()
        for each in (seen["parent"], seen["child"], seen["holders"][0]):
            each["comm"] = words
        seen["id"] = words
        culprit = {"comm": words, "cause": Cause.FORKED.value, "stalls": 1, "seconds": 1.0}
        return [hung, seen, {**_SUMMARY, "holders": [culprit]}]

    plain, hostile = _document(*reports("plain")), _document(*reports(comm))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert hostile.text.count(comm) >= 12


@given(objects)
def test_every_valid_report_can_be_shown(reports: list[dict[str, Any]]) -> None:
    Document(_source(*reports))
