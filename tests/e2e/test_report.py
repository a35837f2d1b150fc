# SPDX-License-Identifier: Apache-2.0
"""The page and the trace file of a report in a real browser, made by trace-popen from real stalls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from agent.render.perfetto import trace_events
from agent.render.run_html import html_report
from agent.reports.collection import Collection
from agent.reports.replay import read_report
from tests.e2e.browser import Browser, Page
from tests.live.lab import Lab, Object
from tests.traceformat import check

_HOSTILE = (b"<script>a();", b"<img onerror=a>", b"'\"><b>&amp;", b"\x1b[31mred\x1b[0m", b"</style><b>")


@pytest.fixture
def collection(lab: Lab) -> Collection:
    """Stalls with several causes and hostile names, every spawn, and a stall found in /proc."""
    plays = [
        lab.program("fork_beside_popen.py", "--force", "2", "--live", "1.2"),
        lab.program("slow_preexec_sibling.py", "--count", "1"),
        *(lab.program("hostile_comms.py", "--comm", comm.hex(), "--live", "0.2") for comm in _HOSTILE),
    ]
    script = lab.folder / "plays.sh"
    script.write_text("".join(" ".join(play) + "\n" for play in plays))
    lab.trace(["/bin/sh", str(script)])
    file = lab.folder / "all.jsonl"
    file.write_text(_snapshot(lab) + (lab.folder / "reports.json").read_text())
    warnings: list[str] = []
    collection = Collection(read_report(file, warnings.append))
    assert warnings == []
    assert len(collection.stalls) == 4 + len(_HOSTILE)
    return collection


def _snapshot(lab: Lab) -> str:
    """Return the snapshot of a program that is stuck, as trace-popen writes it."""
    command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "600", "--plain", "0")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as program:
        try:
            deadline = time.monotonic() + 30
            while True:
                looked = [*lab.trace_popen, "--pid", str(program.pid), "--snapshot", "--json"]
                done = subprocess.run(looked, cwd=lab.root, stdout=subprocess.PIPE, text=True, check=True)
                if '"type": "stall"' in done.stdout:
                    return done.stdout
                assert time.monotonic() < deadline
        finally:
            os.killpg(program.pid, signal.SIGKILL)


def _write(folder: Path, collection: Collection) -> str:
    page = folder / "report.html"
    page.write_text(html_report(collection), encoding="utf-8")
    return page.as_uri()


def _names(stall: Object) -> list[str]:
    return [stall["parent"]["comm"], stall["child"]["comm"], stall["holders"][0]["comm"]]


def test_every_stall_is_shown_and_hostile_names_are_harmless(
    collection: Collection, browser: Browser, tmp_path: Path
) -> None:
    page = browser.open(_write(tmp_path, collection), width=1200)
    summaries = "[...document.querySelectorAll('details.stall > summary')]"
    shown = page.evaluate(f"{summaries}.map(each => [...each.querySelectorAll('b')].map(b => b.textContent))")
    assert sorted(shown) == sorted(_names(dict(stall)) for stall in collection.stalls)
    rows = page.evaluate("[...document.querySelectorAll('#all tbody tr')].map(row => row.textContent)")
    assert len(rows) == len(collection.stalls)
    for stall in collection.stalls:
        assert any(str(stall["parent"]["pid"]) in row and stall["parent"]["comm"] in row for row in rows)
    # Every timeline has a bar for the reader and one for the holder, with a link to it.
    drawn = "[...document.querySelectorAll('.timeline')]"
    assert page.evaluate(f"{drawn}.every(each => each.querySelector('.waits, .holder, .unseen'))") is True
    links = "[...document.querySelectorAll('table a')].map(each => each.getAttribute('href'))"
    assert page.evaluate(f"{links}.every(link => document.querySelector('details' + link))") is True
    assert page.evaluate("document.querySelectorAll('#all a').length") == len(collection.stalls)
    kinds = {tuple(_names(dict(stall))[::2]) for stall in collection.stalls}
    shown = (
        "[...document.querySelectorAll('#kinds tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert {tuple(row[:2]) for row in page.evaluate(shown)} == kinds
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.images.length") == 0
    assert page.complaints() == []


def _column(page: Page, place: int) -> list[str]:
    cells = f"[...document.querySelectorAll('#kinds tr:not([hidden])')].map(row => row.cells[{place}])"
    return list(page.evaluate(f"{cells}.map(cell => cell.dataset.value ?? cell.textContent)"))


def test_the_kinds_are_sorted_and_searched(collection: Collection, browser: Browser, tmp_path: Path) -> None:
    page = browser.open(_write(tmp_path, collection))
    header = "document.querySelectorAll('#kinds-table thead th')[{}]"
    totals = [float(value) for value in _column(page, 4)]
    assert totals == sorted(totals, reverse=True)
    assert page.evaluate(header.format(4) + ".ariaSort") == "descending"
    page.evaluate(header.format(4) + ".querySelector('button').click()")
    assert [float(value) for value in _column(page, 4)] == sorted(totals)
    assert page.evaluate(header.format(4) + ".ariaSort") == "ascending"
    page.evaluate(header.format(0) + ".querySelector('button').click()")
    names = [name.lower() for name in _column(page, 0)]
    assert names == sorted(names)
    assert page.evaluate("document.querySelectorAll('#kinds-table [aria-sort]').length") == 1
    search = "document.querySelector('input[type=search]')"
    page.evaluate(f"{search}.value = 'IMG'; {search}.dispatchEvent(new Event('input'))")
    assert _column(page, 0) == ["<img onerror=a>"]
    assert page.evaluate("document.querySelector('output').textContent").startswith("1 of ")
    assert page.complaints() == []


def test_a_row_opens_its_stalls_and_the_arrow_keys_move(
    collection: Collection, browser: Browser, tmp_path: Path
) -> None:
    page = browser.open(_write(tmp_path, collection))
    links = "[...document.querySelectorAll('#kinds a')]"
    assert page.evaluate(f"{links}.filter(each => each.tabIndex === 0).length") == 1
    page.evaluate(f"{links}[0].focus()")
    for key, place in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", -1)):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        assert page.evaluate(f"{links}.at({place}) === document.activeElement") is True
        assert page.evaluate(f"{links}.at({place}).tabIndex") == 0
    kind = page.evaluate(f"{links}.at(-1).hash.slice(1)")
    assert page.evaluate(f"document.getElementById('{kind}').open") is False
    page.evaluate(f"{links}.at(-1).click()")
    page.wait_for(f"document.getElementById('{kind}').open")
    # A row of the list opens the stall and the kind around it.
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    stall = page.evaluate("document.querySelector('#all a').hash.slice(1)")
    page.evaluate("document.querySelector('#all a').click()")
    page.wait_for(f"document.getElementById('{stall}').querySelector('.body').checkVisibility()")
    assert page.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_at_any_width(
    dark: bool, collection: Collection, browser: Browser, tmp_path: Path
) -> None:
    address = _write(tmp_path, collection)
    for width in (400, 620, 1000, 1150, 1400):
        page = browser.open(address, width, dark=dark)
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # No text in the tables overlaps its neighbour.
        cells = "[...document.querySelectorAll('td, dd, dt')]"
        wide = f"{cells}.filter(each => each.scrollWidth > each.clientWidth + 1)"
        assert page.evaluate(f"{wide}.map(each => each.outerHTML)") == []
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert (sum(int(part) for part in ink[4:-1].split(",")) > 382) is dark
        assert page.complaints() == []


def test_on_paper_everything_is_open(collection: Collection, browser: Browser, tmp_path: Path) -> None:
    page = browser.open(_write(tmp_path, collection), dark=True)
    heights = (
        "[...document.querySelectorAll('details > .body')].filter(each => each.checkVisibility()).length"
    )
    assert page.evaluate(heights) == 1
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(heights) == len(collection.stalls)


def test_the_policy_stops_what_is_not_ours(collection: Collection, browser: Browser, tmp_path: Path) -> None:
    """Verify the tests above."""
    page = browser.open(_write(tmp_path, collection))
    page.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.harmed = true';"
        " document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src=x onerror="window.harmed = true"><p style="color: red">\'); })()'
    )
    deadline = time.monotonic() + 20
    while len(page.complaints()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert page.evaluate("window.harmed") is None


def test_the_trace_file_is_what_the_browser_reads(
    collection: Collection, browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(trace_events(collection)))
    page = browser.open(file.as_uri())
    read: dict[str, Any] = page.evaluate("JSON.parse(document.body.innerText)")
    check(read)
    stalls = [event for event in read["traceEvents"] if event["ph"] == "X" and event["cat"] == "stall"]
    expected = {stall["id"]: stall["stall_seconds"] for stall in collection.stalls}
    assert {event["args"]["id"]: event["dur"] / 1e6 for event in stalls} == pytest.approx(expected, abs=2e-6)
    named = {event["args"]["name"] for event in read["traceEvents"] if event["ph"] == "M"}
    assert {stall["holders"][0]["comm"] for stall in collection.stalls} <= named
    spawned = [event for event in read["traceEvents"] if event["ph"] == "X" and event["cat"] == "spawn"]
    assert collection.summary is not None
    assert len(spawned) == collection.summary["spawns"] + 1  # the one that only /proc has shown
