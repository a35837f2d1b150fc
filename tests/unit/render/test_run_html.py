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
from tests.unit.reportsamples import ended, found, objects, ongoing, plain_spawn, run, summary
from tests.unit.samples import UNSEEN, holder, stall


def _source(*reports: Any, limit: int = 10_000) -> str:
    return html_report(Collection(reports, limit))


def _document(*reports: Any, limit: int = 10_000) -> Document:
    return Document(_source(*reports, limit=limit))


def _lasting(number: int, seconds: float) -> dict[str, Any]:
    return {**ended(number), "stall_seconds": seconds, "time": f"2026-11-24T10:00:{number % 60:02}.000000Z"}


def _attributes(document: Document, tag: str, name: str) -> list[Optional[str]]:
    return [attributes[name] for each, attributes in document.elements if each == tag and name in attributes]


_LATER = {"spawn_p99_seconds", "stall_total_seconds"}
"""Keys that reports of earlier versions do not have."""
_SUMMARY = {
    **{
        key: value
        for key, value in summary().items()
        if key not in ("spawn_p99_seconds", "stall_total_seconds")
    },
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


def test_the_page_says_where_the_report_comes_from() -> None:
    began, ended_at = run("make<x>", "test"), {**_SUMMARY, "time": "2026-11-24T09:51:43.900000Z"}
    text = _document(began, ended(), ended_at).text
    for words in (
        "on web-1 (Linux 6.1.0",
        "from 2026-11-24 09:51:40 to 09:51:43 UTC",
        "make<x>' (1 argument)",
    ):
        assert words in text
    assert "web-1" not in _document(ended(), _SUMMARY).text


def test_figures_of_the_summary() -> None:
    earlier = {key: value for key, value in _SUMMARY.items() if key not in _LATER}
    text = _document(_lasting(1, 1.5), earlier).text
    for words in (
        "p99 of a spawn 1.3 ms",
        "time lost to stalls 1.50 s",
        "stalls 1",
        "spawns 5,466",
        "failed execs 0",
        "lost records 0",
        "traced for 61.20 s",
    ):
        assert words in text
    assert text.index("p99 of a spawn") < text.index("Stalls by duration") < text.index("Who waits for whom")
    assert "no summary" not in text
    later = {**_SUMMARY, "spawn_p99_seconds": 0.25, "stall_total_seconds": 7.0}
    text = _document(ended(), later).text
    assert "p99 of a spawn 250.0 ms" in text and "time lost to stalls 7.00 s" in text
    assert "p99 of a spawn at most 250.0 ms" in _document({**later, "lost_records": 1}).text
    assert "p99 of a spawn unknown" in _document({**later, "spawn_p99_seconds": None}).text


def test_figures_are_computed_from_the_stalls_without_a_summary() -> None:
    text = _document(_lasting(1, 2.0), _lasting(2, 1.5)).text
    assert "no summary" in text
    assert "time lost to stalls 3.50 s" in text and "stalls 2" in text


def _notes(*reports: Any) -> dict[str, bool]:
    """Each note, and whether it is red."""
    source = _source(*reports)
    found = re.findall(r'<p class="note (bad)?">(.*)</p>', source)
    return {html.unescape(words): bool(kind) for kind, words in found}


def test_doubtful_figures_have_notes() -> None:
    lost = {"records_lost": 4, "slots_overflowed": 12}
    notes = _notes({**_SUMMARY, "lost_records": 4, "not_followed": lost}, {**_SUMMARY, "lost_records": 4})
    assert notes == {
        "Records were lost: stalls may be missing from this report.": True,
        "The report contains 2 runs; the figures are of the last one.": False,
    }
    [line] = _notes({**_SUMMARY, "not_followed": lost})
    assert re.search(r"Not followed: 12 [a-z ]+ \(slots_overflowed\)\.", line)
    assert _notes(ongoing(), {**_SUMMARY, "ongoing": 1}) == {
        "1 stall still in progress at the end of the report.": True
    }


def test_nothing_is_red_where_nothing_is_wrong() -> None:
    exposures = [{"comm": "web-app", "cause": "forked", "count": 1234}]
    quiet = {**_SUMMARY, "stalls": 0, "stalled_seconds": 0.0, "holders": []}
    for report in (quiet, {**quiet, "exposures": exposures}):
        document = _document(report)
        assert not [one for _, one in document.elements if "bad" in str(one.get("class")).split()]
    assert "web-app forked 1,234" in _document({**quiet, "exposures": exposures}).text
    assert "Exposures" not in _document(quiet).text
    assert not _notes(quiet) and not any(_notes(ended()).values())


def test_nothing_is_in_progress_if_the_summary_says_so() -> None:
    assert _notes(ongoing(), {**_SUMMARY, "ongoing": 0}) == {}
    [row] = _rows(_source(ongoing(), {**_SUMMARY, "ongoing": 0}))
    assert row[9] == "-"
    [row] = _rows(_source(ongoing(), {**_SUMMARY, "ongoing": 1}))
    assert row[9] == "1"


def test_report_without_stalls() -> None:
    text = _document(_SUMMARY).text
    assert "No stall seen." in text
    assert "All stalls" not in text and "Stalls by duration" not in text


# -- kinds --


def _rows(source: str) -> list[list[str]]:
    """The cells of the table of kinds."""
    body = source[source.index('<tbody id="kinds"') : source.index("</tbody>")]
    rows = re.findall(r"<tr data-key.*?</tr>", body, re.DOTALL)
    return [
        [" ".join(re.sub("<.*?>", "", cell).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in rows
    ]


def _of(number: int, seconds: float, comm: str) -> dict[str, Any]:
    made = _lasting(number, seconds)
    made["parent"]["comm"] = comm
    return made


def test_a_row_for_each_kind_the_costliest_first() -> None:
    source = _source(_of(1, 0.1, "mild"), *(_of(number, number, "bad") for number in range(2, 5)), _SUMMARY)
    assert [row[:10] for row in _rows(source)] == [
        ["bad", "worker", "forked", "3", "9.00 s", "3.00 s", "4.00 s", "4.00 s", "10:00:08", "-"],
        ["mild", "worker", "forked", "1", *["100.0 ms"] * 3, "100.0 ms", "10:00:01", "-"],
    ]


def test_all_stalls_are_counted_in_the_rows_also_those_that_are_not_kept() -> None:
    source = _source(*(_of(number, 1.0, "web-app") for number in range(40)), limit=10)
    [row] = _rows(source)
    assert row[3:5] == ["40", "40.00 s"]


def test_a_row_leads_to_the_stalls_of_its_kind() -> None:
    """The rarest kind too, whose stalls are shorter than a hundred others."""
    stalls = [_of(number, 10.0 + number, "many") for number in range(150)]
    document = _document(*stalls, *(_of(200 + number, 0.1, f"rare-{number}") for number in range(3)))
    groups = [attributes["id"] for attributes in document.details("kind")]
    assert [f"#{name}" for name in groups] == [
        href for href in _attributes(document, "a", "href") if str(href).startswith("#kind")
    ]
    assert "many, held by worker forked the longest 97 of 150 stalls" in document.text
    assert "rare-2, held by worker forked 1 stall" in document.text
    assert len(document.details("stall")) == 100


def test_a_sparkline_shows_when_the_stalls_began() -> None:
    source = _source(_of(1, 0.1, "early"), _of(41, 0.1, "late"), _of(41, 0.2, "late"))
    late, early = re.findall(r'<svg class="spark" viewBox="0 0 (\d+) 18".*?<path d="(.*?)"', source)
    assert early == (late[0], "M0 18v-18h.8v18z")
    assert late[1] == f"M{int(late[0]) - 1} 18v-18h.8v18z"
    assert (
        "Bars: stalls that began, 1.00 s each, from 10:00:01 UTC."
        in _document(_of(1, 0.1, "early"), _of(41, 0.1, "late")).text
    )


def test_histograms_are_described() -> None:
    text = _document(_lasting(1, 0.015), _lasting(2, 0.02), _lasting(3, 400.0)).text
    assert "10 ms to 20 ms: 2 stalls; 5 min to 15 min: 1 stall" in text
    assert "Spawns by duration" not in text
    assert "Spawns by duration 200 ms to 500 ms: 2 spawns" not in text
    spawns = [{**plain_spawn(id=number), "spawn_seconds": 0.3} for number in range(3)]
    assert "200 ms to 500 ms: 3 spawns" in _document(*spawns).text
    assert "spawns;" not in _document(*spawns, limit=2).text  # not of all


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


def test_longest_stalls_come_first_and_the_first_is_open() -> None:
    document = _document(
        _lasting(1, 0.1), _lasting(2, 3.0), _lasting(3, 2.0), _lasting(4, 1.0), ongoing(5, 9.0)
    )
    assert document.stalls() == [("ongoing", True), *[("ended", False)] * 4]
    detailed = document.text[document.text.index("longest first") :]
    spans = [detailed.index(span) for span in ("9.00 s", "3.00 s", "1.00 s", "100.0 ms")]
    assert spans == sorted(spans)


def test_table_lists_every_stall_in_order_of_time() -> None:
    source = _source(_lasting(3, 5.0), _lasting(1, 1.0), {**found(), "time": "2026-11-25T00:00:00.000000Z"})
    table = source[source.index('id="all"') :]
    places = [table.index(when) for when in ("10:00:01.000", "10:00:03.000", "2026-11-25 00:00:00.000")]
    assert places == sorted(places)
    assert table.count("<tr") == 4


def test_links_lead_to_stalls_with_details() -> None:
    document = _document(*(_lasting(number, number) for number in range(1, 120)))
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(href)[1:] for href in _attributes(document, "a", "href")}
    [kind] = document.details("kind")
    assert targets == {f"stall-{number}" for number in range(1, 101)} | {str(kind["id"])}
    assert targets <= set(ids)
    assert "The times of stalls that are shown in detail link to them." in document.text


@pytest.mark.once
def test_size_is_bounded_and_omissions_are_stated() -> None:
    reports = [_lasting(number, 1 + number / 1e4) for number in range(2500)]
    source = _source(*reports, limit=2300)
    document = Document(source)
    assert len(source) < 4_000_000
    assert len(document.stalls()) == 100
    assert "100 of 2,500 in detail" in document.text
    assert "the longest 2,000; 500 shorter ones omitted" in document.text
    assert [tag for tag, _ in document.elements].count("tr") < 2000 + 100 * 20
    assert "stalls 2,500" in document.text


# -- Content-Security-Policy --


def test_policy_allows_only_the_inline_style_and_script() -> None:
    document = _document(ended(), found(), _SUMMARY)
    [policy] = _attributes(document, "meta", "content")[1:]
    style, script = (
        base64.b64encode(hashlib.sha256(document.inline[tag].encode()).digest()).decode()
        for tag in ("style", "script")
    )
    assert html.unescape(str(policy)) == (
        f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    assert _attributes(document, "meta", "http-equiv") == ["Content-Security-Policy"]


def test_page_is_self_contained() -> None:
    document = _document(ended(), found(), _SUMMARY)
    for tag, attributes in document.elements:
        assert tag not in ("img", "iframe", "object")
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
