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
from tests.e2e.browser import Browser
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
    rows = page.evaluate("[...document.querySelectorAll('.all tbody tr')].map(row => row.innerText)")
    assert len(rows) == len(collection.stalls)
    for stall in collection.stalls:
        assert any(str(stall["parent"]["pid"]) in row and stall["parent"]["comm"] in row for row in rows)
    # Every timeline has a bar for the reader and one for the holder, with a link to it.
    drawn = "[...document.querySelectorAll('.timeline')]"
    assert page.evaluate(f"{drawn}.every(each => each.querySelector('.waits, .holder, .unseen'))") is True
    links = "[...document.querySelectorAll('.all a, .overview a')].map(each => each.getAttribute('href'))"
    assert page.evaluate(f"{links}.every(link => document.querySelector('details' + link))") is True
    assert page.evaluate("document.querySelectorAll('.overview a').length") == len(collection.stalls) - 1
    assert page.evaluate("document.scripts.length + document.images.length") == 0
    assert page.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_at_any_width(
    dark: bool, collection: Collection, browser: Browser, tmp_path: Path
) -> None:
    address = _write(tmp_path, collection)
    for width in (400, 620, 900, 1400):
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
    assert page.evaluate(heights) == 3
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
